"""Which calibrated fits stand for a device: its own, else those of the devices most like it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration, KernelFit, available_dtype
from planner.costs.kernel_models import Chip
from planner.errors import CalibrationError
from planner.topology import Device, catalogue

FloatArray = NDArray[np.float64]

FITS_FOR = {
    "fp4": ("fp4", "fp8", "bf16"),
    "fp8": ("fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
}
"""Data types whose fits stand for another, nearest first; bf16 for the others."""
STORED_BYTES = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625}
"""Bytes of an element with its scale: NVFP4 keeps one byte for every 16 (NVIDIA, "Introducing NVFP4")."""
TYPICAL_PROCESSORS = 128.0
"""Multiprocessors of a device that states none, as on most large parts since 2020."""
DISTANCE_POWER = 4.0
LEAST_WEIGHT = 0.25


@dataclass(frozen=True)
class Donor:
    """A fit, the chip to read it on, and its share in the geometric mean of all donors."""

    fit: KernelFit
    chip: Chip
    weight: float


def donors(device: Device, kind: str, dtype: str, calibration: Calibration) -> list[Donor]:
    """Return the fits that stand for a kernel of a device.

    Raises
    ------
    CalibrationError
        If the calibration has no fit of the kind.

    Notes
    -----
    The device's own fit stands alone. Else every calibrated device lends its fit, read on this device's peak,
    memory rate and multiprocessors, with a weight of :math:`1 / d^4`, where :math:`d` is the distance of the
    logarithms of peak and memory rate; shares below a quarter are dropped. Where both published a measured
    product rate, its share of the peak scales the lender's efficiency.
    """
    own = available_dtype(device, dtype)
    for fit in calibration.kernels.values():  # measured at this very data type
        if (fit.kind, fit.dtype, fit.device) == (kind, own, device.name):
            return [Donor(fit, chip_of(device, own), 1.0)]
    for fitted in FITS_FOR.get(own, ("bf16",)):
        fits = [fit for fit in calibration.kernels.values() if fit.kind == kind and fit.dtype == fitted]
        exact = [fit for fit in fits if fit.device == device.name]
        if exact:
            return [Donor(exact[0], chip_of(device, own), 1.0)]
        known = catalogue()
        lenders = [(fit, known[fit.device]) for fit in fits if fit.device in known]
        if lenders:
            return _shared(device, own, lenders)
    raise CalibrationError(
        f"calibration {calibration.name!r} has no fit of {kind} kernels; add 'parts: [kernels]'"
    )


def _shared(device: Device, dtype: str, lenders: list[tuple[KernelFit, Device]]) -> list[Donor]:
    weights = np.asarray([max(distance(device, lender), 0.01) for _, lender in lenders]) ** -DISTANCE_POWER
    weights = np.where(weights / weights.sum() < LEAST_WEIGHT, 0.0, weights)
    shares = weights / weights.sum()
    return [
        Donor(fit, chip_of(device, dtype, lender), float(share))
        for (fit, lender), share in zip(lenders, shares, strict=True)
        if share > 0.0
    ]


def distance(left: Device, right: Device) -> float:
    """Return how far two devices are apart: logarithms of their bf16 peaks and memory rates."""
    pairs = [(_peak(left, "bf16"), _peak(right, "bf16")), (_rate(left), _rate(right))]
    return float(np.hypot(*(np.log(one / other) for one, other in pairs)))


def chip_of(device: Device, dtype: str, lender: Device | None = None) -> Chip:
    """Return the figures of a device that the models need, as one with the lender's efficiency sees them."""
    peak = _peak(device, dtype)
    if lender is not None and lender.name != device.name:
        own, theirs = _reached(device, dtype), _reached(lender, dtype)
        peak *= own / theirs if own and theirs else 1.0
    processors = _processors(device) or (_processors(lender) if lender else 0.0) or TYPICAL_PROCESSORS
    return Chip(peak, _rate(device), processors, STORED_BYTES[available_dtype(device, dtype)])


def _processors(device: Device) -> float:
    return device.multiprocessors.value if device.multiprocessors else 0.0


def _reached(device: Device, dtype: str) -> float:
    """Share of the peak that the best measured products reach; 0 where nobody published one."""
    own = available_dtype(device, dtype)
    figure = device.matmul.get(own)
    return figure.value / device.peak[own].value if figure else 0.0


def _peak(device: Device, dtype: str) -> float:
    return device.peak[available_dtype(device, dtype)].value


def _rate(device: Device) -> float:
    return device.memory_bandwidth.value


def blended(standing: Iterable[Donor], seconds: Callable[[Donor], FloatArray]) -> FloatArray:
    """Return the weighted geometric mean of what every donor gives."""
    parts = [(donor.weight, seconds(donor)) for donor in standing]
    if len(parts) == 1:
        return parts[0][1]
    return np.asarray(np.exp(sum(weight * np.log(time) for weight, time in parts)))
