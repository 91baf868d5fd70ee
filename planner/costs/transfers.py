"""Time to move a buffer between host and device in each memory mode that the machine allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.costs.coefficients import Calibration, rise
from planner.topology import Route

MemoryMode = Literal["pinned-copy", "pageable-copy", "managed", "coherent"]


@dataclass(frozen=True)
class TransferOption:
    """A legal way to move a buffer and its uncontended time, s."""

    mode: MemoryMode
    seconds: float


def legal_modes(route: Route, addressing: str) -> tuple[MemoryMode, ...]:
    """Return the memory modes that the hardware allows on a route.

    Copies and managed memory work everywhere. Loads and stores in place need a coherent path: address
    translation services on the GPU (``ats``) and coherent hops all the way.
    """
    base: tuple[MemoryMode, ...] = ("pinned-copy", "pageable-copy", "managed")
    return (*base, "coherent") if addressing == "ats" and route.coherent else base


def transfer_options(
    size: float, route: Route, addressing: str, calibration: Calibration
) -> list[TransferOption]:
    """Return every legal option for a buffer of ``size`` bytes, fastest first, ties by name.

    Notes
    -----
    Pinned copy: latency of a launch and the wire time. Pageable: the driver stages through its own pinned
    buffer, so a ratio of the rate. Managed: first touch faults page group by page group, then the wire
    time. Coherent: one latency, then the streaming rate of loads in place.
    """
    times = {mode: _seconds(mode, size, route, calibration) for mode in legal_modes(route, addressing)}
    return [TransferOption(mode, times[mode]) for mode in sorted(times, key=lambda mode: (times[mode], mode))]


def _seconds(mode: MemoryMode, size: float, route: Route, calibration: Calibration) -> float:
    number = calibration.number
    if mode == "pinned-copy":
        return number("host_latency") + route.latency + size / route.rate
    if mode == "pageable-copy":
        return number("host_latency") + route.latency + size / (route.rate * number("pageable_ratio"))
    if mode == "managed":
        faults = rise(size / number("managed_fault_bytes"))
        return faults * number("managed_fault") + size / route.rate
    return number("coherent_latency") + size / (route.rate * number("coherent_access_efficiency"))
