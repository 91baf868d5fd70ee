"""Slices of a GPU: which instances can be on it together, and what each is as a device."""

from __future__ import annotations

from itertools import product

import pytest

from planner.placement.slices import Cut, cut_problems, cutting, patterns, plain_profiles, slice_device
from planner.topology import find_device

DEVICES = ["h100-sxm-80", "a100-sxm-80", "a100-sxm-40", "h200-sxm"]


@pytest.mark.parametrize("name", DEVICES)
def test_every_pattern_can_be_cut_and_nothing_fits_beside_it(name: str) -> None:
    """A pattern has legal starts, and one instance more has none."""
    device = find_device(name)
    for pattern in patterns(device):
        cuts = cutting(device, pattern)
        assert cuts is not None
        assert cut_problems(device, cuts) == []
        for profile in plain_profiles(device):
            assert cutting(device, pattern | {profile: pattern.get(profile, 0) + 1}) is None


def test_whatever_can_be_cut_is_below_a_pattern() -> None:
    """Counts that a walk over all starts allows are below some pattern, others below none."""
    device = find_device("h100-sxm-80")
    names = ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb"]
    for counts in product(range(4), range(3), range(3), range(3)):
        wanted = dict(zip(names, counts, strict=True))
        below = any(all(pattern.get(n, 0) >= c for n, c in wanted.items()) for pattern in patterns(device))
        assert below == _walk(device_starts(), wanted)


def device_starts() -> dict[str, tuple[list[int], int, int]]:
    """Return starts, memory slices and compute slices as the vendor's guide lists them."""
    return {
        "1g.10gb": (list(range(7)), 1, 1),
        "1g.20gb": ([0, 2, 4, 6], 2, 1),
        "2g.20gb": ([0, 2, 4], 2, 2),
        "3g.40gb": ([0, 4], 4, 3),
    }


def _walk(table: dict[str, tuple[list[int], int, int]], wanted: dict[str, int]) -> bool:
    todo = [name for name, count in wanted.items() for _ in range(count)]
    if sum(table[name][2] for name in todo) > 7:
        return False
    states = {frozenset[int]()}
    for name in todo:
        starts, size, _ = table[name]
        blocks = [frozenset(range(start, start + size)) for start in starts]
        states = {state | block for state in states for block in blocks if not state & block}
    return bool(states)


@pytest.mark.parametrize(
    ("cuts", "word"),
    [
        ([Cut("3g.40gb", 2)], "start"),
        ([Cut("3g.40gb", 0), Cut("2g.20gb", 2)], "overlaps"),
        ([Cut("4g.40gb", 0), Cut("3g.40gb", 4), Cut("1g.10gb", 6)], "overlaps"),
        ([Cut("9g.1gb", 0)], "no profile"),
    ],
)
def test_illegal_cuts_are_named(cuts: list[Cut], word: str) -> None:
    """A wrong start, an overlap and an unknown profile are each found."""
    assert any(word in text for text in cut_problems(find_device("h100-sxm-80"), cuts))


def test_the_largest_slice_is_the_device() -> None:
    """The profile that takes everything has the rates and the memory of the GPU."""
    device = find_device("h100-sxm-80")
    whole = slice_device(device, plain_profiles(device)["7g.80gb"])
    assert whole.memory.value == device.memory.value
    assert whole.peak["bf16"].value == device.peak["bf16"].value
    small = slice_device(device, plain_profiles(device)["2g.20gb"])
    assert small.memory_bandwidth.value == device.memory_bandwidth.value / 4
