"""Why the CPU stages of a service are where they are: another domain, fewer cores, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner import units
from planner.placement import Decision, ServingProblem
from planner.placement.plan import CpuPlacement, Replica, Transfer
from planner.placement.serving import host_latency, host_options
from planner.solve.serving import PlacedService
from planner.topology import MachineType


def host_decisions(problem: ServingProblem, best: PlacedService) -> Iterator[Decision]:
    """Yield, per CPU stage of the first replica, the best other NUMA domain, and a worker fewer."""
    replica = best.replicas[0]
    machine = problem.topology.node_of[replica.node].machine
    rate = problem.job.traffic.rate / best.strategy.dp
    now = host_latency(problem, replica, rate)
    parallel = {stage.name: stage.parallel for stage in (*problem.job.before, *problem.job.after)}
    for item in replica.stages:
        others = [
            (host_latency(problem, moved, rate), moved)
            for domain in machine.numa
            if domain.name != item.numa and domain.cores >= item.cores
            for moved in (_moved(problem, machine, replica, item, domain.name),)
            if moved is not None
        ]
        if others:
            seconds, moved = min(others, key=lambda pair: pair[0])
            other = next(one.numa for one in moved.stages if one.stage == item.stage)
            yield _decision(f"NUMA domain of {item.stage}", item.numa, other, now, seconds, best.value)
        fewer = item.cores - parallel[item.stage]
        if fewer > 0:
            seconds = host_latency(problem, _with(replica, item, cores=fewer), rate)
            yield _decision(f"cores of {item.stage}", str(item.cores), str(fewer), now, seconds, best.value)


def _decision(title: str, chosen: str, alternative: str, now: float, then: float, value: float) -> Decision:
    if math.isinf(then):
        reason = f"fewer than {chosen} cannot keep up with the requests"
        return Decision(decision=title, chosen=chosen, alternative=alternative, loss=None, reason=reason)
    text = f"{units.show(then, 's')} instead of {units.show(now, 's')} in CPU stages and transfers"
    return Decision(
        decision=title, chosen=chosen, alternative=alternative, loss=(then - now) / value, reason=text
    )


def _with(replica: Replica, item: CpuPlacement, **fields: object) -> Replica:
    stages = [one.model_copy(update=fields) if one.stage == item.stage else one for one in replica.stages]
    return replica.model_copy(update={"stages": stages})


def _moved(
    problem: ServingProblem, machine: MachineType, replica: Replica, item: CpuPlacement, domain: str
) -> Replica | None:
    """Return the replica with one stage in another domain, its transfers in the best mode from there."""
    ends = {"in": problem.job.before[-1:], "out": problem.job.after[:1]}
    domains = {one.name for one in machine.numa}
    transfers: list[Transfer] = []
    for transfer in replica.transfers:
        into = transfer.source in domains
        way = "in" if into else "out"
        if not any(stage.name == item.stage for stage in ends[way]):
            transfers.append(transfer)
            continue
        gpu = transfer.target if into else transfer.source
        options = host_options(problem, machine, domain, gpu, transfer.size, "in" if into else "out")
        if not options:
            return None
        change = {"source" if into else "target": domain, "mode": options[0].mode}
        transfers.append(transfer.model_copy(update=change))
    return _with(replica.model_copy(update={"transfers": transfers}), item, numa=domain)
