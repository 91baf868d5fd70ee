"""Predict measured training runs given as rows of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from planner.calibrate.training_batch import batch
from planner.calibrate.training_runs import Run, read_runs
from planner.costs import Calibration
from planner.study.accuracy import Prediction

FIRST_LINE = 2
"""Line of the first row: the names of the columns come before it."""


def predict(
    rows: list[dict[str, str]], calibration: Calibration, folder: Path | None = None
) -> list[Prediction]:
    """Return the predicted step time of every row, s.

    Parameters
    ----------
    folder
        Where ``architectures.csv`` may lie, with the shapes of models that are not presets.
    """
    found = read_runs(rows, folder)
    runs = [one for one in found if isinstance(one, Run)]
    times: dict[int, tuple[float, int]] = {}
    if runs:
        together = batch(runs, calibration)
        seconds = together.predicted(together.entry_times(together.coefficients(calibration)))
        tried = together.tried()
        times = {run.index: (float(seconds[i]), int(tried[i])) for i, run in enumerate(runs)}
    predictions = []
    for one in found:
        source = rows[one.index].get("source_id") or rows[one.index].get("source") or "rows"
        line, measured = one.index + FIRST_LINE, getattr(one, "measured", np.nan)
        if isinstance(one, Run):
            value, count = times[one.index]
            predictions.append(Prediction(line, source, "step_time", value, measured, count))
        else:
            predictions.append(
                Prediction(line, source, "step_time", float("nan"), one.measured, 0, one.reason)
            )
    return predictions
