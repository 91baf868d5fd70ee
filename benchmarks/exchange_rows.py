"""Expert dispatch and combine rows, predicted with a node count left out and as shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.accuracy import Report, Row, column, cross_validate
from benchmarks.collective_rows import MICRO, FloatArray, IntArray, attached, device_of, shipped
from planner.calibrate.exchange import fit_exchange
from planner.costs.domains import generation
from planner.costs.expert_exchange import DIRECTIONS, MODES, Exchange, calibrated_exchange, exchange_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

MUST = 0.20


def exchange_cases(report: Report, rows: list[Row]) -> None:
    """Add the cases of expert exchange; the time of normal mode is notification and transmission together."""
    left, sent, measured, nodes = [], [], [], []
    for mode in MODES:
        part = [row for row in rows if row["deepep_mode"] == mode]
        for direction in DIRECTIONS if part else ():
            seconds = exchange_seconds(part, mode, direction)
            known = np.flatnonzero(np.isfinite(seconds) & (seconds > 0))
            if not len(known):
                continue
            chosen = [part[place] for place in known]
            batch, seconds = exchange_batch(chosen, direction), seconds[known]

            def fitted(
                fit: IntArray, test: IntArray, mode: str = mode, direction: str = direction,
                batch: Exchange = batch, seconds: FloatArray = seconds,
            ) -> FloatArray:  # fmt: skip
                numbers = fit_exchange(mode, direction, _take(batch, fit), seconds[fit])
                return exchange_time(mode, direction, _take(batch, test), numbers)

            several = len(np.unique(batch.nodes)) > 1
            guesses = cross_validate(list(batch.nodes), fitted) if several else np.full(len(seconds), np.nan)
            own = calibrated_exchange(mode, direction, batch, shipped())
            if several:
                report.scored(f"left out: DeepEP {mode} {direction}, a node count", guesses, seconds)
            report.scored(f"shipped: DeepEP {mode} {direction}", own, seconds)
            left.append(guesses)
            sent.append(own)
            measured.append(seconds)
            nodes.append(batch.nodes)
    if not measured:
        return
    truth, count = np.concatenate(measured), np.concatenate(nodes)
    for label, parts in (("left out: DeepEP, a node count", left), ("shipped: DeepEP", sent)):
        guesses = np.concatenate(parts)
        if not np.isfinite(guesses).any():
            continue
        report.summary[label] = report.scored(label, guesses, truth, MUST).mape
        for one in np.unique(count):
            report.scored(f"{label}: {one:.0f} nodes", guesses[count == one], truth[count == one])


def exchange_seconds(rows: list[Row], mode: str, direction: str) -> FloatArray:
    """Return the measured times, s."""
    if mode == "ll":
        return column(rows, f"{direction}_avg_t_us") * MICRO
    notify = np.nan_to_num(column(rows, f"{direction}_notify_us"))
    return (column(rows, f"{direction}_transmit_us") + notify) * MICRO


def exchange_batch(rows: list[Row], direction: str) -> Exchange:
    """Return what the model needs of rows; machines of the first row's system."""
    device = device_of(rows[0]["system"])
    numbers = shipped().coefficients
    port = numbers.get("port_" + ("" if device is None else generation(device)), numbers["port_hopper"])
    return Exchange(
        column(rows, "num_token"), column(rows, "hidden_size"), column(rows, "num_topk"),
        column(rows, "node_num"),
        np.nan_to_num(column(rows, f"{direction}_sms"), nan=20.0), attached(rows[0]["system"]).rate,
        port.value,
    )  # fmt: skip


def _take(batch: Exchange, rows: NDArray[np.int64]) -> Exchange:
    return Exchange(
        batch.tokens[rows], batch.hidden[rows], batch.top_k[rows], batch.nodes[rows],
        batch.multiprocessors[rows], batch.inside, batch.port,
    )  # fmt: skip
