"""A scenario's faults in a training step: slower links, ways around failed ones, slower passes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from planner.errors import SimulationError
from planner.placement import TrainingPlan, TrainingProblem, gpu_numbers
from planner.placement.flows import StepVolumes
from planner.placement.groups import mesh_of
from planner.simulate.cabling import Cabling, Hop
from planner.simulate.fluid import FloatArray
from planner.simulate.pipeline import StepModel
from planner.simulate.scenario import Scenario
from planner.simulate.schedule import Schedule
from planner.simulate.statistics import named_stream
from planner.simulate.step_traffic import INSIDE_STAGES
from planner.topology import Router


def faulty_cabling(problem: TrainingProblem, plan: TrainingPlan, scenario: Scenario) -> Cabling:
    """Return the links of a machine as a scenario leaves them.

    Raises
    ------
    SimulationError
        If a link does not exist, or carries traffic whose time is part of the stage times.
    """
    sound = Cabling(Router(problem.topology))
    shares: dict[Hop, float] = {(fault.source, fault.target): fault.share for fault in scenario.links}
    for source, target in shares:
        if not sound.router.has_hop((source, target)):
            raise SimulationError(
                f"scenario {scenario.name!r}: there is no link from {source!r} to {target!r}; links are "
                "named as in the output of a simulation"
            )
    inside = _inside_stages(problem, plan, sound, shares)
    if inside:
        raise SimulationError(
            f"scenario {scenario.name!r}: the link {' -> '.join(inside)} carries traffic inside a stage, "
            "whose time is part of its passes; state the GPUs of that stage as stragglers instead"
        )
    failed = {hop for hop, share in shares.items() if share == 0.0}
    return Cabling(Router(problem.topology, without=failed), shares)


def _inside_stages(
    problem: TrainingProblem, plan: TrainingPlan, cabling: Cabling, wanted: Collection[Hop]
) -> Hop | None:
    if not wanted:
        return None
    causes = (*INSIDE_STAGES, "data") if plan.strategy.sharding == "parameters" else INSIDE_STAGES
    mesh = mesh_of(plan.strategy, gpu_numbers(problem, plan.ranks()))
    for flow in StepVolumes(problem, plan).flows(mesh):
        if flow.cause in causes:
            crossed = cabling.router.hops(flow.source, flow.target)
            found = next((hop for hop in crossed if hop in wanted), None)
            if found is not None:
                return found
    return None


def slowdowns(plan: TrainingPlan, scenario: Scenario) -> FloatArray:
    """Return the slowest rank of every stage of every replica, shape (dp, pp); 1 where none is slow."""
    strategy = plan.strategy
    slow = {gpu: straggler.slowdown for straggler in scenario.stragglers for gpu in straggler.gpus}
    unknown = sorted(set(slow) - set(plan.ranks()))
    if unknown:
        raise SimulationError(
            f"scenario {scenario.name!r}: job {plan.name!r} does not use {', '.join(unknown)}; name GPUs of "
            "its plan as NODE/GPU"
        )
    ranks = np.asarray([slow.get(gpu, 1.0) for gpu in plan.ranks()])
    found: FloatArray = ranks.reshape(strategy.pp, strategy.dp, -1).max(axis=2).T
    return found


def disturbed_replicas(
    model: StepModel, plan: TrainingPlan, scenario: Scenario, schedule: Schedule, seed: int
) -> Iterator[StepModel]:
    """Yield the step of every replica that may be the slowest: each, or each kind where none has jitter."""
    factors = slowdowns(plan, scenario)
    if scenario.jitter == 0.0:
        factors = np.unique(factors, axis=0)
    ranks = plan.strategy.tp * plan.strategy.cp
    for replica, slow in enumerate(factors):
        changed = replace(
            model,
            forward=model.forward * slow,
            backward=model.backward * slow,
            weight=None if model.weight is None else model.weight * slow,
        )
        if scenario.jitter > 0.0:
            stream = named_stream(seed, f"jitter of replica {replica}")
            drawn = [1.0 + scenario.jitter * _slowest(stream, len(work), ranks) for work in schedule]
            changed = replace(changed, factors=drawn)
        yield changed


def _slowest(stream: np.random.Generator, count: int, ranks: int) -> FloatArray:
    """Return draws of the largest of some exponential variables of mean 1."""
    uniform = stream.random(count)
    drawn: FloatArray = -np.log1p(-(uniform ** (1.0 / ranks)))
    return drawn
