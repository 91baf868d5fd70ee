"""Seeded faults of many kinds, each in a plan that a solver made: the judge finds every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from planner.placement import (
    Problem,
    ServingPlan,
    ServingProblem,
    TrainingPlan,
    check,
    check_job,
    objective,
)
from planner.placement.records import Binding
from planner.solve import Budget, solve_job
from planner.workload import CpuStage, Degrees
from tests.laws.instances import Box, MachineCase, problem_of
from tests.placement.cases import whole
from tests.solve.test_infeasible import TINY, serving, training

CASE = MachineCase((Box((2, 2), 300.0, 40.0, 20.0),), 30e9, sockets=2)
TrainingFault = Callable[[TrainingPlan], TrainingPlan]
ServingFault = Callable[[ServingPlan], ServingPlan]


@cache
def trained() -> tuple[Problem, TrainingPlan]:
    """Return a job of two stages and two replicas with its best plan."""
    degrees = Degrees(tp=[1], pp=[2], dp=[2], virtual=[1], micro_batch=[1], recompute=["none"])
    problem = problem_of(training(TINY, degrees=degrees), CASE)
    plan = solve_job(problem, Budget(seconds=20.0), explain=False).plan
    assert isinstance(plan, TrainingPlan)
    return problem, plan


@cache
def served() -> tuple[Problem, ServingPlan]:
    """Return a service of two replicas with a CPU stage on either side, and its best plan."""
    job = serving(
        degrees=Degrees(tp=[2], pp=[1], replicas=[2]),
        before=[CpuStage(name="first", work=2e-3, bytes_in=1e5, bytes_out=1e5)],
        after=[CpuStage(name="last", work=2e-3, bytes_in=1e5, bytes_out=1e5)],
    )
    problem = problem_of(job, CASE)
    plan = solve_job(problem, Budget(seconds=20.0), explain=False).plan
    assert isinstance(plan, ServingPlan)
    return problem, plan


def changed(plan: Any, **update: Any) -> Any:
    """Return a record with other values."""
    return plan.model_copy(update=update)


def moved(plan: TrainingPlan, first: int, second: int) -> TrainingPlan:
    """Return a plan with two ranks in one another's place."""
    ranks = plan.ranks()
    ranks[first], ranks[second] = ranks[second], ranks[first]
    return plan.model_copy(update={"devices": ranks})


def predicted(**update: Any) -> Callable[[Any], Any]:
    """Return a fault of a stated figure."""
    return lambda plan: changed(plan, prediction=changed(plan.prediction, **update))


def memory(stage: int, part: str, more: float) -> Callable[[Any], Any]:
    """Return a fault of the bytes of one part of one stage."""

    def spoil(plan: Any) -> Any:
        record = plan.memory[stage]
        other = changed(record, parts={**record.parts, part: record.parts[part] + more})
        return changed(plan, memory=[*plan.memory[:stage], other, *plan.memory[stage + 1 :]])

    return spoil


def less(plan: Any, part: str) -> Any:
    """Return a plan whose breakdown lacks a part: something was not costed."""
    parts = {name: value for name, value in plan.prediction.breakdown.items() if name != part}
    assert len(parts) < len(plan.prediction.breakdown)
    return changed(plan, prediction=changed(plan.prediction, breakdown=parts))


def bound(**update: Any) -> Callable[[Any], Any]:
    """Return a fault of a binding."""

    def spoil(plan: Any) -> Any:
        first = Binding.model_validate(plan.bindings[0].model_copy(update=update))
        return changed(plan, bindings=[first, *plan.bindings[1:]])

    return spoil


