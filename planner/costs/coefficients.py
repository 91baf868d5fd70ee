"""Coefficients of the cost model: read from a ``calibration/1`` document, never written in code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from planner.errors import CalibrationError, nearest
from planner.schema import Document, Name, Record, digest, load, presets
from planner.topology import Device

DEFAULT_CALIBRATION = "default"


class Coefficient(Record):
    """One fitted or assumed number.

    Attributes
    ----------
    residual
        Mean relative error of the fit, 0 to 1, where there is one.
    samples
        Number of measurements behind it.
    """

    value: float
    provenance: Literal["measured", "vendor", "nccl-constant", "assumed"]
    source: str
    residual: float | None = Field(default=None, ge=0)
    samples: int | None = Field(default=None, ge=0)


class Calibration(Document):
    """Document ``calibration/1``: coefficients with the device, versions and date that they hold for.

    Attributes
    ----------
    devices
        Names of the device models that the coefficients were measured on; empty: every device.
    parts
        Shipped documents that complete this one; what it states itself comes first.
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


def _part(name: str) -> Calibration:
    return load(presets.find("calibrations", name, CalibrationError), Calibration)


_SECTIONS = ("sources", "coefficients")


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
        Large matrix multiplications, FLOP/s.
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
    """Return the rates of a device at a data type.

    A published matrix-multiply rate is used where the catalogue has one, else the vendor's dense peak
    times a stated efficiency. A device without the data type falls back to the next wider one it has.
    """
    dtype = _available(device, precision)
    peak = device.peak[dtype]
    measured = device.matmul.get(dtype)
    number = calibration.number
    if measured is not None:
        best, provenance = measured.value, measured.provenance
    else:
        best, provenance = peak.value * number("matmul_of_peak"), "assumed"
    matmul = best * number("matmul_efficiency")
    return DeviceRates(
        matmul=matmul,
        attention=matmul * number("attention_efficiency"),
        memory=device.memory_bandwidth.value * number("memory_efficiency"),
        overhead=number("graph_kernel_overhead" if graphs else "kernel_overhead"),
        capacity=device.memory.value,
        provenance=provenance,
    )


_WIDER: Mapping[str, tuple[str, ...]] = {
    "fp4": ("fp4", "fp8", "bf16", "fp16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "int8": ("int8", "fp8", "bf16", "fp16"),
    "bf16": ("bf16", "fp16"),
    "fp16": ("fp16", "bf16"),
    "fp32": ("tf32", "fp32"),
}


def _available(
    device: Device, precision: str
) -> Literal["fp32", "tf32", "bf16", "fp16", "fp8", "fp4", "int8"]:
    for dtype in _WIDER[precision]:
        if dtype in device.peak:
            return dtype
    known = ", ".join(device.peak)
    raise CalibrationError(
        f"device {device.name!r} states no {precision} rate (it has {known}); add it to its 'peak'"
    )


def rise(value: float) -> float:
    """Return the smallest integer not below ``value``, robust to rounding noise."""
    return float(np.ceil(value - 1e-9))
