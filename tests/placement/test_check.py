from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from planner.placement import Problem, ServingPlan, TrainingPlan, check, check_job, objective
from tests.placement.cases import (
    GPUS,
    STRATEGY,
    replica,
    serving_plan,
    serving_problem,
    training_plan,
    training_problem,
    whole,
)


def changed(plan: TrainingPlan, **update: Any) -> TrainingPlan:
    return plan.model_copy(update=update)


def test_a_sound_plan_passes_and_its_objective_is_recomputed() -> None:
    """The judge finds nothing in plans made of its own figures, and the same objective."""
    problems: dict[str, Problem] = {"pretrain": training_problem()}
    plan = training_plan()
    assert objective(training_problem(), plan) == pytest.approx(plan.prediction.step_time, rel=1e-12)
    assert check(problems, whole(plan, plan.prediction.step_time)) == []
    served = serving_plan()
    assert objective(serving_problem(), served) == pytest.approx(served.prediction.latency_p99, rel=1e-12)
    assert check({"chat": serving_problem()}, whole(served, served.prediction.latency_p99)) == []


def slower(plan: TrainingPlan) -> TrainingPlan:
    seconds = 1.001 * plan.prediction.step_time
    return changed(plan, prediction=plan.prediction.model_copy(update={"step_time": seconds}))


FAULTS: list[tuple[str, Callable[[TrainingPlan], TrainingPlan]]] = [
    ("unknown GPU 'dgx-h100/gpu9'", lambda p: changed(p, devices=[*GPUS[:7], "dgx-h100/gpu9"])),
    ("a GPU holds two ranks", lambda p: changed(p, devices=[*GPUS[:7], GPUS[0]])),
    ("8 ranks but 7 GPUs", lambda p: changed(p, devices=GPUS[:7])),
    ("do not split 8 layers", lambda p: changed(p, layers=[4, 5])),
    ("do not split 8 layers", lambda p: changed(p, layers=[4, 3])),
    ("do not split 8 layers in 2", lambda p: changed(p, layers=[8])),
    ("a stage has fewer layers", lambda p: changed(p, layers=[8, 0])),
    ("micro-batches stated", lambda p: changed(p, num_micro_batches=9)),
    ("memory is stated for 1 of 2", lambda p: changed(p, memory=p.memory[:1])),
    ("step time", lambda p: slower(p)),
    ("stage 1 states", lambda p: changed(p, memory=[p.memory[0], p.memory[0]])),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "spoil"), FAULTS)
def test_every_seeded_fault_of_a_training_plan_is_found(
    sentence: str, spoil: Callable[[TrainingPlan], TrainingPlan]
) -> None:
    """One change makes a sound plan unsound, and the judge says which."""
    assert any(sentence in text for text in check_job(training_problem(), spoil(training_plan())))


BLOCK = STRATEGY.model_copy(update={"recompute": "block"})


def test_each_stage_recomputes_a_number_of_its_own() -> None:
    """A plan with three layers repeated on one stage and one on the other is sound: slower and smaller."""
    none, plan = training_plan(BLOCK, again=(0, 0)), training_plan(BLOCK, again=(3, 1))
    assert check_job(training_problem(), plan) == []
    assert plan.prediction.step_time > none.prediction.step_time
    assert plan.prediction.breakdown["recompute"] > none.prediction.breakdown.get("recompute", 0.0)
    saved = [before.total - after.total for before, after in zip(none.memory, plan.memory, strict=True)]
    assert saved[0] == pytest.approx(3 * 2 * saved[1])  # two micro-batches in flight, then one


@pytest.mark.parametrize(
    ("again", "sentence"),
    [
        ([3, 0], "stage 1 states"), ([2, 1], "step time"), ([4, 1], "stage 0 states"),
        ([5, 1], "stage 0 cannot recompute 5 of 4 layers"), ([3, -1], "stage 1 cannot recompute -1"),
        ([3], "recompute_layers names 1 of 2 stages"), ([], "recompute_layers names 0 of 2 stages"),
    ],
)  # fmt: skip
def test_another_number_of_recomputed_layers_is_found(again: list[int], sentence: str) -> None:
    """The judge recomputes time and memory from the numbers that the plan states."""
    plan = changed(training_plan(BLOCK, again=(3, 1)), recompute_layers=again)
    assert any(sentence in text for text in check_job(training_problem(), plan))


def test_numbers_of_recomputed_layers_need_block_recompute_and_alike_chunks() -> None:
    """Other modes have none, and the chunks of a stage repeat the same number each."""
    plan = changed(training_plan(), recompute_layers=[1, 1])
    assert any("needs block recompute" in text for text in check_job(training_problem(), plan))
    strategy = BLOCK.model_copy(update={"virtual": 2})
    assert check_job(training_problem(), training_plan(strategy, again=(4, 2))) == []
    odd = check_job(training_problem(), training_plan(strategy, again=(3, 2)))
    assert any("stage 0 cannot recompute 3 of 4 layers in 2 chunks alike" in text for text in odd)


