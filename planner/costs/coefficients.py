"""Coefficients of the cost model: read from a ``calibration/1`` document, never written in code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.surfaces import Surface
from planner.errors import CalibrationError, nearest
from planner.schema import Document, Name, Record, digest, load, presets
from planner.topology import Device
from planner.topology.models import DType

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DEFAULT_CALIBRATION = "default"


class Coefficient(Record):
    """One fitted or assumed number.

    Attributes
    ----------
    residual
        Mean relative error of the fit, 0 to 1, where there is one.
    samples
        Number of measurements behind it.
    spread
        Median absolute deviation of the repeated measurements over their median.
    curve
        Of a rate: which share of it transfers of so many bytes reach, as pairs in ascending order of size.
    """

    value: float
    provenance: Literal["measured", "vendor", "nccl-constant", "assumed"]
    source: str
    residual: float | None = Field(default=None, ge=0)
    samples: int | None = Field(default=None, ge=0)
    spread: float | None = Field(default=None, ge=0)
    curve: list[tuple[float, float]] = Field(default_factory=list)

    def share(self, size: ArrayLike) -> NDArray[np.float64]:
        """Return which share of the value holds at sizes, constant beyond the ends of the curve."""
        asked = np.asarray(size, dtype=float)
        if not self.curve:
            return np.ones_like(asked)
        sizes, shares = zip(*self.curve, strict=True)
        return np.asarray(np.exp(np.interp(np.log(np.maximum(asked, 1.0)), np.log(sizes), np.log(shares))))

    def at(self, size: float) -> float:
        """Return the value at a size."""
        return self.value * float(self.share(size))


class KernelFit(Record):
    """How one kind of kernel runs on one device at one data type.

    Attributes
    ----------
    device
        Name of the device in the catalogue.
    parameters
        Of the physical model of the kind (:mod:`planner.costs.kernel_models`), SI.
    surface
        What the model misses, over the logarithms of the shape.
    residual
        Mean relative error on the measured rows, 0 to 1.
    samples
        Number of measured rows.
    spread
        Median absolute deviation of repeated measurements over their median, where it is known.
    ranges
        Smallest and largest measured size by name (``m``, ``keys``, ...); what lies outside is extrapolated.
    """

    device: str
    kind: Literal["gemm", "prefill", "decode"]
    dtype: str
    parameters: dict[str, float]
    surface: Surface | None = None
    provenance: Literal["measured", "assumed"] = "measured"
    source: str
    residual: float = Field(ge=0)
    samples: int = Field(ge=0)
    spread: float | None = Field(default=None, ge=0)
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Calibration(Document):
    """Document ``calibration/1``: coefficients with the device, versions and date that they hold for.

    Attributes
    ----------
    devices
        Names of the device models that the coefficients were measured on; empty: every device.
    parts
        Shipped documents that complete this one; what it states itself comes first.
    collectives
        Measured collectives by device model; ``nvlink`` and ``pcie`` are for all others.
    engines
        Measured all-reduces of serving engines, by ``device/engine/mode``.
    kernels
        Fits of kernels by a name such as ``h100-sxm-80.gemm.bf16``.
    warnings
        What the measurements do not support, one sentence each.
    """

    kind: ClassVar[str] = "calibration"
    version: ClassVar[int] = 1
    name: Name
    description: str | None = None
    date: str | None = None
    host: str | None = None
    driver: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    devices: list[str] = Field(default_factory=list)
    sources: dict[str, str] = Field(default_factory=dict)
    parts: list[str] = Field(default_factory=list)
    coefficients: dict[str, Coefficient] = Field(default_factory=dict)
    collectives: dict[str, CollectiveSurface] = Field(default_factory=dict)
    engines: dict[str, CollectiveSurface] = Field(default_factory=dict)
    kernels: dict[str, KernelFit] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)

    def number(self, name: str) -> float:
        """Return a coefficient.

        Raises
        ------
        CalibrationError
            If the document lacks it.
        """
        try:
            return self.coefficients[name].value
        except KeyError:
            close = nearest(name, self.coefficients)
            hint = f"; did you mean {close!r}?" if close else ""
            raise CalibrationError(
                f"calibration {self.name!r} lacks the coefficient {name!r}{hint}"
            ) from None

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 of the document in canonical form."""
        return digest(self)


