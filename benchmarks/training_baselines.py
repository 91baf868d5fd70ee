"""What a simple model makes of the same training runs under the same folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.training_runs import Run, active_parameters

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def roofline(runs: Sequence[Run], measured: FloatArray, fit: IntArray, test: IntArray) -> FloatArray:
    """Return operations over peak rates, with the bubble; one efficiency fitted, the median."""
    ideal = np.asarray([_ideal(run) for run in runs])
    if not len(fit):
        return np.full(len(test), np.nan)
    return np.asarray(ideal[test] * np.median(measured[fit] / ideal[fit]))


def _ideal(run: Run) -> float:
    dtype = run.precision.dtype if run.precision.dtype in run.device.peak else "bf16"
    rate = run.device.peak[dtype if dtype in run.device.peak else "fp16"].value
    count = max(1.0, run.global_batch / (run.dp * run.choices[0].micro_batch))
    passes = 8.0 if run.choices[0].recompute == 2 else 6.0
    flops = passes * run.sequence * run.global_batch * active_parameters(run)
    return flops / (rate * run.tp * run.pp * run.dp * run.cp) * (1.0 + (run.pp - 1) / count)


def linear_fit(runs: Sequence[Run], measured: FloatArray, fit: IntArray, test: IntArray) -> FloatArray:
    """Return a log-linear fit over the sizes and degrees of a run, slightly regularised."""
    if not len(fit):
        return np.full(len(test), np.nan)
    features = np.asarray([_features(run) for run in runs])
    target = np.log(measured)
    centre = features[fit].mean(axis=0)
    centred, level = features - centre, target[fit].mean()
    design = centred[fit]
    weights = np.linalg.solve(
        design.T @ design + 0.01 * len(fit) * np.eye(design.shape[1]), design.T @ (target[fit] - level)
    )
    return np.asarray(np.exp(np.clip(centred[test] @ weights + level, -20, 20)))


def _features(run: Run) -> list[float]:
    micro = run.choices[0].micro_batch
    count = max(1.0, run.global_batch / (run.dp * micro))
    sizes = (
        _ideal(run), run.tp, run.pp, run.dp, run.cp, micro, count, run.model.hidden, run.model.layers,
        run.sequence, 1.0 + (run.pp - 1) / count,
    )  # fmt: skip
    return [float(np.log(size)) for size in sizes] + [float(run.choices[0].recompute)]
