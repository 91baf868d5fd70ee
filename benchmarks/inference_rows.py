"""Rows of measured inference by table, as runs: which have a prediction, what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import read_rows
from planner.calibrate.inference import Fitted, fit_inference, grouped, primed
from planner.calibrate.inference_batch import Predicted, predict_runs
from planner.calibrate.inference_runs import ServedRun, read_offline, read_silicon
from planner.costs import Calibration

FloatArray = NDArray[np.float64]
SOURCE = "least squares on the rows of benchmarks.inference_accuracy"


@dataclass(frozen=True)
class Table:
    """Runs of one table and the number of rows that could not be read as a run."""

    runs: list[ServedRun]
    unread: int

    def measured(self, key: str) -> FloatArray:
        """Return what was measured, rows without a run at the end as ones: they count as missed."""
        known = [run.measured.get(key, np.nan) for run in self.runs]
        return np.asarray([*known, *np.ones(self.unread)])

    def padded(self, predicted: FloatArray) -> FloatArray:
        """Return predictions, nan for rows that could not be read."""
        return np.concatenate([predicted, np.full(self.unread, np.nan)])


def silicon(folder: Path, mode: str = "agg") -> Table:
    """Return the aggregated runs of the silicon table, repeats joined by their median."""
    rows = [row for row in read_rows(folder / "aiconfigurator-silicon.csv") if row.get("mode", "agg") == mode]
    rows = [row for row in rows if row.get("tpot_ms") and row.get("ttft_ms")]
    found = read_silicon(rows, folder)
    lost = {
        tuple(
            value
            for key, value in row.items()
            if key not in ("id", "measured_date", "wip", "ttft_ms", "tpot_ms")
        )
        for row, run in zip(rows, found, strict=True)
        if run is None
    }
    return Table(grouped([run for run in found if run is not None]), len(lost))


def tensorrt(folder: Path, name: str) -> Table:
    """Return the runs of a TensorRT-LLM table."""
    found = read_offline(read_rows(folder / f"trtllm-{name}.csv"), folder)
    return Table([run for run in found if run is not None], sum(run is None for run in found))


def left_out(
    runs: Sequence[ServedRun], calibration: Calibration, key: Callable[[ServedRun], str]
) -> tuple[list[tuple[NDArray[np.bool_], Predicted]], list[Fitted]]:
    """Return, group by group, which runs were left out and what a fit on all others predicts of them."""
    if not runs:
        return [], []
    batch = primed(runs, calibration)
    names = np.asarray([key(run) for run in runs])
    found, fits = [], []
    for name in sorted(set(names)):
        out = names == name
        if out.all():
            predicted = predict_runs(list(runs), calibration)
        else:
            fit = fit_inference(runs, calibration, batch=batch, keep=~out)
            fits.append(fit)
            own = [run for run, hidden in zip(runs, out, strict=True) if hidden]
            predicted = predict_runs(own, fit.calibration(calibration, SOURCE))
        found.append((out, predicted))
    return found, fits


def joined(parts: list[tuple[NDArray[np.bool_], Predicted]], count: int) -> Predicted:
    """Return the predictions of all groups in the order of the runs."""
    shape = (len(parts[0][1].ttft), count)
    whole = [np.full(shape, np.nan) for _ in range(3)]
    tried = np.ones(count, dtype=np.int64)
    for out, one in parts:
        rows = np.flatnonzero(out)
        for target, values in zip(whole, (one.ttft, one.tpot, one.rate), strict=True):
            target[:, rows] = values
        tried[rows] = one.tried
    return Predicted(whole[0], whole[1], whole[2], tried)
