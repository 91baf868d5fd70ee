"""Fit the models of kernels on the cores of a host (:mod:`planner.costs.core_models`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.kernels import Kind
from planner.calibrate.lines import OUTLIER, scipy_least_squares
from planner.costs.coefficients import KernelFit
from planner.costs.core_models import core_seconds
from planner.costs.kernel_fits import chip_of
from planner.errors import CalibrationError
from planner.topology import Device

FloatArray = NDArray[np.float64]

TYPICAL: Mapping[Kind, Mapping[str, float]] = {
    "gemm": {
        "core_start": 5e-6, "compute": 0.3, "memory": 0.5, "vector": 0.5, "half_rows": 8.0,
        "half_columns": 16.0, "half_inner": 16.0,
    },
    "prefill": {"core_start": 2e-5, "compute": 0.1, "memory": 0.5, "half_rows": 8.0, "head_start": 1e-6},
    "decode": {"core_start": 1e-5, "compute": 0.1, "memory": 0.5, "head_start": 1e-6},
}  # fmt: skip
"""Where a fit starts, and where it stays for a parameter that the measurements do not tell: SI."""
PRIOR = 0.02
"""Pull towards the typical value: a factor e away from it weighs as much as an error of 2 % in one row."""
WIDEST = 6.0


def fit_core(
    device: Device, kind: Kind, dtype: str, shape: tuple[FloatArray, ...], seconds: FloatArray, source: str
) -> KernelFit:
    """Fit one kind of kernel of a core at one data type; see :func:`planner.calibrate.kernels.fit_kernel`.

    Raises
    ------
    CalibrationError
        If there are no rows, or a time is not positive.
    """
    if not len(seconds) or not np.all(seconds > 0.0):
        raise CalibrationError(f"{device.name}: {kind} {dtype} needs rows with times above zero")
    least_squares, chip = scipy_least_squares(), chip_of(device, dtype)
    names, typical = list(TYPICAL[kind]), np.log(list(TYPICAL[kind].values()))
    logs = np.log(seconds)

    def misses(point: FloatArray) -> FloatArray:
        found = core_seconds(kind, dict(zip(names, np.exp(point), strict=True)), chip, shape)
        return np.concatenate([np.log(found) - logs, PRIOR * (point - typical)])

    result = least_squares(
        misses, typical, bounds=(typical - WIDEST, typical + WIDEST), loss="soft_l1", f_scale=OUTLIER,
    )  # fmt: skip
    parameters = {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(result.x), strict=True)}
    error = np.abs(core_seconds(kind, parameters, chip, shape) / seconds - 1.0).mean()
    return KernelFit(
        device=device.name, kind=kind, dtype=dtype, parameters=parameters, source=source,
        residual=round(float(error), 4), samples=len(seconds),
    )  # fmt: skip
