"""Disaggregated rows of the silicon table: prefill and decode pools, missing settings tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import Row
from planner.calibrate.inference_runs import (
    engine_of,
    find_model,
    number,
    precisions_of,
    read_device,
    stated_degrees,
)
from planner.costs import Calibration
from planner.costs.closed_loop import ClosedLoop, Load, Policy
from planner.costs.engine import EngineDegrees, Precisions, StepModel, Tuning, engine_number
from planner.costs.engine_links import usual_links
from planner.costs.kernels import kernels
from planner.costs.pools import Pools
from planner.topology import Device
from planner.workload import Transformer

FloatArray = NDArray[np.float64]
WORKERS = ((1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (8.0, 1.0), (1.0, 2.0), (1.0, 4.0), (4.0, 2.0))
"""Prefill and decode workers that are tried where a row states none."""


@dataclass(frozen=True)
class PoolScores:
    """Predictions nearest to each row among the settings tried, and how many were."""

    ttft: FloatArray
    tpot: FloatArray
    tried: float


def predict_pools(rows: Sequence[Row], calibration: Calibration, known: dict[str, Transformer]) -> PoolScores:
    """Return predictions of disaggregated rows; nan where a model or device is unknown."""
    groups: list[tuple[tuple[Transformer, Device, str, Precisions], list[int]]] = []
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        found[
            tuple(
                row.get(key, "")
                for key in ("model_path", "system", "backend", "gemm_quant_mode", "moe_quant_mode")
            )
        ].append(index)
    for (path, system, backend, weights, experts), members in found.items():
        model, device, engine = find_model(path, known), read_device(system), engine_of(backend)
        if model is not None and device is not None:
            key = (model, device, engine, precisions_of(weights, experts, engine, device))
            groups.append((key, members))
    best = np.full((2, len(rows)), np.nan)
    error, tried = np.full(len(rows), np.inf), np.zeros(len(rows))
    for key, members in groups:
        seen = np.asarray(
            [(number(rows[i], "ttft_ms") / 1e3, number(rows[i], "tpot_ms") / 1e3) for i in members]
        ).T
        for ttft, tpot, valid in _options([rows[i] for i in members], key, calibration):
            distance = np.abs(np.log(tpot / seen[1])) + 0.5 * np.abs(np.log(ttft / seen[0]))
            place = np.asarray(members)
            tried[place] += valid
            better = valid & (distance < error[place])
            error[place[better]] = distance[better]
            best[0, place[better]], best[1, place[better]] = ttft[better], tpot[better]
    return PoolScores(best[0], best[1], float(tried[tried > 0].mean()) if (tried > 0).any() else 0.0)


def _options(
    rows: Sequence[Row], key: tuple[Transformer, Device, str, Precisions], calibration: Calibration
) -> list[tuple[FloatArray, FloatArray, NDArray[np.bool_]]]:
    """Return first-token and per-token times of rows under each choice of what they leave open."""
    model, device, engine, precisions = key
    clients = np.asarray([number(row, "concurrency", number(row, "decode_batch_size", 1.0)) for row in rows])
    load = Load(
        np.asarray([number(row, "isl") for row in rows]),
        np.asarray([number(row, "osl") for row in rows]),
        clients,
    )
    links, ready = usual_links(device, engine, calibration), kernels(device, calibration)
    loops = {}
    for pool, width in product(("prefill_", "decode_"), (1.0, 4.0) if model.latent is not None else (1.0,)):
        degrees = np.asarray([stated_degrees(row, model, 8.0, pool) for row in rows], dtype=float).T
        steps = StepModel(model, EngineDegrees(*degrees), precisions, ready, links)
        many = np.full_like(clients, np.inf)
        chunk = engine_number(calibration, "chunk", engine)
        loops[pool, width] = ClosedLoop(steps, load, many, chunk=chunk, width=width)
    stated = np.asarray(
        [(number(row, "prefill_num_workers"), number(row, "decode_num_workers")) for row in rows]
    ).T
    link = engine_number(calibration, "network_rate", device.name)
    tuning, policy = Tuning.of(calibration, engine), Policy.of(calibration, engine)
    found = []
    for place, workers in enumerate(WORKERS):
        given = np.isfinite(stated).all(axis=0)
        counts = [np.where(given, one, other) for one, other in zip(stated, workers, strict=True)]
        for width in {width for _, width in loops}:
            pools = Pools(loops["prefill_", 1.0], loops["decode_", width], counts[0], counts[1], link)
            seen = pools.latency(tuning, policy)
            found.append((seen.ttft, seen.tpot, ~given | (place == 0)))
    return found
