"""Hints and fixed decisions: what they allow, what they refuse, and that they never make a plan worse."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import InfeasibleError
from planner.placement import TrainingPlan, TrainingProblem, check_job
from planner.solve import Budget, solve_job
from planner.solve.budget import LastModel, counted
from planner.solve.engine import export_model
from planner.solve.fixes import FixError, allowed_gpus, checked, fixed_job, parse_fix
from planner.workload import Degrees
from tests.laws.instances import Box, MachineCase, problem_of
from tests.solve.test_infeasible import CASE, TINY, serving, training

SLOW = MachineCase((Box((2, 2), 100.0, 10.0, 2.0),), 30e9)


def plan_with(**degrees: list[int]) -> TrainingPlan:
    """Return the best plan of a small job under some degrees."""
    problem = problem_of(training(TINY, degrees=Degrees(**degrees)), CASE)  # type: ignore[arg-type]
    plan = solve_job(problem, Budget(seconds=20.0), explain=False).plan
    assert isinstance(plan, TrainingPlan)
    return plan


def test_a_hinted_search_without_time_returns_the_hint() -> None:
    """With no time at all the hint's decisions come back, with their judged value."""
    hint = plan_with(tp=[2], pp=[2], dp=[1])
    problem = problem_of(training(TINY), CASE)
    solution = solve_job(problem, Budget(seconds=0.0), explain=False, start=hint)
    assert isinstance(solution.plan, TrainingPlan)
    assert solution.plan.strategy == hint.strategy
    assert solution.value == pytest.approx(hint.prediction.step_time, rel=1e-12)
    assert solution.bound <= solution.value
    assert check_job(problem, solution.plan) == []


def test_a_hinted_search_reaches_the_same_optimum_and_says_what_the_hint_lost() -> None:
    """A poor hint costs nothing: the optimum is found, and the hint is the first decision with its loss."""
    hint = plan_with(tp=[1], pp=[1], dp=[1])
    problem = problem_of(training(TINY), CASE)
    free = solve_job(problem, Budget(seconds=20.0), explain=False)
    hinted = solve_job(problem, Budget(seconds=20.0), explain=False, start=hint)
    assert hinted.value == pytest.approx(free.value, rel=1e-12)
    decision = hinted.decisions[0]
    assert decision.decision == "hint"
    assert decision.loss == pytest.approx(hint.prediction.step_time / hinted.value - 1.0)


def test_a_hint_is_judged_on_the_machine_at_hand() -> None:
    """On slower links the hint counts with what it takes there, not with what it states."""
    hint = plan_with(tp=[4], pp=[1], dp=[1])
    renamed = hint.model_copy(update={"devices": list(problem_of(training(TINY), SLOW).hierarchy.gpus)})
    solution = solve_job(problem_of(training(TINY), SLOW), Budget(seconds=0.0), explain=False, start=renamed)
    assert solution.value > hint.prediction.step_time


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"devices": ["elsewhere/gpu0"]}, "unknown GPU"),
        ({"layers": [3]}, "do not split"),
    ],
)
def test_an_illegal_hint_is_left_aside_and_the_plan_says_why(update: dict[str, object], reason: str) -> None:
    """The search goes on from nothing; the first decision names the broken rule."""
    hint = plan_with(tp=[1], pp=[1], dp=[1]).model_copy(update=update)
    solution = solve_job(problem_of(training(TINY), CASE), Budget(seconds=20.0), explain=False, start=hint)
    assert solution.proven
    assert reason in solution.decisions[0].reason
    assert solution.decisions[0].loss is None


def test_a_hint_outside_the_fixed_degrees_is_not_used() -> None:
    """A fix binds the hint as well."""
    hint = plan_with(tp=[1], pp=[1], dp=[1])
    problem = problem_of(fixed_job(training(TINY), [parse_fix("tp=2")]), CASE)
    solution = solve_job(problem, Budget(seconds=20.0), explain=False, start=hint)
    assert isinstance(solution.plan, TrainingPlan)
    assert solution.plan.strategy.tp == 2
    assert "tp is 1" in solution.decisions[0].reason


def test_a_hinted_service_without_time_returns_the_hint() -> None:
    """Replicas, CPU stages and transfers of the hint are the first incumbent."""
    problem = problem_of(serving(), CASE)
    narrow = problem_of(serving(degrees=Degrees(tp=[1], pp=[1], replicas=[2])), CASE)
    hint = solve_job(narrow, Budget(seconds=20.0), explain=False).plan
    solution = solve_job(problem, Budget(seconds=0.0), explain=False, start=hint)
    assert solution.plan == hint


