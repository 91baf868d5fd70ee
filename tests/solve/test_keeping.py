"""Re-planning with few moves, against a walk of every rank order, and the moves of services."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError
from planner.placement import (
    ServingPlan,
    ServingProblem,
    TrainingPlan,
    TrainingProblem,
    check_job,
    judge_training,
)
from planner.placement.training import fits
from planner.solve import Budget, solve_job
from planner.solve.jobs import training_plan
from planner.solve.keeping import KeepingSearch, kept_part, substituted
from planner.solve.keeping_service import keep_service
from planner.solve.moves import fewest_moves, rank_roles, roles_of, service_moves, training_moves
from planner.solve.services import service_plan
from planner.workload import Degrees, TrainingJob
from tests.laws.brute_force import legal_strategies
from tests.laws.instances import Box, MachineCase, problem_of
from tests.solve.test_infeasible import TINY, serving, training

WHOLE = MachineCase((Box((2, 1), 300.0, 40.0, 20.0), Box((2,), 300.0, 40.0, 20.0)), 30e9)
DEGREES = Degrees(
    tp=[1, 2], pp=[1, 2], dp=[1, 2, 4], cp=[1], virtual=[1], micro_batch=[1], recompute=["none"],
    sharding=["none"],
)  # fmt: skip


def job(**degrees: list[int]) -> TrainingJob:
    """Return a small training job under some degrees."""
    return training(TINY, degrees=DEGREES.model_copy(update=degrees))


def on(problem: TrainingProblem, gpus: list[int]) -> TrainingProblem:
    """Return a problem on some of its GPUs: what a failure leaves."""
    return replace(problem, hierarchy=problem.hierarchy.subset(gpus))


@cache
def training_case(tp: int, pp: int, dp: int) -> tuple[TrainingProblem, TrainingPlan]:
    """Return a problem and its best plan under some degrees, all other degrees free again."""
    narrow = problem_of(job(tp=[tp], pp=[pp], dp=[dp]), WHOLE)
    plan = solve_job(narrow, Budget(seconds=20.0), explain=False).plan
    problem = problem_of(job(), WHOLE)
    assert isinstance(plan, TrainingPlan)
    assert isinstance(problem, TrainingProblem)
    return problem, plan


def best_by_walk(problem: TrainingProblem, old: TrainingPlan, most: int) -> float:
    """Return the least step time of a plan with the same cut and few moves, over every rank order."""
    before, best = roles_of(old), float("inf")
    s = old.strategy
    for strategy in legal_strategies(problem):
        if (strategy.tp, strategy.pp, strategy.virtual, strategy.ep) != (s.tp, s.pp, s.virtual, s.ep):
            continue
        roles = rank_roles(strategy, old.layers)
        for order in permutations(problem.hierarchy.gpus, strategy.num_ranks):
            moved = sum(before.get(gpu) != role for gpu, role in zip(order, roles, strict=True))
            if moved <= most:
                outcome = judge_training(problem, strategy, old.layers, list(order))
                if fits(problem, outcome):
                    best = min(best, outcome.step_time)
    return best


@pytest.mark.parametrize("degrees", [(2, 1, 2), (1, 2, 2)])
@pytest.mark.parametrize("lost", [0, 3])
@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_kept_plan_is_the_best_of_all_with_few_moves(
    degrees: tuple[int, int, int], lost: int, most: int
) -> None:
    """With one GPU gone the search equals a walk of all rank orders, or names the least number that works."""
    problem, old = training_case(*degrees)
    left = on(problem, [n for n, gpu in enumerate(problem.hierarchy.gpus) if gpu != old.ranks()[lost]])
    search = KeepingSearch(left, kept_part(left, old), Budget(seconds=20.0))
    expected = best_by_walk(left, old, most)
    if expected == float("inf"):
        with pytest.raises(InfeasibleError, match="--max-moves") as caught:
            search.run(most)
        least = int(caught.value.remedy.split()[-1])
        assert best_by_walk(left, old, least) < float("inf") == best_by_walk(left, old, least - 1)
        return
    search.run(most)
    assert search.best is not None
    plan = training_plan(left, search.best)
    assert check_job(left, plan) == []
    assert len(training_moves(old, plan)) <= most
    assert search.best.seconds == pytest.approx(expected, rel=1e-9)
    assert search.bound <= search.best.seconds


def test_nothing_moves_where_nothing_is_gone() -> None:
    """On the whole machine the fewest moves are none, and the plan is at least as good as the old one."""
    problem, old = training_case(2, 1, 2)
    search = KeepingSearch(problem, kept_part(problem, old), Budget(seconds=20.0))
    search.run(None)
    assert search.best is not None
    assert search.least == 0
    assert training_moves(old, training_plan(problem, search.best)) == []
    assert search.best.seconds <= old.prediction.step_time * (1 + 1e-9)


def test_replicas_and_context_parts_stand_for_one_another() -> None:
    """Ranks of the same stage and tensor part hold the same weights; other layers are other weights."""
    _, old = training_case(2, 1, 2)
    roles = rank_roles(old.strategy, old.layers)
    assert roles[:2] == roles[2:4]
    assert roles[0] != roles[1]
    turned = old.model_copy(update={"devices": [*old.ranks()[2:4], *old.ranks()[:2]]})
    assert training_moves(old, turned) == []
    assert len(training_moves(old, old.model_copy(update={"devices": old.ranks()[::-1]}))) == 4
    assert fewest_moves(old.strategy, old.layers, roles_of(old)) == 0


def test_large_meshes_are_filled_up_by_substitution() -> None:
    """Ranks that can stay do; the next free GPUs take the place of those that are gone."""
    problem, old = training_case(2, 1, 2)
    left = on(problem, [n for n, gpu in enumerate(problem.hierarchy.gpus) if gpu != old.ranks()[0]])
    kept = kept_part(left, old)
    gpus = substituted(left, old.strategy, kept, 1)
    assert gpus is not None
    plan = old.model_copy(update={"devices": [left.hierarchy.gpus[gpu] for gpu in gpus]})
    assert [move.what for move in training_moves(old, plan)] == ["rank 0"] or len(
        training_moves(old, plan)
    ) == 1
    assert substituted(left, old.strategy, kept, 0) is None


@cache
def service_case() -> tuple[ServingProblem, ServingPlan]:
    """Return a problem of four nodes' worth of GPUs and the plan of three replicas of two GPUs."""
    case = MachineCase((Box((2, 2), 300.0, 40.0, 20.0), Box((2, 2), 300.0, 40.0, 20.0)), 30e9)
    degrees = Degrees(tp=[2], pp=[1], replicas=[3])
    narrow = problem_of(serving(degrees=degrees), case)
    plan = solve_job(narrow, Budget(seconds=20.0), explain=False).plan
    problem = problem_of(serving(degrees=Degrees(tp=[2], pp=[1], replicas=[1, 2, 3, 4])), case)
    assert isinstance(plan, ServingPlan)
    assert isinstance(problem, ServingProblem)
    return problem, plan


