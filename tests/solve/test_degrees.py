"""The space of strategies and the ways in which groups may span a machine."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planner.placement import Strategy, TrainingProblem, as_candidates, training_spans
from planner.solve.degrees import (
    LevelSizes,
    as_spans,
    divisors,
    level_sizes,
    powers_of_two,
    span_choices,
    strategies,
    with_spans,
)
from planner.workload import TrainingJob
from tests.laws.instances import MachineCase, machine_cases, problem_of, topology_of, training_jobs


def test_divisors_and_powers_are_what_they_say() -> None:
    """Divisors of 12, and powers of two up to 9."""
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert powers_of_two(9) == [1, 2, 4, 8]


@given(training_jobs(), machine_cases())
def test_every_strategy_is_legal_and_distinct(job: TrainingJob, case: MachineCase) -> None:
    """The space holds no strategy twice and none that needs more GPUs than there are."""
    problem = problem_of(job, case)
    assert isinstance(problem, TrainingProblem)
    many = strategies(problem)
    rows = np.stack([getattr(many, name) for name in many.__dataclass_fields__], axis=1)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert (many.ranks <= problem.num_gpus).all()


SHAPES = [(1, 1, 2, 1, 1), (2, 1, 2, 1, 1), (2, 2, 1, 1, 1), (1, 2, 1, 2, 1), (1, 1, 4, 1, 2)]


@given(machine_cases(), st.sampled_from(SHAPES))
def test_no_placement_escapes_the_relaxation(
    case: MachineCase, degrees: tuple[int, int, int, int, int]
) -> None:
    """Whatever the rank order, some returned chain shares at least as much in every group and level."""
    topology = topology_of(case)
    tp, pp, dp, cp, ep = degrees
    strategy = Strategy(tp=tp, pp=pp, dp=dp, cp=cp, ep=ep)
    hierarchy = topology.hierarchy
    if strategy.num_ranks > hierarchy.num_gpus:
        return
    chains = np.asarray(span_choices(level_sizes(hierarchy), tp, pp, dp, cp, ep), dtype=float)
    last = len(hierarchy.levels) - 1
    for order in list(permutations(range(hierarchy.num_gpus), strategy.num_ranks))[:200]:
        spans = training_spans(strategy, np.asarray(order), hierarchy)
        reached = np.stack(
            [spans.tp[0], spans.cp[0], spans.data[0], spans.expert[0], spans.expert_data[0]], axis=1
        )
        above = (chains[:, :, [0, 1, 2, 4, 5]] >= reached[None]).all(axis=(1, 2))
        hop_reached = np.argmax(chains[:, :, 3] >= pp, axis=1) <= min(int(spans.pipeline[0]), last)
        assert (above & hop_reached).any()


def test_rows_repeat_for_every_chain() -> None:
    """A candidate appears once with each of its chains, and its spans carry the chain's shares."""
    levels = (LevelSizes(4, 8, True), LevelSizes(8, 8, True))
    many = as_candidates(Strategy(tp=2, dp=4))
    rows, shares = with_spans(many, levels)
    chains = span_choices(levels, 2, 1, 4, 1, 1)
    assert len(rows) == len(chains)
    spans = as_spans(many.take(rows), shares)
    assert {tuple(row) for row in spans.tp.astype(int).tolist()} == {
        (chain[0][0], chain[1][0]) for chain in chains
    }
    assert (spans.data[:, 1] == 4).all()