RULES = [
    ({"tp": 3, "dp": 1}, "tp divides"),
    ({"ep": 2}, "a dense model has ep 1"),
    ({"micro_batch": 3}, "divides the global batch"),
    ({"sharding": "parameters"}, "sharded gradients and parameters need pp 1"),
    ({"virtual": 2, "micro_batch": 8}, "interleaving needs"),
    ({"tp": 1, "dp": 4, "sequence_parallel": True}, "sequence parallelism needs tp above 1"),
    ({"cp": 3, "dp": 1, "tp": 1}, "cp divides the sequence"),
    ({"recompute": "block"}, "recompute_layers names 0 of 2 stages"),
    ({"offload": "weights", "sharding": "parameters"}, "offloaded weights need sharding none or optimizer"),
]


@pytest.mark.parametrize(("update", "rule"), RULES)
def test_every_broken_degree_rule_is_named(update: dict[str, Any], rule: str) -> None:
    """A strategy outside the space is refused with the rule that it breaks."""
    strategy = STRATEGY.model_copy(update=update)
    assert any(
        rule in text for text in check_job(training_problem(), changed(training_plan(), strategy=strategy))
    )


def test_a_stage_one_byte_too_large_does_not_fit() -> None:
    """The capacity is a hard limit: at the largest stage's bytes it fits, a thousandth below it does not."""
    problem, plan = training_problem(), training_plan()
    most = max(record.total for record in plan.memory) / (1 - problem.calibration.number("memory_margin"))

    def shrunken(size: float) -> list[str]:
        memory = problem.device.memory.model_copy(update={"value": size})
        device = problem.device.model_copy(update={"memory": memory})
        found = check_job(replace(problem, device=device), plan)
        return [text for text in found if " needs " in text and "bytes" in text]

    assert shrunken(most) == []
    assert shrunken(most * (1 - 1e-6)) != []


def test_a_bound_above_the_objective_and_a_wrong_objective_are_found() -> None:
    """A proof that exceeds what it bounds is no proof; a stated objective is recomputed."""
    plan = training_plan()
    seconds, problems = plan.prediction.step_time, {"pretrain": training_problem()}
    assert any("bound" in text for text in check(problems, whole(plan, seconds, bound=1.01 * seconds)))
    assert any("the judge finds" in text for text in check(problems, whole(plan, 0.9 * seconds, bound=0.0)))


def test_a_job_left_out_or_of_another_kind_is_found() -> None:
    """A plan places the jobs of its workload, each by its kind."""
    plan = training_plan()
    assert check({"other": training_problem()}, whole(plan, 1.0)) != []
    assert check_job(serving_problem(), plan) == ["pretrain: a training plan for another kind of job"]


def faulty(plan: ServingPlan, **update: Any) -> ServingPlan:
    return plan.model_copy(update=update)


def second(plan: ServingPlan, **update: Any) -> ServingPlan:
    return faulty(plan, replicas=[plan.replicas[0], plan.replicas[1].model_copy(update=update)])


SERVING_FAULTS: list[tuple[str, Callable[[ServingPlan], ServingPlan]]] = [
    ("a GPU is used twice", lambda p: second(p, devices=GPUS[1:3])),
    ("unknown GPU", lambda p: second(p, devices=["x/gpu0", GPUS[5]])),
    ("2 replicas stated, 1 placed", lambda p: faulty(p, replicas=p.replicas[:1])),
    ("has 1 GPUs, 2 expected", lambda p: second(p, devices=GPUS[4:5])),
    ("cores planned on dgx-h100/numa1", lambda p: second(p, stages=replica(1, GPUS[4:6], cores=30).stages)),
    ("does not place every CPU stage once", lambda p: second(p, stages=[])),
    ("do not split", lambda p: faulty(p, layers=[7])),
    ("p99 latency", lambda p: faulty(p, prediction=p.prediction.model_copy(update={"latency_p99": 1.0}))),
]


@pytest.mark.parametrize(("sentence", "spoil"), SERVING_FAULTS)
def test_every_seeded_fault_of_a_serving_plan_is_found(
    sentence: str, spoil: Callable[[ServingPlan], ServingPlan]
) -> None:
    """One change makes a sound serving plan unsound, and the judge says which."""
    assert any(sentence in text for text in check_job(serving_problem(), spoil(serving_plan())))


def test_a_missed_latency_limit_is_found() -> None:
    """A limit just above the prediction holds, one just below does not."""
    problem, plan = serving_problem(), serving_plan()
    for factor, broken in ((1.001, False), (0.999, True)):
        slo = problem.job.slo.model_copy(update={"latency_p99": factor * plan.prediction.latency_p99})
        strict = replace(problem, job=problem.job.model_copy(update={"slo": slo}))
        assert any("latency_p99" in text for text in check_job(strict, plan)) is broken
