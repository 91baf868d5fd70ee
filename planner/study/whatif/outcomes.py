"""What came out of one scenario: its decisions and figures, flat enough for a table."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from planner import __version__
from planner.errors import InfeasibleError, NoPlanError, PlannerError, SimulationError
from planner.placement import JobPlan, Plan, ServingPlan, TrainingPlan
from planner.schema import Document, Record, dump_yaml, loads
from planner.simulate import JobSimulation, SimulationResult, simulate_plan
from planner.solve import Budget
from planner.solve.cuts import AnyCut
from planner.study.inputs import Documents, Study
from planner.study.loading import study_of
from planner.study.refine import refine
from planner.study.solving import solve
from planner.study.whatif.document import Options
from planner.study.whatif.scenarios import Scenario
from planner.study.wishes import Wishes

Status = Literal["optimal", "feasible", "infeasible", "no plan", "failed"]


class SolvedScenario(Document):
    """Document ``solved/1``: the plan of a scenario, or why there is none.

    Attributes
    ----------
    plan
        The plan as a document, ``None`` where there is none.
    """

    kind: ClassVar[str] = "solved"
    version: ClassVar[int] = 1
    status: Status
    message: str = ""
    plan: str | None = None


class Figures(Record):
    """Decisions and figures of a plan.

    Attributes
    ----------
    decisions
        What was decided, by job and decision.
    metrics
        Figures in SI units: predicted, and simulated under ``simulated_``.
    message
        Why there are no simulated figures, where there should be.
    lost
        Whether the task was not run to its end.
    """

    decisions: dict[str, str]
    metrics: dict[str, float]
    message: str = ""
    lost: bool = False


class Outcome(Document):
    """Document ``outcome/1``: one scenario with what came out of it."""

    kind: ClassVar[str] = "outcome"
    version: ClassVar[int] = 1
    labels: dict[str, str]
    status: Status
    message: str = ""
    decisions: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def decided(self) -> str:
        """All decisions as one text."""
        return ", ".join(f"{name} {value}" for name, value in self.decisions.items())


def solve_key(scenario: Scenario, documents: Documents) -> str:
    """Return the digest of everything that a plan depends on."""
    options = scenario.options
    held = {"requests": options.requests} if options.hold_limits else {}
    return _key({**documents.digests, "time_limit": options.time_limit, "seed": options.seed, **held})


def outcome_key(scenario: Scenario, solved: str) -> str:
    """Return the digest of what an outcome depends on, but the labels; ``solved`` is that of its plan."""
    options = scenario.options
    return _key({"solve": solved, "simulate": options.simulate, "requests": options.requests})


def _key(parts: dict[str, object]) -> str:
    text = json.dumps({"planner": __version__, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def solve_scenario(scenario: Scenario) -> str:
    """Solve a scenario; return a `SolvedScenario` as text."""
    try:
        documents = scenario.documents()
        budget = Budget(seconds=scenario.options.time_limit, seed=scenario.options.seed)
        study = solve(documents, budget)
        if scenario.options.hold_limits:
            study = _held(documents, study, budget, scenario.options)
        solved = SolvedScenario(status=study.plan.status, plan=dump_yaml(study.plan))
    except InfeasibleError as error:
        solved = SolvedScenario(status="infeasible", message=str(error))
    except NoPlanError as error:
        solved = SolvedScenario(status="no plan", message=str(error))
    except PlannerError as error:
        solved = SolvedScenario(status="failed", message=str(error))
    return dump_yaml(solved)


def _held(documents: Documents, study: Study, budget: Budget, options: Options) -> Study:
    """Return a study whose simulated limits hold, or the least excess that the budget allowed."""

    def again(cuts: tuple[AnyCut, ...]) -> Study:
        return solve(documents, budget, wishes=Wishes(cuts=cuts))

    alone = len(documents.workload.jobs) == 1
    return refine(study, lambda one: _simulation(one, options), budget, again if alone else None).study


def _simulation(study: Study, options: Options) -> SimulationResult | None:
    """Return the simulation of a plan."""
    return simulate_plan(study.problems, study.plan, seed=options.seed, requests=options.requests)


def measure_scenario(scenario: Scenario, solved_text: str) -> str:
    """Simulate the plan of a scenario if that is asked for; return its `Figures` as JSON."""
    solved = loads(solved_text, SolvedScenario)
    if solved.plan is None:
        return Figures(decisions={}, metrics={}).model_dump_json()
    documents, plan = scenario.documents(), loads(solved.plan, Plan)
    result, message = None, ""
    if scenario.options.simulate:
        try:
            result = _simulation(study_of(documents, plan), scenario.options)
        except SimulationError as error:
            message = f"in simulation {error}"
    found = dict(metrics(documents, plan, result))
    return Figures(decisions=dict(decisions(plan)), metrics=found, message=message).model_dump_json()


def decisions(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what a plan decides, by name."""
    for job in plan.jobs:
        prefix = f"{job.name}." if len(plan.jobs) > 1 else ""
        for name, value in _decisions(job):
            yield prefix + name, value