TRAINING: dict[str, TrainingFault] = {
    "a rank moved to another GPU's place": lambda p: moved(p, 0, 3),
    "a rank on a GPU that is not there": lambda p: changed(p, devices=[*p.ranks()[:3], "node-0/none"]),
    "two ranks on one GPU": lambda p: changed(p, devices=[*p.ranks()[:3], p.ranks()[0]]),
    "a rank left out": lambda p: changed(p, devices=p.ranks()[:3]),
    "a layer twice": lambda p: changed(p, layers=[p.layers[0] + 1, p.layers[1]]),
    "a layer nowhere": lambda p: changed(p, layers=[p.layers[0] - 1, p.layers[1]]),
    "a layer in the next stage": lambda p: changed(p, layers=[p.layers[0] - 1, p.layers[1] + 1]),
    "a stage not costed": lambda p: less(p, "pipeline transfers"),
    "a bubble not costed": predicted(bubble=0.0),
    "the optimizer not costed": lambda p: less(p, "gradients and optimizer"),
    "a byte too many": memory(0, "parameters and optimizer", 1.0),
    "a byte too few": memory(1, "activations", -1.0),
    "bytes of another stage": lambda p: changed(p, memory=p.memory[::-1]),
    "memory of a stage left out": lambda p: changed(p, memory=p.memory[:1]),
    "a larger device": lambda p: changed(p, memory=[changed(m, capacity=2 * m.capacity) for m in p.memory]),
    "a micro-batch too many": lambda p: changed(p, num_micro_batches=p.num_micro_batches + 1),
    "a shorter step": lambda p: predicted(step_time=0.99 * p.prediction.step_time)(p),
    "a higher throughput": lambda p: predicted(tokens_per_second=1.01 * p.prediction.tokens_per_second)(p),
    "a better utilisation": predicted(model_flops_utilisation=0.99),
    "another degree": lambda p: changed(p, strategy=changed(p.strategy, dp=1)),
    "another recomputation": lambda p: changed(p, strategy=changed(p.strategy, recompute="full")),
    "a core of no NUMA domain": bound(cores="0-99"),
    "a port that is not there": bound(nic="port9"),
    "a GPU on the other socket": bound(numa="cpu1"),
}


@pytest.mark.parametrize("fault", TRAINING)
def test_every_fault_of_a_training_plan_is_found(fault: str) -> None:
    """The solver's plan is sound; after the change the judge has something to say."""
    problem, plan = trained()
    assert check_job(problem, plan) == []
    assert check_job(problem, TRAINING[fault](plan)) != []


def first(plan: ServingPlan, **update: Any) -> ServingPlan:
    """Return a service whose first replica is another."""
    return changed(plan, replicas=[changed(plan.replicas[0], **update), *plan.replicas[1:]])  # type: ignore[no-any-return]


def stage(plan: ServingPlan, **update: Any) -> ServingPlan:
    """Return a service whose first CPU stage is another."""
    stages = plan.replicas[0].stages
    return first(plan, stages=[changed(stages[0], **update), *stages[1:]])


def transfer(plan: ServingPlan, **update: Any) -> ServingPlan:
    """Return a service whose first transfer is another."""
    transfers = plan.replicas[0].transfers
    return first(plan, transfers=[changed(transfers[0], **update), *transfers[1:]])


SERVING: dict[str, ServingFault] = {
    "a GPU of two replicas": lambda p: first(p, devices=p.replicas[1].devices),
    "a replica left out": lambda p: changed(p, replicas=p.replicas[:1]),
    "a replica on another node": lambda p: first(p, node="node-7"),
    "two replicas of one name": lambda p: first(p, name=p.replicas[1].name),
    "a GPU too few": lambda p: first(p, devices=p.replicas[0].gpus()[:1]),
    "a CPU stage left out": lambda p: first(p, stages=p.replicas[0].stages[:1]),
    "a CPU stage twice": lambda p: first(p, stages=[*p.replicas[0].stages, p.replicas[0].stages[0]]),
    "a CPU stage not costed": lambda p: stage(p, latency=0.0),
    "an idle CPU stage": lambda p: stage(p, utilisation=0.0),
    "more cores than there are": lambda p: stage(p, cores=60),
    "a NUMA domain that is not there": lambda p: stage(p, numa="cpu7"),
    "a transfer left out": lambda p: first(p, transfers=p.replicas[0].transfers[:1]),
    "a transfer not costed": lambda p: transfer(p, seconds=0.0),
    "a smaller transfer": lambda p: transfer(p, size=p.replicas[0].transfers[0].size / 2),
    "a transfer to another GPU": lambda p: transfer(p, target="gpu1x1"),
    "a memory mode that the machine lacks": lambda p: transfer(p, mode="coherent"),
    "a layer nowhere": lambda p: changed(p, layers=[p.layers[0] - 1]),
    "a layer twice": lambda p: changed(p, layers=[p.layers[0] + 1]),
    "a byte too many": memory(0, "weights", 1.0),
    "memory left out": lambda p: changed(p, memory=[]),
    "a larger batch": lambda p: changed(p, batching=changed(p.batching, max_batch=10**6)),
    "a quicker first token": predicted(ttft_p99=0.0),
    "a quicker token": predicted(tpot_mean=0.0),
    "a lower latency": lambda p: predicted(latency_p99=0.99 * p.prediction.latency_p99)(p),
    "another rate": predicted(rate=1.0),
    "less busy": predicted(utilisation=0.0),
    "a part of the latency not costed": lambda p: less(p, "cpu stages and transfers"),
    "another degree": lambda p: changed(p, strategy=changed(p.strategy, tp=1)),
    "a core of no NUMA domain": bound(cores="0-99"),
}


