"""Rank layouts: by construction and by CP-SAT."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.placement import Strategy, training_spans
from planner.solve.budget import Budget
from planner.solve.degrees import level_sizes, span_choices
from planner.solve.layout import exact_layout, nested_layout, weaker_chains
from planner.topology import Hierarchy, Level


def hierarchy(sizes: list[int]) -> Hierarchy:
    """Return islands of the given sizes joined by one outer level."""
    inner = np.repeat(np.arange(len(sizes)), sizes)
    total = int(sum(sizes))
    levels = (
        Level("nvlink", inner, 300e9, 1e-6, False, "measured"),
        Level("fabric", np.zeros(total, dtype=np.int64), 25e9, 5e-6, False, "measured"),
    )
    return Hierarchy(tuple(f"n{inner[i]}/g{i}" for i in range(total)), levels)


@given(st.sampled_from([(2, 1, 4), (4, 2, 1), (2, 2, 2), (1, 4, 2), (8, 1, 2)]))
def test_nested_layout_keeps_every_share(degrees: tuple[int, int, int]) -> None:
    """On equal islands of eight each divisible chain is laid out and shares at least what it says."""
    tp, pp, dp = degrees
    strategy, machine = Strategy(tp=tp, pp=pp, dp=dp), hierarchy([8, 8])
    laid = 0
    for chain in span_choices(level_sizes(machine), tp, pp, dp, 1, 1):
        gpus = nested_layout(strategy, chain, machine)
        if gpus is None:
            continue
        laid += 1
        assert len(set(gpus.tolist())) == strategy.num_ranks
        spans = training_spans(strategy, gpus, machine)
        assert spans.tp[0, 0] >= chain[0][0]
        assert spans.data[0, 0] >= chain[0][2]
        assert spans.pipeline[0] <= (0 if chain[0][3] == pp else 1)
    assert laid


def test_exact_layout_finds_what_nesting_cannot() -> None:
    """Two tensor groups of three fit on islands of three and four, which boxes of a tiling miss."""
    strategy, machine = Strategy(tp=3, dp=2), hierarchy([4, 3])
    chain = ((3, 1, 1, 1, 1, 1), (3, 1, 2, 1, 1, 6))
    gpus, proven = exact_layout(strategy, chain, machine, Budget(seconds=5.0))
    assert proven
    assert gpus is not None
    assert training_spans(strategy, gpus, machine).tp[0, 0] == 3


def test_exact_layout_proves_that_nothing_fits() -> None:
    """Two groups of three cannot stay whole on islands of four and two."""
    strategy, machine = Strategy(tp=3, dp=2), hierarchy([4, 2])
    chain = ((3, 1, 1, 1, 1, 1), (3, 1, 2, 1, 1, 6))
    assert exact_layout(strategy, chain, machine, Budget(seconds=5.0)) == (None, True)


def test_exact_layout_does_not_try_large_meshes() -> None:
    """Beyond its limit it neither finds nor claims anything."""
    strategy = Strategy(tp=5, dp=16)
    chain = ((5, 1, 1, 1, 1, 1), (5, 1, 16, 1, 1, 80))
    assert exact_layout(strategy, chain, hierarchy([8] * 16), Budget(seconds=1.0)) == (None, False)


@pytest.mark.parametrize("level", [0])
def test_weaker_chains_reduce_one_share(level: int) -> None:
    """Each weaker chain lowers shares of the inner level only, and never below one."""
    chain = ((2, 2, 4, 2, 1, 1), (2, 2, 4, 2, 1, 1))
    found = weaker_chains(chain, 2)
    assert found
    for weaker in found:
        assert weaker[1] == chain[1]
        assert weaker[level] != chain[level]
        assert all(1 <= low <= high for low, high in zip(weaker[level], chain[level], strict=True))