@given(st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=8)
def test_a_service_moves_no_more_than_it_may(lost: int, most: int) -> None:
    """With a GPU of one replica gone, whole replicas stay; the plan is legal and moves at most so many."""
    problem, old = service_case()
    gone = old.replicas[lost].gpus()[0]
    alive = [number for number, gpu in enumerate(problem.hierarchy.gpus) if gpu != gone]
    left = replace(problem, hierarchy=problem.hierarchy.subset(alive))
    kept = keep_service(left, old, most, Budget(seconds=20.0))
    plan = service_plan(left, kept.placed)
    assert check_job(left, plan) == []
    assert kept.least == 0
    moves = service_moves(old, plan.strategy, plan.replicas)
    assert len(moves) <= most
    stayed = {tuple(replica.gpus()) for replica in plan.replicas}
    whole = [replica for replica in old.replicas if gone not in replica.gpus()]
    assert sum(tuple(replica.gpus()) in stayed for replica in whole) == min(len(whole), plan.strategy.dp)


def test_a_service_that_may_move_is_never_worse() -> None:
    """More moves allow plans at least as good."""
    problem, old = service_case()
    alive = [n for n, gpu in enumerate(problem.hierarchy.gpus) if gpu != old.replicas[0].gpus()[0]]
    left = replace(problem, hierarchy=problem.hierarchy.subset(alive))
    values = [keep_service(left, old, most, Budget(seconds=20.0)).placed.value for most in range(3)]
    assert values == sorted(values, reverse=True)
