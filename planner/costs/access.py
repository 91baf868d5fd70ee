r"""Time that a device needs for a buffer in host memory, by access pattern and memory mode.

A *turn* is one change of the buffer by the host followed by the device's use of it: some passes over a share
of its bytes. Four modes compete: explicit copies from pinned or from pageable memory, managed pages that
migrate when they are touched, and coherent loads in place. What wins depends on the pattern far more than on
the machine: copies pay once per turn for all bytes, managed memory once per turn for the pages touched,
loads in place in every pass for the lines touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from planner.costs.coefficients import Calibration
from planner.topology import Route

MemoryMode = Literal["pinned-copy", "pageable-copy", "managed", "coherent"]
Quantity = Literal["size", "passes", "share", "turns"]
MODES: tuple[MemoryMode, ...] = ("pinned-copy", "pageable-copy", "managed", "coherent")


@dataclass(frozen=True)
class Access:
    """How a device uses a buffer of host memory.

    Attributes
    ----------
    size
        Bytes of the buffer.
    passes
        Times that the device goes over it in a turn.
    share
        Part of the buffer that one pass touches, above 0 and at most 1.
    grain
        Contiguous bytes of one access; ``None``: the whole buffer, a stream.
    turns
        Times that the host changes the buffer and the device uses it again.
    back
        Whether the host reads what the device wrote in every turn.
    dependent
        Whether each access waits for the one before (a queue, a pointer chase).
    device_rate
        Rate at which the kernel would go over device memory, bytes/s; ``None``: it keeps up with any path.
    """

    size: float
    passes: float = 1.0
    share: float = 1.0
    grain: float | None = None
    turns: float = 1.0
    back: bool = False
    dependent: bool = False
    device_rate: float | None = None

    def varied(self, quantity: Quantity, value: float) -> Access:
        """Return the pattern with another value of one quantity."""
        return replace(self, **{quantity: value})  # type: ignore[arg-type]

    @property
    def touched(self) -> float:
        """Bytes that one pass touches."""
        return self.size * self.share

    def rounded(self, unit: float) -> float:
        """Bytes that one pass moves where memory moves in units of ``unit`` bytes; never above the size."""
        grain = self.size if self.grain is None else min(self.grain, self.size)
        return min(self.size, self.touched * math.ceil(grain / unit - 1e-9) * unit / grain)


@dataclass(frozen=True)
class HostPath:
    """The way between a NUMA domain and a device, both directions.

    Attributes
    ----------
    inwards, outwards
        Routes from the domain to the device and back.
    memory_rate
        Streaming rate of the domain's memory, bytes/s: loads in place never exceed it.
    addressing
        How the device translates addresses of the host: ``ats``, ``hmm`` or ``none``.
    """

    inwards: Route
    outwards: Route
    memory_rate: float = math.inf
    addressing: str = "none"

    @property
    def modes(self) -> tuple[MemoryMode, ...]:
        """Memory modes that the hardware allows."""
        return legal_modes(self.inwards, self.addressing)


@dataclass(frozen=True)
class ModeTime:
    """Time of all turns in one mode, s, by part."""

    mode: MemoryMode
    moving: float
    using: float

    @property
    def seconds(self) -> float:
        """Time in all, s."""
        return self.moving + self.using


def legal_modes(route: Route, addressing: str) -> tuple[MemoryMode, ...]:
    """Return the memory modes that the hardware allows on a route.

    Copies and managed memory work everywhere. Loads and stores in place need a coherent path: address
    translation services on the GPU (``ats``) and coherent hops all the way.
    """
    return MODES if addressing == "ats" and route.coherent else MODES[:-1]


def mode_times(access: Access, path: HostPath, calibration: Calibration) -> list[ModeTime]:
    """Return every legal mode with its time, fastest first, ties in the order of :data:`MODES`."""
    times = [_TIMES[mode](access, path, calibration) for mode in path.modes]
    return sorted(times, key=lambda one: (one.seconds, MODES.index(one.mode)))


def _use(access: Access, passes: float) -> float:
    """Time of passes over data that lie in device memory, s."""
    return 0.0 if access.device_rate is None else passes * access.touched / access.device_rate


def _copied(
    access: Access, path: HostPath, calibration: Calibration, ratio: float, mode: MemoryMode
) -> ModeTime:
    """Return the time of copies of the whole buffer, the first pass behind them chunk by chunk if pinned."""
    start = calibration.number("host_latency")
    into = _reached(path.inwards, "in", access.size, calibration)
    out = _reached(path.outwards, "out", access.size, calibration)
    wire = access.size / (into * ratio)
    moving = start + path.inwards.latency + wire
    first = _use(access, 1.0)
    if mode == "pinned-copy":  # the first pass follows the copy chunk by chunk
        lead = min(1.0, calibration.number("copy_chunk") / access.size) if access.size else 1.0
        first = max(first - wire, lead * min(first, wire))
    if access.back:
        moving += start + path.outwards.latency + access.size / (out * ratio)
    using = first + _use(access, access.passes - 1.0)
    return ModeTime(mode, access.turns * moving, access.turns * max(using, 0.0))


def _reached(way: Route, direction: Literal["in", "out"], size: float, calibration: Calibration) -> float:
    """Return the rate of copies on a route, bytes/s: never above what was measured on the device itself."""
    measured = calibration.coefficients.get(f"pinned_copy_{direction}")
    return way.rate if measured is None else min(way.rate, measured.at(size))


def pinned_copy(access: Access, path: HostPath, calibration: Calibration) -> ModeTime:
    """Return the time of explicit copies from pinned memory."""
    return _copied(access, path, calibration, 1.0, "pinned-copy")


def pageable_copy(access: Access, path: HostPath, calibration: Calibration) -> ModeTime:
    """Return the time of copies from pageable memory, which the driver stages through a buffer of its own."""
    return _copied(access, path, calibration, calibration.number("pageable_ratio"), "pageable-copy")


def managed(access: Access, path: HostPath, calibration: Calibration) -> ModeTime:
    r"""Return the time of pages that migrate when they are touched.

    The driver serves the first fault as late as it starts a copy; then faults overlap, and each brings a
    group of pages: :math:`t_0 + n (t_f + s_f / B)` for :math:`n` groups of :math:`s_f` bytes.
    The host's touch brings them back, so a buffer that both touch in turns pays twice per turn.
    """
    number = calibration.number
    group = number("managed_fault_bytes")
    moved = access.rounded(min(group, access.size)) if access.size else 0.0
    faults = math.ceil(moved / group - 1e-9)
    served = number("host_latency") + faults * number("managed_fault")
    there, home = served + moved / path.inwards.rate, served + moved / path.outwards.rate
    returns = access.turns if access.back else access.turns - 1.0
    return ModeTime(
        "managed", access.turns * there + returns * home, access.turns * _use(access, access.passes)
    )


def coherent(access: Access, path: HostPath, calibration: Calibration) -> ModeTime:
    """Return the time of loads and stores in place: one latency, then the lines touched in every pass.

    Accesses that wait for one another pay the latency each.
    """
    number = calibration.number
    latency = number("coherent_latency")
    both = 2.0 if access.back else 1.0
    moved = access.rounded(number("coherent_line"))
    wire = access.passes * both * moved / in_place_rate(path, calibration, both=access.back)
    count = access.passes * access.touched / (access.grain or access.size) if access.dependent else 1.0
    using = max(wire, _use(access, access.passes))
    return ModeTime("coherent", 0.0, access.turns * (max(count, 1.0) * latency + using))


_TIMES = {
    "pinned-copy": pinned_copy, "pageable-copy": pageable_copy, "managed": managed, "coherent": coherent,
}  # fmt: skip


def in_place_rate(path: HostPath, calibration: Calibration, *, both: bool = False) -> float:
    """Return the rate of loads and stores in place, bytes/s, of one direction or of both at once.

    The measured rate of loads where the route has one, else the copies' rate times
    ``coherent_access_efficiency``; never above the memory behind it.
    """
    share = calibration.number("coherent_access_efficiency")
    ways = (path.inwards, path.outwards) if both else (path.inwards,)
    rate = sum(way.loads(share) for way in ways)
    if both:
        rate = min(rate, path.inwards.duplex)
    return min(rate, path.memory_rate)


@dataclass(frozen=True)
class Threshold:
    """Where the better of two modes changes.

    Attributes
    ----------
    quantity
        Attribute of :class:`Access` that is varied.
    below, above
        Best mode on each side of ``value``.
    value
        In the unit of the quantity; ``None`` where one mode is best throughout.
    """

    quantity: Quantity
    below: MemoryMode
    above: MemoryMode
    value: float | None


RANGES: Mapping[Quantity, tuple[float, float]] = {
    "size": (1.0, 1e12),
    "passes": (1.0, 1e6),
    "share": (1e-6, 1.0),
    "turns": (1.0, 1e6),
}


def thresholds(access: Access, path: HostPath, calibration: Calibration) -> Iterator[Threshold]:
    """Yield, for each quantity of a pattern, where the best mode first changes on this machine.

    The others stay as they are. Found by bisection between the ends of :data:`RANGES`, where the best modes
    at both ends differ.
    """
    for quantity, (low, high) in RANGES.items():

        def best(value: float, quantity: Quantity = quantity) -> MemoryMode:
            return mode_times(access.varied(quantity, value), path, calibration)[0].mode

        below, above = best(low), best(high)
        if below == above:
            yield Threshold(quantity, below, above, None)
            continue
        for _ in range(80):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if best(middle) == below else (low, middle)
        yield Threshold(quantity, below, best(high), high)