def load_calibration(reference: str | Path = DEFAULT_CALIBRATION) -> Calibration:
    """Load a calibration from a file or by preset name, completed by its parts and by the default one."""
    document = load(presets.find("calibrations", reference, CalibrationError), Calibration)
    named = [*document.parts, *([] if document.name == DEFAULT_CALIBRATION else [DEFAULT_CALIBRATION])]
    for name in named:
        document = _completed(
            document, load_calibration(name) if name == DEFAULT_CALIBRATION else _part(name)
        )
    return document


@cache
def _part(name: str) -> Calibration:
    return load(presets.find("calibrations", name, CalibrationError), Calibration)


_SECTIONS = ("sources", "coefficients", "kernels", "collectives", "engines")


def _completed(document: Calibration, base: Calibration) -> Calibration:
    """Return the document with what it leaves out of each section taken from the base."""
    return document.model_copy(
        update={section: {**getattr(base, section), **getattr(document, section)} for section in _SECTIONS}
    )


@dataclass(frozen=True)
class DeviceRates:
    """What one device reaches in practice.

    Attributes
    ----------
    matmul
        Bound of matrix multiplications, FLOP/s, see :func:`best_matmul`.
    attention
        Fused attention, FLOP/s.
    memory
        Streaming from device memory, bytes/s.
    overhead
        Fixed time of a kernel, s.
    provenance
        Weakest provenance behind the compute rate.
    """

    matmul: float
    attention: float
    memory: float
    overhead: float
    capacity: float
    provenance: str


def device_rates(
    device: Device, precision: str, calibration: Calibration, *, graphs: bool = False
) -> DeviceRates:
    """Return the rates of a device at a data type; without the type, at the next wider one it has."""
    measured = device.matmul.get(available_dtype(device, precision))
    number = calibration.number
    best = best_matmul(device, precision, calibration)
    return DeviceRates(
        matmul=best,
        attention=best * number("matmul_efficiency") * number("attention_efficiency"),
        memory=device.memory_bandwidth.value * number("memory_efficiency"),
        overhead=number("graph_kernel_overhead" if graphs else "kernel_overhead"),
        capacity=device.memory.value,
        provenance="assumed" if measured is None else measured.provenance,
    )


def best_matmul(device: Device, precision: str, calibration: Calibration) -> float:
    """Return a rate that no product of a data type exceeds, FLOP/s.

    A little above the published matrix-multiply rate where the catalogue has one, else a stated share of
    the vendor's dense peak; never above the peak.
    """
    dtype = available_dtype(device, precision)
    peak, measured = device.peak[dtype].value, device.matmul.get(dtype)
    number = calibration.number
    if measured is None:
        return peak * number("matmul_bound_of_peak")
    return min(peak, measured.value * number("matmul_headroom"))


_WIDER: Mapping[str, tuple[DType, ...]] = {
    "fp4": ("fp4", "fp8", "bf16", "fp16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "int8": ("int8", "fp8", "bf16", "fp16"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "fp32": ("tf32", "fp32"),
    "tf32": ("tf32", "fp32"),
}


def available_dtype(device: Device, precision: str) -> DType:
    """Return the data type that a device computes in: the one asked for, else the next wider one it has.

    Raises
    ------
    CalibrationError
        If the device states none of them.
    """
    for dtype in _WIDER.get(precision, ()):
        if dtype in device.peak:
            return dtype
    known = ", ".join(device.peak)
    raise CalibrationError(
        f"device {device.name!r} states no {precision} rate (it has {known}); add it to its 'peak'"
    )


def rise(value: float) -> float:
    """Return the smallest integer not below ``value``, robust to rounding noise."""
    return float(np.ceil(value - 1e-9))
