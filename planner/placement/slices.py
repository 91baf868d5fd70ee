"""Multi-Instance GPU: slices as devices of their own, and the ways to cut one GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from planner.schema import BandwidthFigure, BytesFigure, FlopsFigure, RatioFigure
from planner.topology import Device, MigProfile

EIGHTHS = 8
"""Memory slices of a GPU; a profile takes a whole number of them."""
SEVENTHS = 7
"""Compute slices of a GPU."""


@dataclass(frozen=True)
class Cut:
    """One instance on a GPU: a profile and the memory slice that it starts at."""

    profile: str
    start: int


def memory_slices(profile: MigProfile) -> int:
    """Return the memory slices that an instance takes."""
    return round(profile.memory * EIGHTHS)


def compute_slices(profile: MigProfile) -> int:
    """Return the compute slices that an instance takes."""
    return round(profile.compute * SEVENTHS)


def plain_profiles(device: Device) -> dict[str, MigProfile]:
    """Return the profiles by name that differ in compute or memory; those with media engines are left out."""
    return {profile.name: profile for profile in device.mig if "+" not in profile.name and profile.starts}


def slice_device(device: Device, profile: MigProfile) -> Device:
    """Return an instance as a device.

    Rates of the multiprocessors scale with the compute slices, capacity and rate of the memory with the
    memory slices (NVIDIA Multi-Instance GPU User Guide: each has its own path through the memory system).
    """

    def part(figure: FlopsFigure) -> FlopsFigure:
        return figure.model_copy(update={"value": figure.value * profile.compute})

    def memory(figure: BytesFigure | BandwidthFigure) -> float:
        return figure.value * profile.memory

    processors = device.multiprocessors
    return device.model_copy(
        update={
            "name": f"{device.name}-{profile.name}",
            "aliases": [],
            "peak": {kind: part(figure) for kind, figure in device.peak.items()},
            "matmul": {kind: part(figure) for kind, figure in device.matmul.items()},
            "memory": device.memory.model_copy(update={"value": memory(device.memory)}),
            "memory_bandwidth": device.memory_bandwidth.model_copy(
                update={"value": memory(device.memory_bandwidth)}
            ),
            "multiprocessors": None
            if processors is None
            else RatioFigure(**(processors.model_dump() | {"value": processors.value * profile.compute})),
            "mig": [],
        }
    )


def cut_problems(device: Device, cuts: list[Cut]) -> list[str]:
    """Return why instances cannot be on one GPU together, as sentences."""
    known = {profile.name: profile for profile in device.mig}
    found = [f"{device.name} has no profile {cut.profile!r}" for cut in cuts if cut.profile not in known]
    if found:
        return found
    taken: set[int] = set()
    for cut in cuts:
        profile = known[cut.profile]
        if cut.start not in profile.starts:
            found.append(f"{cut.profile} cannot start at slice {cut.start}")
        own = set(range(cut.start, cut.start + memory_slices(profile)))
        if own & taken:
            found.append(f"{cut.profile} at slice {cut.start} overlaps another instance")
        taken |= own
    for name, profile in known.items():
        count = sum(cut.profile == name for cut in cuts)
        if count > profile.instances:
            found.append(f"{count} instances of {name}, a GPU holds {profile.instances}")
    if sum(compute_slices(known[cut.profile]) for cut in cuts) > SEVENTHS:
        found.append(f"instances take more than {SEVENTHS} compute slices")
    return found


def cutting(device: Device, counts: dict[str, int]) -> list[Cut] | None:
    """Return where instances start so that all fit on one GPU, larger ones first; ``None`` if they cannot."""
    wanted = tuple(sorted((name, count) for name, count in counts.items() if count))
    found = _cutting(_key(device), wanted)
    return None if found is None else list(found)


Key = tuple[tuple[str, float, float, int, tuple[int, ...]], ...]
"""The plain profiles of a device, as a key."""


def _key(device: Device) -> Key:
    return tuple(
        (profile.name, profile.compute, profile.memory, profile.instances, tuple(profile.starts))
        for profile in plain_profiles(device).values()
    )


def _profiles(key: Key) -> list[MigProfile]:
    return [
        MigProfile(name=name, compute=compute, memory=memory, instances=most, starts=list(starts))
        for name, compute, memory, most, starts in key
    ]


@lru_cache(maxsize=65536)
def _cutting(key: Key, counts: tuple[tuple[str, int], ...]) -> tuple[Cut, ...] | None:
    known = {profile.name: profile for profile in _profiles(key)}
    if sum(compute_slices(known[name]) * count for name, count in counts) > SEVENTHS:
        return None
    if any(count > known[name].instances for name, count in counts):
        return None
    names = sorted(
        (name for name, count in counts for _ in range(count)),
        key=lambda name: (-memory_slices(known[name]), -compute_slices(known[name]), name),
    )

    def place(rest: list[str], free: frozenset[int]) -> tuple[Cut, ...] | None:
        if not rest:
            return ()
        size = memory_slices(known[rest[0]])
        for start in known[rest[0]].starts:
            own = frozenset(range(start, start + size))
            if own <= free:
                later = place(rest[1:], free - own)
                if later is not None:
                    return (Cut(rest[0], start), *later)
        return None

    return place(names, frozenset(range(EIGHTHS)))


@lru_cache(maxsize=64)
def _patterns(key: Key) -> tuple[tuple[tuple[str, int], ...], ...]:
    device_profiles = _profiles(key)
    found: set[tuple[tuple[str, int], ...]] = set()

    def extend(free: frozenset[int], compute: int, counts: dict[str, int], first: int) -> bool:
        grown = False
        for number, profile in enumerate(device_profiles):
            size = memory_slices(profile)
            if counts.get(profile.name, 0) >= profile.instances or compute_slices(profile) > compute:
                continue
            for start in profile.starts:
                own = frozenset(range(start, start + size))
                if own <= free:
                    grown = True
                    if number >= first:
                        more = counts | {profile.name: counts.get(profile.name, 0) + 1}
                        extend(free - own, compute - compute_slices(profile), more, number)
        if not grown:
            found.add(tuple(sorted(counts.items())))
        return grown

    extend(frozenset(range(EIGHTHS)), SEVENTHS, {}, 0)
    return tuple(sorted(one for one in found if not any(_below(one, other) for other in found)))


def _below(one: tuple[tuple[str, int], ...], other: tuple[tuple[str, int], ...]) -> bool:
    more = dict(other)
    return one != other and all(count <= more.get(name, 0) for name, count in one)


def patterns(device: Device) -> list[dict[str, int]]:
    """Return the fullest ways to cut one GPU, as counts by profile: no further instance fits into any."""
    return [dict(pattern) for pattern in _patterns(_key(device))]
