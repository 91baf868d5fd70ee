"""Simulate one optimizer step of a training plan."""

from __future__ import annotations

from collections.abc import Sequence

import simpy

from planner.costs.pipeline import stage_times, update_times
from planner.placement import TrainingOutcome, TrainingPlan, TrainingProblem, judge_training
from planner.simulate.cabling import Cable, Cabling
from planner.simulate.carriers import SharedLinks, Uncontended
from planner.simulate.link_use import link_uses
from planner.simulate.outcome import JobOutcome, both_ends
from planner.simulate.pipeline import Gradients, Hops, StepModel, StepRun, run_step
from planner.simulate.result import JobSimulation, LinkUse
from planner.simulate.schedule import pipeline_schedule
from planner.simulate.step_traffic import StepTraffic
from planner.simulate.symmetry import Reduced, TransferClass, reduce_network
from planner.topology import Router


def simulate_training(problem: TrainingProblem, plan: TrainingPlan, router: Router | None = None) -> JobOutcome:
    """Simulate one step of a plan.

    Parameters
    ----------
    router
        Finds routes; one of the problem's topology when absent.

    Returns
    -------
    JobOutcome
        ``critical_path`` is the same step with every transfer alone on its links, so never longer.

    Notes
    -----
    Compute times, with the tensor, context and expert communication inside, are those of the cost model.
    Activations cross the links as transfers at the cost model's rate, or less where links are shared; unless the
    calibration lets them overlap, a stage is held until its transfer has gone. Gradients follow their last backward
    pass as the cost model lets them overlap with it.
    """
    outcome = judge_training(problem, plan.strategy, plan.layers, plan.ranks())
    cabling = Cabling(router or Router(problem.topology))
    traffic = StepTraffic(problem, plan, outcome, cabling)
    hops, gradients = traffic.hops(), traffic.gradients()
    reduced = reduce_network([*hops.values(), *gradients], cabling.cables)
    between, within = dict(zip(hops, reduced.bundles, strict=False)), reduced.bundles[len(hops) :]
    model = step_model(problem, plan, outcome, traffic, between, within)
    env = simpy.Environment()
    shared = SharedLinks(env, reduced)
    run = run_step(env, model, shared)
    alone = simpy.Environment()
    shortest = run_step(alone, model, Uncontended(alone), trace=False)
    return JobOutcome(
        _record(problem, plan, run, shortest.seconds), _links(plan, traffic, reduced, shared, run), run.seconds
    )


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
    compute = stage_times(costs, 0, outcome.dense, outcome.moe) - costs.hop[0]
    share = float(costs.backward_share[0])
    fixed, whole = traffic.alpha / strategy.virtual, (traffic.alpha + traffic.beta) / strategy.virtual
    synchronisation = [
        Gradients(classes, float(fixed[stage]), costs.overlap * float(whole[stage])) if whole[stage] > 0.0 else None
        for stage, classes in enumerate(gradients)
    ]
    return StepModel(
        pipeline_schedule(strategy.pp, strategy.virtual, plan.num_micro_batches),
        strategy.virtual,
        (1.0 - share) * compute / strategy.virtual,
        share * compute / strategy.virtual,
        update_times(costs, 0, outcome.dense, outcome.moe),
        hops,
        problem.calibration.number("pipeline_overlap"),
        synchronisation,
    )


def _record(problem: TrainingProblem, plan: TrainingPlan, run: StepRun, critical_path: float) -> JobSimulation:
    tokens = problem.job.global_batch * problem.job.sequence
    return JobSimulation(
        name=plan.name,
        kind="training",
        step_time=run.seconds,
        critical_path=critical_path,
        bubble=run.bubble,
        throughput=tokens / run.seconds,
        utilisation={f"stage {stage}": float(busy) / run.seconds for stage, busy in enumerate(run.computed)},
        timeline=both_ends(run.spans),
    )


def _links(
    plan: TrainingPlan, traffic: StepTraffic, reduced: Reduced, shared: SharedLinks, run: StepRun
) -> list[LinkUse]:
    """Return the use of the links of the first replica's nodes; of all links where it is on every node."""
    everywhere = {name.split("/", 1)[0] for name in plan.ranks()} <= traffic.nodes

    def wanted(cable: Cable) -> bool:
        ends = {cable.source.split("/", 1)[0], cable.target.split("/", 1)[0]}
        return everywhere or bool(ends & traffic.nodes)

    background = traffic.background()
    utilisation = shared.network.utilisation()
    return link_uses(traffic.cabling.cables, reduced.members, utilisation, shared.waiting, background, wanted)
