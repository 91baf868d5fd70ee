"""Who sends which part of a cache when it moves from one pool to the other."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import pytest

from planner.placement.pools import cache_pairs

DEGREES = [(1, 1), (1, 2), (1, 4), (2, 2), (2, 3), (3, 1)]
"""Pipeline stages and GPUs of a stage."""


def holder(name: str, degrees: tuple[int, int]) -> list[list[str]]:
    """Return the GPUs of a replica, stage by stage."""
    return [[f"{name}{stage}.{rank}" for rank in range(degrees[1])] for stage in range(degrees[0])]


@pytest.mark.parametrize(("first", "second"), list(product(DEGREES, DEGREES)))
def test_every_part_arrives_once_from_equal_shares(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Each receiver gets all that it holds, and each sender gives as much as any other."""
    sources, targets = holder("s", first), holder("t", second)
    into: dict[str, float] = defaultdict(float)
    out: dict[str, float] = defaultdict(float)
    for source, target, share in cache_pairs(sources, targets):
        into[target] += share
        out[source] += share
    assert into == pytest.approx({gpu: 1.0 for stage in targets for gpu in stage})
    each = second[0] * second[1] / first[0] / first[1]
    assert out == pytest.approx({gpu: each for stage in sources for gpu in stage})


def test_heads_and_layers_go_where_they_are_held() -> None:
    """Two GPUs with half of the heads each serve both stages of two GPUs: the half of the heads in each."""
    pairs = cache_pairs(holder("s", (1, 2)), holder("t", (2, 2)))
    assert pairs == [
        ("s0.0", "t0.0", 1.0),
        ("s0.1", "t0.1", 1.0),
        ("s0.0", "t1.0", 1.0),
        ("s0.1", "t1.1", 1.0),
    ]
