"""Start a search from the decisions of a plan: judged anew, they are the first incumbent when legal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from planner.placement import (
    Decision,
    JobPlan,
    ServingPlan,
    ServingProblem,
    Strategy,
    TrainingPlan,
    TrainingProblem,
    judge_plan,
    limits_broken,
)
from planner.placement.pools import PlacedPool, judge_service, service_problems
from planner.placement.recompute import repeat_choices
from planner.placement.training import training_memory_problems, training_problems
from planner.solve.serving import PlacedService
from planner.solve.training import PlacedStrategy

Placed = TypeVar("Placed", PlacedStrategy, PlacedService)


class UnusableHintError(ValueError):
    """The decisions of a plan break a rule of the problem at hand; the message says which."""


def hinted_training(problem: TrainingProblem, plan: JobPlan) -> PlacedStrategy:
    """Return the decisions of a training plan with the step time that they take in this problem.

    Raises
    ------
    UnusableHintError
        If they are not legal here.
    """
    if not isinstance(plan, TrainingPlan):
        raise UnusableHintError("the hint is no training plan")
    strategy = plan.strategy
    micro_batches = problem.job.global_batch // max(1, strategy.dp * strategy.micro_batch)
    current = plan.model_copy(update={"num_micro_batches": micro_batches})
    broken = [*training_problems(problem, current), *excluded(problem, strategy)]
    _refuse([*broken, *_excluded_repeats(problem, plan)])
    outcome = judge_plan(problem, plan)
    unfit = training_memory_problems(problem, current, outcome)
    _refuse([text for text in unfit if " needs " in text])
    again = tuple(plan.recompute_layers)
    return PlacedStrategy(strategy, list(plan.layers), plan.ranks(), outcome.step_time, again)


def hinted_serving(problem: ServingProblem, plan: JobPlan) -> PlacedService:
    """Return the decisions of a serving plan with the objective that they reach in this problem.

    Raises
    ------
    UnusableHintError
        If they are not legal here.
    """
    if not isinstance(plan, ServingPlan):
        raise UnusableHintError("the hint is no serving plan")
    chosen = [pool.strategy for pool in plan.pools()]
    _refuse([*service_problems(problem, plan), *(text for one in chosen for text in excluded(problem, one))])
    try:
        outcome = judge_service(problem, plan)
    except StopIteration as error:  # no longer a legal memory mode on this machine
        raise UnusableHintError("a transfer uses a memory mode that the machine lacks") from error
    _refuse(limits_broken(problem, outcome))
    gpus = float(len(plan.gpus()))
    value = problem.value(gpus, outcome.latency_p99)
    prefill = None
    if plan.prefill is not None:
        prefill = PlacedPool(plan.prefill.strategy, plan.prefill.replicas)
    return PlacedService(plan.strategy, list(plan.replicas), outcome, value, prefill)


def _refuse(broken: list[str]) -> None:
    if broken:
        raise UnusableHintError(broken[0])


def excluded(problem: TrainingProblem | ServingProblem, strategy: Strategy) -> list[str]:
    """Return the degrees of a strategy that the job's lists exclude, as sentences."""
    serving, found = isinstance(problem, ServingProblem), []
    for field in type(problem.job.degrees).model_fields:
        allowed = getattr(problem.job.degrees, field)
        name = "dp" if field == "replicas" else field
        if allowed is None or (serving and field == "dp") or not hasattr(strategy, name):
            continue
        if not serving and field == "replicas":
            continue
        value = getattr(strategy, name)
        if value not in allowed:
            shown = ", ".join(map(str, allowed))
            found.append(f"{field} is {value}, and has to be one of {shown}")
    return found


def _excluded_repeats(problem: TrainingProblem, plan: TrainingPlan) -> Iterator[str]:
    """Yield the stages that repeat a number of layers that the job's list excludes, as sentences."""
    allowed = repeat_choices(problem) * plan.strategy.virtual
    for stage, (count, layers) in enumerate(zip(plan.recompute_layers, plan.layers, strict=False)):
        if count not in np.minimum(allowed, layers):
            yield f"stage {stage} recomputes {count} layers, which recompute_layers excludes"


@dataclass(frozen=True)
class Hint(Generic[Placed]):
    """What became of a hinted plan.

    Attributes
    ----------
    placed
        Its decisions, ``None`` where they are not legal here or nothing was hinted.
    value
        The objective that they reach in this problem.
    reason
        Why they could not be used; empty where they could, or nothing was hinted.
    """

    placed: Placed | None = None
    value: float = float("inf")
    reason: str = ""

    def decisions(self, best: float) -> list[Decision]:
        """Return how the hint compares with the plan of objective ``best``: one decision, or none."""
        if self.reason:
            return [_decision("the search's own", None, self.reason)]
        if self.placed is None:
            return []
        if self.value <= best * (1 + 1e-12):
            return [_decision("the hinted plan", 0.0, "nothing better was found")]
        return [_decision("the search's own", self.value / best - 1.0, "the search found better")]


def _decision(chosen: str, loss: float | None, reason: str) -> Decision:
    return Decision(decision="hint", chosen=chosen, alternative="the hinted plan", loss=loss, reason=reason)


def training_hint(problem: TrainingProblem, plan: JobPlan | None) -> Hint[PlacedStrategy]:
    """Return the decisions of a plan as a first incumbent of a training search, or why they are none."""
    if plan is None:
        return Hint()
    try:
        placed = hinted_training(problem, plan)
    except UnusableHintError as error:
        return Hint(reason=str(error))
    return Hint(placed, placed.seconds)


def serving_hint(problem: ServingProblem, plan: JobPlan | None) -> Hint[PlacedService]:
    """Return the decisions of a plan as a first incumbent of a serving search, or why they are none."""
    if plan is None:
        return Hint()
    try:
        placed = hinted_serving(problem, plan)
    except UnusableHintError as error:
        return Hint(reason=str(error))
    return Hint(placed, placed.value)
