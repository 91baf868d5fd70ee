"""Host side of a placement: which cores and which network port belong to the process of each GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from planner.placement.plan import CpuPlacement, Replica
from planner.placement.records import Binding
from planner.schema import expand
from planner.topology import MachineType
from planner.topology.router import nearest_port


def core_numbers(machine: MachineType, numa: str) -> list[int]:
    """Return the operating-system numbers of the cores of a NUMA domain, counted up where not listed."""
    first = 0
    for domain in machine.numa:
        if domain.name == numa:
            return list(domain.core_numbers or range(first, first + domain.cores))
        first += domain.cores
    raise KeyError(numa)


def as_core_list(numbers: Iterable[int]) -> str:
    """Return core numbers in the kernel's list format, such as ``0-7,16-23``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def gpu_bindings(machine: MachineType, cores_per_gpu: int | None = None) -> list[Binding]:
    """Return, for every GPU of a machine, its NUMA domain, cores and nearest network port.

    Parameters
    ----------
    cores_per_gpu
        Cores kept for each GPU; all cores of its domain shared out evenly when ``None``.
    """
    by_numa: dict[str, list[str]] = defaultdict(list)
    for gpu in machine.gpus:
        by_numa[gpu.numa].append(gpu.name)
    found = []
    for gpu in machine.gpus:
        numbers, mates = core_numbers(machine, gpu.numa), by_numa[gpu.numa]
        share = max(1, len(numbers) // len(mates)) if cores_per_gpu is None else cores_per_gpu
        start = mates.index(gpu.name) * share
        own = numbers[start : start + share] or numbers[-1:]
        found.append(
            Binding(gpu=gpu.name, numa=gpu.numa, cores=as_core_list(own), nic=nearest_port(machine, gpu.name))
        )
    return found


def with_core_lists(
    replicas: list[Replica], machines: dict[str, MachineType], cores_per_gpu: int
) -> list[Replica]:
    """Return replicas whose CPU stages have core numbers: those they have, else the first that are free.

    The cores kept for the GPUs of a domain come first and are never given away.

    Parameters
    ----------
    machines
        Machine type of every node.
    """
    free: dict[tuple[str, str], list[int]] = {}
    for replica in replicas:
        machine = machines[replica.node]
        for stage in replica.stages:
            kept = cores_per_gpu * sum(gpu.numa == stage.numa for gpu in machine.gpus)
            free.setdefault((replica.node, stage.numa), core_numbers(machine, stage.numa)[kept:])
    own = {
        (number, stage.stage): _take_own(stage, free[replica.node, stage.numa])
        for number, replica in enumerate(replicas)
        for stage in replica.stages
    }
    placed = []
    for number, replica in enumerate(replicas):
        stages: list[CpuPlacement] = []
        for stage in replica.stages:
            left = free[replica.node, stage.numa]
            numbers = own[number, stage.stage] or [left.pop(0) for _ in range(min(stage.cores, len(left)))]
            stages.append(stage.model_copy(update={"core_list": as_core_list(numbers)}))
        placed.append(replica.model_copy(update={"stages": stages}))
    return placed


def _take_own(stage: CpuPlacement, free: list[int]) -> list[int]:
    """Take the cores that a stage has out of those that are free; none where it has none, or others do."""
    numbers = [int(name) for name in expand(f"[{stage.core_list}]")] if stage.core_list else []
    if len(numbers) != stage.cores or not set(numbers) <= set(free):
        return []
    for number in numbers:
        free.remove(number)
    return numbers
