"""Re-plan a service after a failure: replicas whose GPUs are still there stay, with their CPU stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from planner.costs.host import service_time
from planner.errors import InfeasibleError
from planner.placement import (
    CpuPlacement,
    Replica,
    ServingPlan,
    ServingProblem,
    judge_serving,
    limits_broken,
    stage_latency,
)
from planner.placement.problem import gpu_numbers
from planner.placement.serving import serving_problems
from planner.schema import compress
from planner.solve.budget import Budget
from planner.solve.degrees import level_sizes
from planner.solve.host import place_host
from planner.solve.keeping import too_few
from planner.solve.moves import service_moves
from planner.solve.serving import PlacedService, replica_chains, replica_slots


@dataclass(frozen=True)
class KeptService:
    """The best service that keeps what can stay.

    Attributes
    ----------
    limit
        Moves that were allowed.
    least
        Fewest moves of any service that holds the limits.
    """

    placed: PlacedService
    limit: int
    least: int


def keep_service(problem: ServingProblem, plan: ServingPlan, most: int | None, budget: Budget) -> KeptService:
    """Return the best service of at most ``most`` moves; when ``None``, as many as replicas are gone.

    The degrees of a replica stay, their number is free. Replicas stay with their GPUs, NUMA domains and
    cores; new ones take free GPUs and cores.

    Raises
    ------
    InfeasibleError
        If no number of replicas holds the limits, or only with more moves.
    """
    found = [
        (placed, len(service_moves(plan, placed.strategy, placed.replicas)))
        for placed in _services(problem, plan, budget)
    ]
    if not found:
        name, degrees = problem.job.name, plan.strategy
        raise InfeasibleError(
            f"job {name!r}: replicas of tp {degrees.tp}, pp {degrees.pp} hold the limits in no number",
            [
                f"replicas of tp {degrees.tp}, pp {degrees.pp}",
                f"{problem.num_gpus} GPUs",
                "limits of the job",
            ],
            "solve anew without --keep; every replica will move",
        )
    least = min(moves for _, moves in found)
    there = set(problem.hierarchy.gpus)
    gone = sum(not set(replica.gpus()) <= there for replica in plan.replicas)
    limit = max(least, gone) if most is None else most
    within = [item for item in found if item[1] <= limit]
    if not within:
        raise too_few(problem.job.name, limit, least)
    placed, _ = min(within, key=lambda item: (item[0].value, item[1]))
    return KeptService(placed, limit, least)


def _services(problem: ServingProblem, plan: ServingPlan, budget: Budget) -> Iterator[PlacedService]:
    """Yield legal services that keep replicas, one for each number of replicas."""
    there = set(problem.hierarchy.gpus)
    alive = [replica for replica in plan.replicas if set(replica.gpus()) <= there]
    size = plan.strategy.tp * plan.strategy.pp
    for dp in problem.job.degrees.replicas or range(1, problem.num_gpus // size + 1):
        if dp * size > problem.num_gpus:
            continue
        kept = _at_rate(problem, alive[:dp], problem.job.traffic.rate / dp)
        added = _added(problem, plan, kept, dp - len(kept), budget)
        if added is None:
            continue
        strategy = plan.strategy.model_copy(update={"dp": dp})
        placed = _judged(problem, plan.model_copy(update={"strategy": strategy, "replicas": [*kept, *added]}))
        if placed is not None:
            yield placed
        if budget.over:
            return


def _at_rate(problem: ServingProblem, replicas: list[Replica], rate: float) -> list[Replica]:
    """Return replicas with the figures of their CPU stages at another rate, requests/s each."""
    stages = {stage.name: stage for stage in (*problem.job.before, *problem.job.after)}

    def moved(replica: Replica, item: CpuPlacement) -> CpuPlacement:
        stage = stages[item.stage]
        domain = problem.topology.node_of[replica.node].machine.numa_named(item.numa)
        busy = rate * service_time(stage, domain) * stage.parallel / item.cores
        latency = stage_latency(stage, domain, rate, item.cores)
        return item.model_copy(update={"utilisation": busy, "latency": latency})

    known = [replica for replica in replicas if all(item.stage in stages for item in replica.stages)]
    return [
        replica.model_copy(update={"stages": [moved(replica, item) for item in replica.stages]})
        for replica in known
    ]


def _added(
    problem: ServingProblem, plan: ServingPlan, kept: list[Replica], count: int, budget: Budget
) -> list[Replica] | None:
    """Return ``count`` replicas on free GPUs and cores, ``None`` where there is no room."""
    if not count:
        return []
    used = {gpu for replica in kept for gpu in replica.gpus()}
    free = [gpu for gpu in problem.hierarchy.gpus if gpu not in used]
    strategy = plan.strategy.model_copy(update={"dp": count})
    if len(free) < count * strategy.tp * strategy.pp:
        return None
    part = replace(problem, hierarchy=problem.hierarchy.subset(gpu_numbers(problem, free).tolist()))
    sizes = level_sizes(part.hierarchy)
    for chain in sorted(replica_chains(sizes, strategy), reverse=True):
        slots = replica_slots(part, strategy, chain, budget)
        if slots.groups is not None:
            return _hosted(problem, plan, kept, slots.groups, count, budget)
    return None


def _hosted(
    problem: ServingProblem,
    plan: ServingPlan,
    kept: list[Replica],
    groups: list[list[str]],
    count: int,
    budget: Budget,
) -> list[Replica] | None:
    """Return replicas on some of the groups of GPUs, CPU stages on the cores that the kept ones leave."""
    by_node: dict[str, list[list[str]]] = {}
    for group in groups:
        by_node.setdefault(group[0].split("/")[0], []).append(group)
    rate = problem.job.traffic.rate / (len(kept) + count)
    names = _free_names({replica.name for replica in kept})
    added: list[Replica] = []
    for node, here in by_node.items():
        taken: Counter[str] = Counter()
        for replica in kept:
            if replica.node == node:
                taken.update({stage.numa: stage.cores for stage in replica.stages})
        firsts = [group[0].split("/", 1)[1] for group in here]
        machine = problem.topology.node_of[node].machine
        for number in range(min(len(here), count - len(added)), 0, -1):
            host = place_host(problem, machine, firsts, number, rate, budget, taken)
            if host is None:
                continue
            added += [
                Replica(
                    name=next(names),
                    node=node,
                    devices=compress(here[slot]),
                    stages=stages,
                    transfers=transfers,
                )
                for slot, stages, transfers in zip(host.slots, host.stages, host.transfers, strict=True)
            ]
            break
    return added if len(added) == count else None


def _free_names(used: set[str]) -> Iterator[str]:
    return (name for name in (f"replica-{number}" for number in range(10**9)) if name not in used)


def _judged(problem: ServingProblem, plan: ServingPlan) -> PlacedService | None:
    """Return the plan's service with what it reaches, ``None`` where it breaks a rule or a limit."""
    if any(stage.latency == float("inf") for replica in plan.replicas for stage in replica.stages):
        return None
    if any(serving_problems(problem, plan)):
        return None
    outcome = judge_serving(problem, plan.strategy, plan.replicas)
    if limits_broken(problem, outcome):
        return None
    value = problem.value(float(len(plan.gpus())), outcome.latency_p99)
    return PlacedService(plan.strategy, plan.replicas, outcome, value)
