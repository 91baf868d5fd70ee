"""Traffic of whole plans on the links of a machine, and whether a plan states it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from planner.placement import (
    EnsemblePlan,
    EnsembleProblem,
    JobPlan,
    LinkLoad,
    OperatorsPlan,
    OperatorsProblem,
    RecommenderPlan,
    RecommenderProblem,
    ServingPlan,
    ServingProblem,
    TrainingPlan,
    TrainingProblem,
)
from planner.placement.ensemble_flows import ensemble_flows
from planner.placement.exchanges import recommender_flows
from planner.placement.flows import link_loads, representative_nodes, serving_flows, training_flows
from planner.placement.graph_flows import operator_flows
from planner.placement.mixed import AnyProblem, MixedTrainingProblem
from planner.study.inputs import Study
from planner.topology import Router, Topology

NUM_LINKS = 256
"""Most links that a plan lists: enough to colour the pictures of a report."""
RELATIVE = 1e-6
"""Difference of a load that counts as another one, a ratio."""


def busiest_links(topology: Topology, placed: Mapping[str, tuple[AnyProblem, JobPlan]]) -> list[LinkLoad]:
    """Return the links under the traffic of all jobs, busiest first, as many as the picture needs."""
    ordered = sorted(
        all_links(topology, placed).values(),
        key=lambda link: (-link.utilisation, link.source, link.target),
    )
    return ordered[:NUM_LINKS]


def all_links(
    topology: Topology, placed: Mapping[str, tuple[AnyProblem, JobPlan]]
) -> dict[tuple[str, str], LinkLoad]:
    """Return the links under the traffic of all jobs, by their ends.

    Training traffic is symmetric over nodes; two representative nodes stand for all.
    """
    router = Router(topology)
    total: dict[tuple[str, str], LinkLoad] = {}
    for problem, plan in placed.values():
        for link in _loads(problem, plan, router):
            old = total.get((link.source, link.target))
            load = link.load + (old.load if old else 0.0)
            update = {"load": load, "utilisation": load / link.rate}
            total[link.source, link.target] = link.model_copy(update=update)
    return total


def misstated_links(study: Study) -> Iterator[str]:
    """Yield the links of a legal plan whose stated rate or load is not what its jobs give, as sentences."""
    placed = {job.name: (study.problems[job.name], job) for job in study.plan.jobs}
    found = all_links(study.topology, placed)
    for link in study.plan.links:
        where, own = f"{link.source} -> {link.target}", found.get((link.source, link.target))
        if own is None:
            yield f"{where} carries nothing; the plan states {link.load:.6g} bytes/s"
            continue
        for what in ("rate", "load", "utilisation"):
            stated, is_so = getattr(link, what), getattr(own, what)
            if abs(stated - is_so) > RELATIVE * max(abs(is_so), 1e-12):
                yield f"{where}: {what} {stated:.6g} stated, the judge finds {is_so:.6g}"


def _loads(problem: AnyProblem, plan: JobPlan, router: Router) -> list[LinkLoad]:
    every = 10**9
    if isinstance(problem, MixedTrainingProblem):
        problem = problem.kinds[0]  # bytes sent do not depend on the device
    if isinstance(problem, TrainingProblem) and isinstance(plan, TrainingPlan):
        nodes = representative_nodes(plan.strategy, plan.ranks())
        return link_loads(training_flows(problem, plan, nodes), router, plan.prediction.step_time, every)
    if isinstance(problem, ServingProblem) and isinstance(plan, ServingPlan):
        return link_loads(serving_flows(problem, plan), router, 1.0, every)
    if isinstance(problem, OperatorsProblem) and isinstance(plan, OperatorsPlan):
        latency = plan.prediction.latency if plan.objective == "latency" else None
        seconds = latency or plan.prediction.interval
        return link_loads(operator_flows(problem, plan), router, seconds, every) if seconds > 0.0 else []
    if isinstance(problem, EnsembleProblem) and isinstance(plan, EnsemblePlan):
        return link_loads(list(ensemble_flows(problem, plan)), router, 1.0, every)
    if isinstance(problem, RecommenderProblem) and isinstance(plan, RecommenderPlan):
        flows = list(recommender_flows(problem, plan))
        return link_loads(flows, router, plan.prediction.iteration_time, every)
    return []