def _decisions(job: JobPlan) -> Iterator[tuple[str, str]]:
    if isinstance(job, TrainingPlan | ServingPlan):
        for name, value in job.strategy.model_dump(exclude_defaults=True).items():
            yield name, str(value)
    if isinstance(job, ServingPlan):
        yield "replicas", str(len(job.replicas))
        if job.prefill is not None:
            yield "prefill replicas", str(len(job.prefill.replicas))
            for name, value in job.prefill.strategy.model_dump(exclude_defaults=True).items():
                yield f"prefill {name}", str(value)
        yield "max_batch", str(job.batching.max_batch)
        for stage in job.replicas[0].stages:
            yield f"{stage.stage}.cores", str(stage.cores)
        for transfer in job.replicas[0].transfers:
            yield f"{transfer.name}.mode", transfer.mode


def metrics(documents: Documents, plan: Plan, result: SimulationResult | None) -> Iterator[tuple[str, float]]:
    """Yield the figures of a plan: objective, proof, GPUs, price, predicted and simulated times, links."""
    yield "objective", plan.objective.value
    yield "bound", plan.bound
    yield "gap", plan.gap
    used = {gpu for job in plan.jobs for gpu in job.gpus()}
    yield "gpus", float(len(used))
    price = _price(documents, {gpu.split("/", 1)[0] for gpu in used})
    if price is not None:
        yield "price_per_hour", price
    for job in plan.jobs:
        prefix = f"{job.name}." if len(plan.jobs) > 1 else ""
        if isinstance(job, TrainingPlan | ServingPlan):
            for name, value in job.prediction.model_dump(exclude={"breakdown"}).items():
                yield prefix + name, float(value)
    for simulated in result.jobs if result else []:
        prefix = f"{simulated.name}." if len(plan.jobs) > 1 else ""
        for name, value in _simulated(simulated):
            yield f"{prefix}simulated_{name}", value
    busiest = max((link.mean for link in result.links), default=None) if result else None
    if busiest is not None:
        yield "simulated_busiest_link", busiest


def _price(documents: Documents, nodes: set[str]) -> float | None:
    """Return what the nodes in use cost, USD/h, ``None`` where a price is unknown."""
    prices = {machine.name: machine.price for machine in documents.topology.document.machines}
    found = [prices.get(documents.topology.node_of[node].machine.name) for node in sorted(nodes)]
    stated = [price.value for price in found if price is not None]
    return sum(stated) if stated and len(stated) == len(found) else None


def _simulated(job: JobSimulation) -> Iterator[tuple[str, float]]:
    if job.step_time is not None:
        yield "step_time", job.step_time
    if job.throughput is not None:
        yield "throughput", job.throughput
    if job.slo_met is not None:
        yield "slo_met", float(job.slo_met)
    for name, sample in job.latency.items():
        for figure in ("mean", "p50", "p95", "p99"):
            yield f"{name}_{figure}", float(getattr(sample, figure))
        for end, value in zip(("low", "high"), sample.p99_interval, strict=True):
            if math.isfinite(value):
                yield f"{name}_p99_{end}", float(value)


def outcome_of(scenario: Scenario, solved_text: str, figures_text: str) -> Outcome:
    """Return the outcome of a scenario from its two halves."""
    solved = loads(solved_text, SolvedScenario)
    figures = Figures.model_validate_json(figures_text)
    return Outcome(
        labels=scenario.labels,
        status=solved.status,
        message=solved.message or figures.message,
        decisions=figures.decisions,
        metrics=figures.metrics,
    )
