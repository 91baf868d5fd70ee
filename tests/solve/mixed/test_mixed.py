"""Mixed training: the search equals brute force, its plans are legal, and it gains over simple rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from planner.placement import Strategy
from planner.placement.mixed import MixedPlacement, MixedTrainingProblem, check_mixed, judge_mixed
from planner.solve import Budget
from planner.solve.mixed import search_mixed
from planner.workload import ModelReference, TrainingJob, Transformer
from tests.solve.mixed.brute_force import best_mixed
from tests.solve.mixed.instances import Case, cases, small_problem


@given(cases())
@settings(max_examples=6, deadline=None)
def test_search_equals_brute_force_and_is_legal(case: Case) -> None:
    """The step time is that of the best of all plans, the bound is not above it, and the judge agrees."""
    problem = case.problem
    solution = search_mixed(problem, Budget(seconds=30.0))
    known = best_mixed(problem)
    if solution.placement is None:
        assert known == float("inf")
        return
    assert solution.bound <= known * (1 + 1e-9)
    assert solution.seconds == pytest.approx(known, rel=3e-6)
    assert check_mixed(problem, solution.placement, solution.seconds) == []


def _legal() -> tuple[MixedTrainingProblem, MixedPlacement]:
    """Return two stages, the first on the slow and the second on the fast GPU, and their problem."""
    model = Transformer(
        name="tiny", layers=4, hidden=1024, ffn=2048, heads=8, kv_heads=4, head_dim=128, vocab=1024
    )
    job = TrainingJob(
        kind="training", name="job", model=ModelReference(dims=model), sequence=2048, global_batch=4
    )
    problem = small_problem(job, (2, 2), (1.0, 2.0), (30.0, 30.0))
    devices = ("a/gpu0x0", "b/gpu0x0")
    return problem, MixedPlacement(Strategy(pp=2), (1, 3), (4,), devices)


def test_a_hand_made_placement_is_judged_by_its_slowest_stage() -> None:
    """The step is three times the slowest stage, once through both, and the longest tail."""
    problem, placement = _legal()
    outcome = judge_mixed(problem, placement)
    times = outcome.times[:, 0]
    assert outcome.step_time == pytest.approx(3 * times.max() + times.sum() + outcome.tails.max())
    assert check_mixed(problem, placement, outcome.step_time) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"devices": ("a/gpu0x0", "a/gpu0x0")}, "two ranks"),
        ({"devices": ("a/gpu0x0", "c/gpu0x0")}, "unknown GPU"),
        ({"devices": ("a/gpu0x0",)}, "2 ranks but 1"),
        ({"layers": (1, 2)}, "do not split"),
        ({"layers": (4, 0)}, "do not split"),
        ({"micro_batches": (3,)}, "micro-batches"),
        (
            {"strategy": Strategy(tp=2), "layers": (4,), "devices": ("a/gpu0x0", "b/gpu0x0")},
            "mixes device models",
        ),
        ({"layers": (3, 1)}, "step time"),
        ({"devices": ("b/gpu0x0", "a/gpu0x0")}, "step time"),
    ],
)
def test_a_broken_placement_is_found(change: dict[str, Any], word: str) -> None:
    """Each fault is named: GPUs, layers, micro-batches, cells, and figures of another placement."""
    problem, placement = _legal()
    stated = judge_mixed(problem, placement).step_time
    assert any(word in text for text in check_mixed(problem, replace(placement, **change), stated))


def test_uneven_micro_batches_beat_even_ones() -> None:
    """Two replicas on unequal GPUs take unequal shares, and the step ends sooner than with equal ones."""
    problem, _ = _legal()
    degrees = problem.job.degrees.model_copy(
        update={"tp": [1], "pp": [1], "dp": [2], "micro_batch": [1], "sharding": ["none"]}
    )
    job = problem.job.model_copy(update={"degrees": degrees, "global_batch": 6})
    problem = small_problem(job, (1, 1), (1.0, 2.0), (30.0, 30.0))
    solution = search_mixed(problem, Budget(seconds=20.0))
    assert solution.placement is not None
    assert sorted(solution.placement.micro_batches) == [2, 4]
    even = judge_mixed(problem, replace(solution.placement, micro_batches=(3, 3)))
    assert solution.seconds < even.step_time


def test_links_inside_a_node_have_the_rate_of_their_own_machine() -> None:
    """The fast machine keeps its NVLink rate beside the slow one; between nodes the slower port counts."""
    problem, _ = _legal()
    slow, fast = (kind.hierarchy.levels for kind in problem.kinds)
    assert fast[0].rate > slow[0].rate
    assert fast[-1].rate == slow[-1].rate
