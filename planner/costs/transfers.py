"""Time to move a buffer once between host and device in each memory mode that the machine allows."""

from __future__ import annotations

from dataclasses import dataclass

from planner.costs.access import Access, HostPath, MemoryMode, mode_times
from planner.costs.coefficients import Calibration
from planner.topology import Route


@dataclass(frozen=True)
class TransferOption:
    """A legal way to move a buffer and its uncontended time, s."""

    mode: MemoryMode
    seconds: float


def transfer_options(
    size: float, route: Route, addressing: str, calibration: Calibration
) -> list[TransferOption]:
    """Return every legal option for a buffer of ``size`` bytes that is used once, fastest first.

    See :mod:`planner.costs.access` for the formulas.
    """
    path = HostPath(route, route, addressing=addressing)
    return [TransferOption(one.mode, one.seconds) for one in mode_times(Access(size), path, calibration)]


def domain_copy(size: float, route: Route, calibration: Calibration) -> float:
    """Return the time, s, in which cores bring ``size`` bytes from one NUMA domain to another.

    Loads and stores of cores reach ``core_copy_efficiency`` of what copy engines reach on the same link.
    """
    return route.latency + size / (route.rate * calibration.number("core_copy_efficiency"))
