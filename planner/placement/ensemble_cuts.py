"""How the slices that a NUMA domain needs are cut out of as few of its GPUs as possible."""

from __future__ import annotations

from functools import lru_cache

from planner.placement.slices import Cut, cutting, patterns
from planner.topology import Device

Counts = tuple[int, ...]


def cut_gpus(device: Device, wanted: dict[str, int], most: int) -> list[list[Cut]] | None:
    """Return the instances of each GPU for the slices wanted, on the fewest GPUs; ``None`` above ``most``.

    Parameters
    ----------
    wanted
        Slices by profile.
    """
    names = tuple(sorted(name for name, count in wanted.items() if count))
    ways = {tuple(way.get(name, 0) for name in names) for way in patterns(device)}
    useful = tuple(sorted((way for way in ways if any(way)), reverse=True))
    counts = tuple(wanted[name] for name in names)
    for gpus in range(most + 1):
        dealt = _deal(useful, counts, gpus)
        if dealt is not None:
            found = [cutting(device, dict(zip(names, each, strict=True))) for each in dealt]
            return [cuts for cuts in found if cuts]
    return None


@lru_cache(maxsize=65536)
def _deal(ways: tuple[Counts, ...], counts: Counts, gpus: int) -> tuple[Counts, ...] | None:
    if not any(counts):
        return ()
    if gpus == 0:
        return None
    for way in ways:
        given = tuple(map(min, way, counts))
        if any(given):
            rest = _deal(ways, tuple(left - own for left, own in zip(counts, given, strict=True)), gpus - 1)
            if rest is not None:
                return (given, *rest)
    return None