@pytest.mark.parametrize("fault", SERVING)
def test_every_fault_of_a_serving_plan_is_found(fault: str) -> None:
    """The solver's plan is sound; after the change the judge has something to say."""
    problem, plan = served()
    assert check_job(problem, plan) == []
    assert check_job(problem, SERVING[fault](plan)) != []


@pytest.mark.parametrize(
    "update",
    [{"bound": 2.0}, {"value": 0.9}, {"jobs": []}, {"name": "other"}],
    ids=lambda item: next(iter(item)),
)
def test_faults_of_the_whole_plan_are_found(update: dict[str, Any]) -> None:
    """A bound above the objective, a wrong objective, a job left out and a job of another name."""
    problem, plan = trained()
    value = objective(problem, plan)
    sound = whole(plan, value, bound=value)
    assert check({plan.name: problem}, sound) == []
    if "bound" in update:
        sound = changed(sound, bound=update["bound"] * value)
    elif "value" in update:
        sound = changed(sound, objective=changed(sound.objective, value=update["value"] * value), bound=0.0)
    elif "jobs" in update:
        sound = changed(sound, jobs=[])
    else:
        sound = changed(sound, jobs=[changed(plan, name="other")])
    assert check({plan.name: problem}, sound) != []


def test_a_data_type_that_the_job_does_not_allow_is_found() -> None:
    """Types are the job's own unless it lists several; then only those, and figures must follow them."""
    problem, plan = served()
    other = changed(plan, strategy=changed(plan.strategy, precision="fp8"))
    assert any("none of those that the job allows" in text for text in check_job(problem, other))
    assert isinstance(problem, ServingProblem)
    job = problem.job.model_copy(update={"degrees": Degrees(precision=["bf16", "fp8"])})
    free = replace(problem, job=job)
    named = changed(plan, strategy=changed(plan.strategy, precision="bf16"))
    assert check_job(free, named) == []
    assert check_job(free, other) != []


@cache
def pooled() -> tuple[Problem, ServingPlan]:
    """Return a service of two replicas for prompts and one, of two GPUs, for answers, and its best plan."""
    degrees = Degrees(tp=[1, 2], pp=[1], replicas=[1, 2], pools=["disaggregated"])
    problem = problem_of(serving(degrees=degrees), CASE)
    plan = solve_job(problem, Budget(seconds=20.0), explain=False).plan
    assert isinstance(plan, ServingPlan)
    assert plan.prefill is not None
    return problem, plan


def prompts(plan: ServingPlan, **update: Any) -> ServingPlan:
    """Return a service whose pool for prompts is another."""
    return changed(plan, prefill=changed(plan.prefill, **update))  # type: ignore[no-any-return]


def ratio(plan: ServingPlan, more: int) -> ServingPlan:
    """Return a service that states another number of replicas for prompts than it has."""
    assert plan.prefill is not None
    return prompts(plan, strategy=changed(plan.prefill.strategy, dp=plan.prefill.strategy.dp + more))


def shared(plan: ServingPlan) -> ServingPlan:
    """Return a service whose pools have a GPU in common."""
    assert plan.prefill is not None
    first = plan.prefill.replicas[0]
    other = changed(first, devices=plan.replicas[0].gpus()[: len(first.gpus())])
    return prompts(plan, replicas=[other, *plan.prefill.replicas[1:]])


def heavier(plan: ServingPlan) -> ServingPlan:
    """Return a service whose pool for prompts states a byte too many."""
    assert plan.prefill is not None
    record = plan.prefill.memory[0]
    more = changed(record, parts={**record.parts, "kv cache": record.parts["kv cache"] + 1.0})
    return prompts(plan, memory=[more])