@pytest.mark.parametrize(
    ("text", "field", "kept"),
    [
        ("tp=2", "tp", [2]),
        ("pp=1,2", "pp", [1, 2]),
        ("job.dp=2", "dp", [2]),
        ("recompute=full", "recompute", ["full"]),
        ("sequence_parallel=off", "sequence_parallel", [False]),
        ("other.dp=2", "dp", None),
    ],
)
def test_a_fix_holds_the_degrees(text: str, field: str, kept: object) -> None:
    """The values of a fix become the only ones of the field, of the named job or of all."""
    job = fixed_job(training(TINY), [parse_fix(text)])
    assert getattr(job.degrees, field) == kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpp=2", "did you mean 'tp'"),
        ("micro-batch=2", "did you mean 'micro_batch'"),
        ("replicas=2", "no field 'replicas'"),
        ("jop.tp=2", "did you mean 'job'"),
    ],
)
def test_an_unknown_field_or_job_is_answered_with_the_nearest(text: str, message: str) -> None:
    """A misspelt name is refused with the nearest valid one."""
    with pytest.raises(FixError, match=message) as caught:
        checked([parse_fix(text)], [training(TINY)])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["tp", "=8", "tp=", "tp=many", "tp=0", "recompute=often"])
def test_a_malformed_fix_is_refused(text: str) -> None:
    """What has no field, no value or no such value is a usage error."""
    with pytest.raises(FixError):
        fixed_job(training(TINY), [parse_fix(text)])


def test_a_fix_that_the_workload_excludes_is_infeasible_and_named() -> None:
    """The job's own degrees and the fix are in conflict; the remedy lists what is allowed."""
    with pytest.raises(InfeasibleError, match="fix one of 1, 2") as caught:
        fixed_job(training(TINY, degrees=Degrees(tp=[1, 2])), [parse_fix("tp=4")])
    assert any("--fix tp=4" in item for item in caught.value.conflicts)


def test_gpus_and_nodes_can_be_fixed() -> None:
    """Patterns name GPUs or nodes; together they leave what both allow; unknown ones are refused."""
    gpus = [f"node-{n}/gpu{g}" for n in range(2) for g in range(4)]
    assert allowed_gpus([parse_fix("gpus=node-0/gpu[0-1],node-1/gpu0")], "job", gpus) == [
        "node-0/gpu0", "node-0/gpu1", "node-1/gpu0",
    ]  # fmt: skip
    both = [parse_fix("nodes=node-1"), parse_fix("gpus=node-[0-1]/gpu3")]
    assert allowed_gpus(both, "job", gpus) == ["node-1/gpu3"]
    with pytest.raises(FixError, match="did you mean 'node-1'"):
        allowed_gpus([parse_fix("nodes=node-2")], "job", gpus)


def test_a_deterministic_budget_counts_work_and_not_time() -> None:
    """The same search spends the same work whatever the clock says, and a limit ends it at the same place."""
    problem = problem_of(training(TINY), CASE)
    spent = []
    for _ in range(2):
        budget = counted(Budget(seconds=20.0))
        solve_job(problem, budget, explain=False)
        spent.append(budget.elapsed)
    assert spent[0] == spent[1] > 0.0
    ends = [solve_job(problem, counted(Budget(spent[0] / 2)), explain=False) for _ in range(2)]
    assert ends[0].visited == ends[1].visited
    assert ends[0].plan == ends[1].plan


@pytest.mark.parametrize("workers", [1, 2])
def test_several_workers_find_the_same_optimum(workers: int) -> None:
    """Taking turns or alone, CP-SAT proves the same value."""
    problem = problem_of(training(TINY, degrees=Degrees(pp=[2])), CASE)
    assert isinstance(problem, TrainingProblem)
    alone = solve_job(problem, Budget(seconds=20.0), explain=False)
    turns = solve_job(problem, counted(Budget(seconds=20.0, workers=workers)), explain=False)
    assert turns.value == pytest.approx(alone.value, rel=1e-9)


def test_the_last_model_is_exported(tmp_path: Path) -> None:
    """The file holds the model in text that names its variables."""
    kept = LastModel()
    problem = problem_of(training(TINY, degrees=Degrees(pp=[2])), CASE)
    solve_job(problem, Budget(seconds=20.0, models=kept), explain=False)
    export_model(kept, tmp_path / "model.txt")
    assert "layers[0]" in (tmp_path / "model.txt").read_text(encoding="utf-8")
