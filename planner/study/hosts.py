"""Jobs that share a single node: each gets cores of its own beside its GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from planner.placement import EnsemblePlan, JobPlan, Plan, ServingPlan
from planner.placement.bindings import as_core_list, core_numbers
from planner.schema import expand
from planner.topology import NumaDomain, Topology


def part_of(topology: Topology, gpus: Sequence[str], cores: Mapping[str, Sequence[int]]) -> Topology:
    """Return a topology of a single node with some of its GPUs and cores only.

    Parameters
    ----------
    cores
        Core numbers by NUMA domain; a domain keeps at least one core.
    """
    (node,) = topology.nodes
    kept = {gpu.split("/", 1)[1] for gpu in gpus}
    gone = {gpu.name for gpu in node.machine.gpus} - kept
    machine = replace(
        node.machine,
        gpus=tuple(gpu for gpu in node.machine.gpus if gpu.name in kept),
        numa=tuple(_with_cores(domain, cores[domain.name]) for domain in node.machine.numa),
        edges=tuple(edge for edge in node.machine.edges if not {edge.source, edge.target} & gone),
    )
    return replace(topology, nodes=(replace(node, machine=machine),))


def _with_cores(domain: NumaDomain, numbers: Sequence[int]) -> NumaDomain:
    return domain.model_copy(update={"cores": len(numbers), "core_list": as_core_list(numbers)})


def fair_part(topology: Topology, gpus: Sequence[str]) -> Topology:
    """Return the part of a single node that belongs to some of its GPUs: of each domain a share of cores.

    Disjoint GPUs have disjoint cores. Nodes of a cluster are given to jobs as a whole, so there the topology
    stays as it is.
    """
    if len(topology.nodes) > 1 or len(gpus) == len(topology.gpus):
        return topology
    (node,) = topology.nodes
    places = [place for place, gpu in enumerate(topology.gpus) if gpu in set(gpus)]
    cores: dict[str, list[int]] = {}
    for domain in node.machine.numa:
        numbers = core_numbers(node.machine, domain.name)
        ends = [len(numbers) * place // len(topology.gpus) for place in range(len(topology.gpus) + 1)]
        own = [number for place in places for number in numbers[ends[place] : ends[place + 1]]]
        cores[domain.name] = own or numbers[-1:]
    return part_of(topology, gpus, cores)


def stated_part(topology: Topology, plan: Plan, job: JobPlan) -> Topology:
    """Return what a plan leaves of a single node for a job: its GPUs, and the cores that no other uses."""
    if len(topology.nodes) > 1:
        return topology
    (node,) = topology.nodes
    taken: dict[str, set[int]] = {domain.name: set() for domain in node.machine.numa}
    for other in plan.jobs:
        if other.name != job.name:
            for (_, numa), numbers in _stage_cores(other).items():
                taken.get(numa, set()).update(numbers)
    cores = {}
    for name, numbers in taken.items():
        own = core_numbers(node.machine, name)
        cores[name] = [number for number in own if number not in numbers] or own[-1:]
    return part_of(topology, job.gpus(), cores)


def clashing_cores(plan: Plan) -> list[str]:
    """Return a sentence for every NUMA domain in which CPU stages of two jobs have cores in common."""
    found = []
    for first, second in combinations(plan.jobs, 2):
        others = _stage_cores(second)
        for (node, numa), numbers in _stage_cores(first).items():
            both = numbers & others.get((node, numa), set())
            if both:
                found.append(
                    f"{first.name} and {second.name} both use cores {as_core_list(both)} of {node}/{numa}"
                )
    return found


def _stage_cores(job: JobPlan) -> dict[tuple[str, str], set[int]]:
    """Return the cores of a job's CPU stages by node and NUMA domain."""
    found: dict[tuple[str, str], set[int]] = {}
    if isinstance(job, ServingPlan):
        for replica in job.replicas:
            for stage in replica.stages:
                numbers = (int(number) for number in expand(f"[{stage.core_list}]"))
                found.setdefault((replica.node, stage.numa), set()).update(numbers)
    if isinstance(job, EnsemblePlan):
        for pool in job.pools:
            numbers = (int(number) for number in expand(f"[{pool.core_list}]"))
            found.setdefault((pool.node, pool.numa), set()).update(numbers)
    return found