POOLS: dict[str, ServingFault] = {
    "a ratio that is not that of the replicas": lambda p: ratio(p, 1),
    "no pool for prompts": lambda p: changed(p, prefill=None),
    "a GPU in both pools": shared,
    "a pool without replicas": lambda p: prompts(p, replicas=[]),
    "a faster move of caches": lambda p: prompts(p, cache_move=p.prefill.cache_move / 2.0),  # type: ignore[union-attr]
    "a byte too many for prompts": heavier,
    "layers of prompts elsewhere": lambda p: prompts(p, layers=[3]),
    "a move that is not costed": lambda p: less(p, "move of the cache"),
    "another type of cache in one pool": lambda p: changed(
        p, strategy=changed(p.strategy, kv_precision="fp8")
    ),
    "prompts on another GPU": lambda p: prompts(
        p,
        replicas=[changed(one, devices=["node-0/none"]) for one in p.prefill.replicas],  # type: ignore[union-attr]
    ),
    "a name in both pools": lambda p: changed(
        p,
        replicas=[changed(p.replicas[0], name=p.prefill.replicas[0].name), *p.replicas[1:]],  # type: ignore[union-attr]
    ),
    "an earlier first token": lambda p: predicted(ttft_p99=0.9 * p.prediction.ttft_p99)(p),
    "a type of weights that is not costed": lambda p: changed(
        p, strategy=changed(p.strategy, precision="fp8")
    ),
    "a switch of training": lambda p: changed(p, strategy=changed(p.strategy, recompute="full")),
    "a degree of training": lambda p: prompts(p, strategy=changed(p.prefill.strategy, virtual=2)),  # type: ignore[union-attr]
    "steps of more tokens": lambda p: prompts(
        p,
        batching=changed(p.prefill.batching, max_tokens=99999),  # type: ignore[union-attr]
    ),
}


@pytest.mark.parametrize("fault", POOLS)
def test_every_fault_of_a_plan_with_pools_is_found(fault: str) -> None:
    """The solver's plan is sound; after the change the judge has something to say."""
    problem, plan = pooled()
    assert check_job(problem, plan) == []
    assert check_job(problem, POOLS[fault](plan)) != []


def numbers(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], float]]:
    """Yield every number of a dumped record with the way to it; the shapes of CUDA graphs are free."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key != "graph_shapes":
            yield from numbers(inner, (*path, key))
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def test_every_number_of_a_plan_with_pools_is_judged() -> None:
    """Whichever number is stated one percent, or one, too high: the plan is refused or read as broken."""
    problem, plan = pooled()
    every = list(numbers(plan.model_dump()))
    assert len(every) > 60
    for path, value in every:
        data = plan.model_dump()
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value + 1 if isinstance(value, int) else value * 1.01 or 0.5
        assert check_job(problem, ServingPlan.model_validate(data)) != [], path


def test_a_rank_moved_between_pools_is_found() -> None:
    """On islands of two GPUs, a pool whose tensor group is torn apart costs more than the plan states."""
    degrees = Degrees(tp=[2], pp=[1], replicas=[1], pools=["disaggregated"])
    problem = problem_of(serving(degrees=degrees), CASE)
    plan = solve_job(problem, Budget(seconds=20.0), explain=False).plan
    assert isinstance(plan, ServingPlan)
    assert plan.prefill is not None
    assert check_job(problem, plan) == []
    (first,), (second,) = plan.prefill.replicas, plan.replicas
    left, right = first.gpus(), second.gpus()
    torn = prompts(plan, replicas=[changed(first, devices=[left[0], right[1]])])
    torn = changed(torn, replicas=[changed(second, devices=[right[0], left[1]])])
    assert check_job(problem, torn) != []


def test_pools_without_leave_are_found() -> None:
    """A job that allows one kind of pools has no plan of the other."""
    problem, plan = pooled()
    assert isinstance(problem, ServingProblem)
    degrees = problem.job.degrees.model_copy(update={"pools": None})
    plain = replace(problem, job=problem.job.model_copy(update={"degrees": degrees}))
    assert any("disaggregated, which the job does not allow" in text for text in check_job(plain, plan))
