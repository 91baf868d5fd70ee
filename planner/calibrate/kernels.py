"""Fit the kernel models to measured times: physical parameters first, then the surface of what they miss."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.surfaces import fit_surface
from planner.costs.coefficients import KernelFit
from planner.costs.kernel_fits import chip_of
from planner.costs.kernel_models import Chip
from planner.costs.kernels import base_seconds, features, fitted_seconds
from planner.errors import CalibrationError
from planner.topology import Device

FloatArray = NDArray[np.float64]
Kind = Literal["gemm", "prefill", "decode"]

TYPICAL: Mapping[Kind, Mapping[str, float]] = {
    "gemm": {
        "start": 2.5e-6, "compute": 0.75, "memory": 0.85, "inner_latency": 1e-10, "tile_start": 5e-7,
        "small_tile": 0.1, "partial_sums": 1.0, "split_start": 5e-7, "convert": 1.5, "sharpness": 4.0,
    },
    "prefill": {
        "start": 1.2e-5, "prepare": 0.5, "compute": 0.6, "block_start": 1e-6, "longest": 1.0,
        "sharpness": 3.0,
    },
    "decode": {
        "start": 8e-6, "memory": 0.9, "cache": 2.0, "head_start": 1.4e-6, "head_walk": 2e-8,
        "group_base": 7e-6, "group_start": 3e-6, "group_slope": 0.03, "group_walk": 1e-8, "sharpness": 3.0,
        "group_sharpness": 3.0,
    },
}  # fmt: skip
"""Where a fit starts, and where it stays for a parameter that the measurements do not tell: SI."""
CHOICES: Mapping[Kind, Mapping[str, Sequence[float]]] = {
    "gemm": {},
    "prefill": {},
    "decode": {
        "part_keys": (64.0, 256.0),
        "blocks_per_processor": (1.0, 2.0, 4.0),
        "heads_per_processor": (1.0, 2.0, 4.0),
        "sharing_blocks": (0.0, 0.25),
    },
}
"""Parameters that enter by rounding: each value is tried."""
PRIOR = 0.05
"""Pull towards the typical value: a factor e away from it weighs as much as an error of 5 % in one row."""
OUTLIER = 0.1
"""Relative error from which a row counts by its distance rather than by its square."""
COARSE, FINE = 8, 60
"""Evaluations with which to choose among tried values, and to finish."""
WIDEST = 6.0
"""Bound of the distance from the typical value, natural logarithm."""
FEWEST_FOR_SURFACE = 100
"""Rows below which the physical model alone predicts other shapes better (55 of A100: 8.3 against 8.7 %)."""


def fit_kernel(
    device: Device, kind: Kind, dtype: str, shape: tuple[FloatArray, ...], seconds: FloatArray, source: str,
    *, surface: bool = True,
) -> KernelFit:  # fmt: skip
    """Fit one kind of kernel of one device at one data type.

    Parameters
    ----------
    shape
        Arrays of shape (n,) as in :func:`planner.costs.kernels.base_seconds`.
    seconds : ndarray, shape (n,)
        Measured times, s.
    surface
        Whether to fit what the model misses; too few rows leave it out in any case.

    Raises
    ------
    CalibrationError
        If there are no rows, or a time or a size is not positive.
    """
    if not len(seconds) or not np.all(seconds > 0.0) or not np.all(np.isfinite(np.stack(shape))):
        raise CalibrationError(
            f"{device.name}: {kind} {dtype} needs rows with stated sizes and times above zero"
        )
    chip = chip_of(device, dtype)
    parameters = _rounded(_parameters(kind, chip, shape, np.log(seconds)))
    base = base_seconds(kind, parameters, chip, shape)
    bumps = None
    if surface and len(seconds) >= FEWEST_FOR_SURFACE:
        bumps = fit_surface(features(kind, parameters, chip, shape, base), np.log(seconds / base))
    fit = KernelFit(
        device=device.name, kind=kind, dtype=dtype, parameters=parameters, surface=bumps, source=source,
        residual=0.0, samples=len(seconds),
    )  # fmt: skip
    error = np.abs(fitted_seconds(kind, fit, chip, shape) / seconds - 1.0).mean()
    return fit.model_copy(update={"residual": round(float(error), 4)})


def _parameters(kind: Kind, chip: Chip, shape: tuple[FloatArray, ...], logs: FloatArray) -> dict[str, float]:
    """Return the physical parameters, the best over the values of those that are tried."""
    names, begin = CHOICES[kind], np.log(list(TYPICAL[kind].values()))
    tried = [dict(zip(names, values, strict=True)) for values in itertools.product(*names.values())]
    if len(tried) > 1:
        coarse = [(*_smooth(kind, chip, shape, logs, fixed, begin, COARSE), fixed) for fixed in tried]
        _, begin, best = min(coarse, key=lambda one: one[0])
    else:
        best = tried[0]
    _, point = _smooth(kind, chip, shape, logs, best, begin, FINE)
    return dict(zip(TYPICAL[kind], map(float, np.exp(point)), strict=True)) | dict(best)


def _smooth(
    kind: Kind, chip: Chip, shape: tuple[FloatArray, ...], logs: FloatArray, fixed: Mapping[str, float],
    begin: FloatArray, evaluations: int,
) -> tuple[float, FloatArray]:  # fmt: skip
    """Return the loss and the logarithms of the parameters of a robust least-squares fit of logarithms."""
    from scipy.optimize import least_squares

    names, typical = list(TYPICAL[kind]), np.log(list(TYPICAL[kind].values()))

    def misses(point: FloatArray) -> FloatArray:
        parameters = dict(zip(names, np.exp(point), strict=True)) | dict(fixed)
        found = np.log(base_seconds(kind, parameters, chip, shape)) - logs
        return np.concatenate([found, PRIOR * (point - typical)])

    result = least_squares(
        misses, begin, bounds=(typical - WIDEST, typical + WIDEST), loss="soft_l1", f_scale=OUTLIER,
        max_nfev=evaluations,
    )  # fmt: skip
    return float(result.cost), np.asarray(result.x)


def _rounded(parameters: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in parameters.items()}
