"""Simulate one optimizer step of a training plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import simpy

from planner.costs.pipeline import stage_times, update_times
from planner.placement import TrainingOutcome, TrainingPlan, TrainingProblem, judge_plan
from planner.simulate.cabling import Cable, Cabling
from planner.simulate.carriers import Carrier, SharedLinks, Uncontended
from planner.simulate.disturbed import disturbed_replicas, faulty_cabling
from planner.simulate.link_use import link_uses
from planner.simulate.outcome import Busy, JobOutcome, both_ends
from planner.simulate.pipeline import Gradients, Hops, Note, StepModel, StepRun, run_step
from planner.simulate.recovery import run_job
from planner.simulate.result import JobSimulation, LinkUse
from planner.simulate.scenario import Scenario
from planner.simulate.schedule import pipeline_schedule
from planner.simulate.steady import Cycle, extended, extended_use, find_cycle, first_count
from planner.simulate.step_traffic import StepTraffic
from planner.simulate.symmetry import Reduced, TransferClass, reduce_network
from planner.topology import Router

ScheduleName = Literal["plan", "zero-bubble"]


def simulate_training(
    problem: TrainingProblem,
    plan: TrainingPlan,
    router: Router | None = None,
    *,
    schedule: ScheduleName = "plan",
    scenario: Scenario | None = None,
    seed: int = 0,
) -> JobOutcome:
    """Simulate one step of a plan.

    Parameters
    ----------
    router
        Finds routes; one of the problem's topology when absent.
    schedule
        ``plan``: 1F1B, interleaved with several chunks per stage; ``zero-bubble``: ZB-H1.
    scenario
        What goes wrong.
    seed
        Of the scenario's jitter and random failures.

    Returns
    -------
    JobOutcome
        ``critical_path`` is the same step with every transfer alone on its links, so never longer.

    Notes
    -----
    Compute times, with the tensor, context and expert communication inside, are those of the cost model.
    Activations cross the links as transfers at the efficiency that the cost model gives the route, or slower
    where links are shared; unless the calibration lets them overlap, a stage is held until its transfer has
    gone. Gradients follow their last backward pass as the cost model lets them overlap with it.
    The gradients of weights take half of a backward pass, and no longer than a forward pass: of three equal
    products of a layer one is theirs.
    Under a scenario the step is that of the slowest replica; the rank that is last holds up its stage.
    """
    scenario = scenario or Scenario(name="none")
    outcome = judge_plan(problem, plan)
    sound = Cabling(router or Router(problem.topology))
    cabling = faulty_cabling(problem, plan, scenario) if scenario.links else sound
    traffic = StepTraffic(problem, plan, outcome, cabling)
    hops, gradients = traffic.hops(), traffic.gradients()
    reduced = reduce_network([*hops.values(), *gradients], cabling.cables)
    between, within = dict(zip(hops, reduced.bundles, strict=False)), reduced.bundles[len(hops) :]
    model = step_model(problem, plan, outcome, traffic, between, within)
    if schedule == "zero-bubble":
        model = split_backward(model)
    count, shared_links = plan.num_micro_batches, partial(SharedLinks, reduced=reduced)
    work = pipeline_schedule(model.stages, model.virtual, count, split=model.weight is not None)
    replicas = list(disturbed_replicas(model, plan, scenario, work, seed))
    slowest = max((run_replica(each, count, shared_links) for each in replicas), key=_seconds)
    shortest = max((run_replica(each, count, Uncontended) for each in replicas), key=_seconds)[0]
    found = step_outcome(problem, plan, traffic, reduced, model, slowest, shortest.seconds)
    course = run_job(scenario, plan.ranks(), found.horizon, seed)
    return found if course is None else replace(found, job=found.job.model_copy(update={"run": course}))


Run = tuple[StepRun, Cycle | None, Carrier]
"""What happened in the step of a replica, the cycle that its micro-batches repeat, and what carried it."""


def _seconds(found: Run) -> float:
    return found[0].seconds


def step_outcome(
    problem: TrainingProblem,
    plan: TrainingPlan,
    traffic: StepTraffic,
    reduced: Reduced,
    model: StepModel,
    slowest: tuple[StepRun, Cycle | None, SharedLinks],
    critical_path: float,
) -> JobOutcome:
    """Return the record and the links of a step that ends with its slowest replica."""
    run, cycle, shared = slowest
    record = _record(problem, plan, run, critical_path, run.attribution(model.update))
    return JobOutcome(record, _links(plan, traffic, reduced, shared, cycle), run.seconds)


def replica_plan(plan: TrainingPlan, num_micro_batches: int) -> TrainingPlan:
    """Return a plan whose replicas all have so many micro-batches."""
    return plan.model_copy(update={"num_micro_batches": num_micro_batches})


def split_backward(model: StepModel) -> StepModel:
    """Return a step whose backward passes are split into those for inputs and those for weights."""
    weight = np.minimum(model.forward, model.backward / 2.0)
    return replace(model, backward=model.backward - weight, weight=weight)


AnyCarrier = TypeVar("AnyCarrier", bound=Carrier)


def run_replica(
    model: StepModel, num_micro_batches: int, make: Callable[[simpy.Environment], AnyCarrier]
) -> tuple[StepRun, Cycle | None, AnyCarrier]:
    """Run a step: of many micro-batches as many as show the cycle that the others repeat."""
    count = num_micro_batches if model.factors else first_count(model, num_micro_batches)
    while True:
        env = simpy.Environment()
        carrier = make(env)
        run = run_step(env, model, carrier, count)
        if count == num_micro_batches:
            return run, None, carrier
        cycle = find_cycle(model, run, num_micro_batches - count)
        if cycle is not None:
            return extended(model, run, cycle), cycle, carrier
        count = min(2 * count, num_micro_batches)


def step_model(
    problem: TrainingProblem,
    plan: TrainingPlan,
    outcome: TrainingOutcome,
    traffic: StepTraffic,
    hops: Hops,
    gradients: Sequence[Sequence[TransferClass]],
) -> StepModel:
    """Return the step of a plan: times of the cost model, and transfers between and within its stages."""
    costs, strategy = outcome.costs, plan.strategy
    compute = stage_times(costs, 0, outcome.dense, outcome.moe, outcome.again) - costs.hop[0]
    share = float(costs.backward_share[0])
    hidden = costs.overlap * float(costs.hideable[0])
    fixed, whole = traffic.alpha / strategy.virtual, (traffic.alpha + traffic.beta) / strategy.virtual
    synchronisation = [
        Gradients(classes, float(fixed[stage]), hidden * float(whole[stage])) if whole[stage] > 0.0 else None
        for stage, classes in enumerate(gradients)
    ]
    return StepModel(
        strategy.virtual,
        (1.0 - share) * compute / strategy.virtual,
        share * compute / strategy.virtual,
        update_times(costs, 0, outcome.dense, outcome.moe),
        hops,
        problem.calibration.number("pipeline_overlap"),
        synchronisation,
    )


def _record(
    problem: TrainingProblem,
    plan: TrainingPlan,
    run: StepRun,
    critical_path: float,
    attribution: dict[str, float],
) -> JobSimulation:
    tokens = problem.job.global_batch * problem.job.sequence
    return JobSimulation(
        name=plan.name,
        kind="training",
        step_time=run.seconds,
        critical_path=critical_path,
        bubble=run.bubble,
        throughput=tokens / run.seconds,
        utilisation={f"stage {stage}": float(busy) / run.seconds for stage, busy in enumerate(run.computed)},
        attribution=attribution,
        timeline=both_ends([_busy(note, plan.strategy.virtual) for note in run.notes]),
    )


def _busy(note: Note, virtual: int) -> Busy:
    """Name a note: ``F3`` for the forward pass of micro-batch 3, ``F3.1`` for its chunk 1."""
    name: str = "reduce gradients" if note.category == "communication" else note.category
    if note.op is not None:
        chunk = f".{note.op.chunk}" if virtual > 1 else ""
        sent = "send " if note.category == "communication" else ""
        name = f"{sent}{note.op.kind[0].upper()}{note.op.micro_batch}{chunk}"
    return Busy(note.start, f"stage {note.stage}", note.end, name, note.category)


def _links(
    plan: TrainingPlan, traffic: StepTraffic, reduced: Reduced, shared: SharedLinks, cycle: Cycle | None
) -> list[LinkUse]:
    """Return the use of the links of the first replica's nodes; of all links where it is on every node."""
    everywhere = {name.split("/", 1)[0] for name in plan.ranks()} <= traffic.nodes

    def wanted(cable: Cable) -> bool:
        ends = {cable.source.split("/", 1)[0], cable.target.split("/", 1)[0]}
        return everywhere or bool(ends & traffic.nodes)

    background = traffic.background()
    use = shared.network.utilisation()
    waiting: dict[int, float] = defaultdict(float)
    for time, row, lost in shared.lost:
        waiting[row] += lost * (
            1 if cycle is None or not cycle.begin <= time < cycle.end else 1 + cycle.times
        )
    if cycle is not None:
        use = extended_use(use, cycle)
    return link_uses(traffic.cabling.cables, reduced.members, use, waiting, background, wanted)
