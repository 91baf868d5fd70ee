"""NUMA domains of an imported host: cores, memory, and what is assumed where the dump is silent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from planner.errors import TopologyError
from planner.schema import BytesFigure
from planner.topology.importers.figures import DUMP, host_rule, scaled
from planner.topology.importers.lists import listed
from planner.topology.importers.rates import link_rates
from planner.topology.importers.views import GpuView, HostView, NumaView
from planner.topology.models import NumaDomain

_NEAR = ("PIX", "PXB", "PHB", "NODE")


def host_nodes(view: HostView) -> list[NumaView]:
    """Return the NUMA nodes with processors; one of unknown processors where the dump names none."""
    nodes = [node for node in view.numa if not node.device_memory and node.cpus != ()]
    return nodes or [NumaView(0)]


def domain_name(number: int) -> str:
    """Return the name of the domain of a NUMA node."""
    return f"numa{number}"


def domains(view: HostView, *, c2c: bool, notes: list[str]) -> list[NumaDomain]:
    """Return the NUMA domains of a host; ``notes`` gains a sentence for each thing that is taken on trust."""
    nodes = host_nodes(view)
    cores = _cores(view, nodes, notes)
    arch = view.arch or ("aarch64" if c2c else "x86_64")
    if view.arch is None:
        notes.append(f"The dump does not name the architecture of the host: {arch} is taken.")
    rule = host_rule(arch, c2c=c2c)
    left_out = [node.number for node in view.numa if node.cpus == () and not node.device_memory]
    if left_out:
        notes.append(f"NUMA nodes without processors are left out: {listed(left_out)}.")
    result = []
    for node in nodes:
        count, numbers = cores[node.number]
        memory = scaled(rule.memory_per_core, count)
        if node.memory:
            memory = BytesFigure.of(node.memory, "measured", DUMP)
        result.append(
            NumaDomain(
                name=domain_name(node.number), arch=arch, cpu=_cpu(view), cores=count,
                core_list=listed(numbers) if numbers else None, core_speed=rule.core_speed,
                vector_bits=rule.vector_bits, memory=memory,
                memory_bandwidth=scaled(rule.rate_per_core, count),
            )
        )  # fmt: skip
    return result


def _cpu(view: HostView) -> str | None:
    """Return the name of the CPU, with its vendor where the name does not tell it."""
    brand = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}.get(view.vendor or "", view.vendor)
    words = [brand if brand and brand not in (view.cpu or "") else None, view.cpu]
    return " ".join(word for word in words if word) or None


def _cores(
    view: HostView, nodes: Sequence[NumaView], notes: list[str]
) -> Mapping[int, tuple[int, tuple[int, ...]]]:
    """Return number and operating-system numbers of the physical cores by NUMA node, one thread of each."""
    threads, stated = _threads(view, nodes)
    if threads > 1 and not stated:
        notes.append("Two threads a core are concluded from how the processors are numbered.")
    silent = [node.number for node in nodes if node.cpus is None]
    share = (view.cores or view.processors or 0) // len(nodes) or link_rates().cores_per_gpu * max(
        1, len(view.gpus) // len(nodes)
    )
    if silent:
        notes.append(
            f"The processors of NUMA nodes {listed(silent)} are unknown; {share} cores each are taken."
        )
    return {
        node.number: (share, ()) if node.cpus is None else _first_threads(nodes, node.cpus, threads)
        for node in nodes
    }


def _first_threads(
    nodes: Sequence[NumaView], cpus: Sequence[int], threads: int
) -> tuple[int, tuple[int, ...]]:
    ordered = sorted(cpus)
    if threads > 1 and _second_half_is_siblings(nodes):
        first = tuple(ordered[: len(ordered) // 2])
    else:
        first = tuple(ordered[::threads])
    return len(first), first


def _threads(view: HostView, nodes: Sequence[NumaView]) -> tuple[int, bool]:
    """Return the threads of a core, and whether the dump states them."""
    if view.processors and view.cores and view.processors % view.cores == 0:
        return view.processors // view.cores, True
    return (2 if _second_half_is_siblings(nodes) else 1), False


def _second_half_is_siblings(nodes: Iterable[NumaView]) -> bool:
    """Whether every node lists some processors, then as many again that follow at half the total number."""
    lists = [sorted(node.cpus) for node in nodes if node.cpus]
    total = sum(map(len, lists))
    if not lists or total % 2 or any(len(cpus) % 2 for cpus in lists):
        return False
    halves = [(cpus[: len(cpus) // 2], cpus[len(cpus) // 2 :]) for cpus in lists]
    return all(
        [cpu + total // 2 for cpu in first] == second and not _in_one_run(first + second)
        for first, second in halves
    )


def _in_one_run(cpus: Sequence[int]) -> bool:
    return all(after == before + 1 for before, after in pairwise(cpus))


def homes(view: HostView, notes: list[str]) -> dict[str, int]:
    """Return the NUMA node next to every GPU and adapter, by its name in the view.

    Raises
    ------
    TopologyError
        If a GPU may be next to any of several nodes.
    """
    numbers = [node.number for node in host_nodes(view)]
    found: dict[str, int] = {}
    for gpu in view.gpus:
        found[gpu.name] = _home_of_gpu(view, gpu, numbers)
    for nic in view.nics:
        if nic.numa is not None and nic.numa in numbers:
            found[nic.name] = nic.numa
            continue
        near = [found[gpu.name] for gpu in view.gpus if _class(view, gpu.name, nic.name) in _NEAR]
        far = {found[gpu.name] for gpu in view.gpus if _class(view, gpu.name, nic.name) == "SYS"}
        rest = [number for number in numbers if number not in far]
        found[nic.name] = near[0] if near else (rest or numbers)[0]
        if not near and len(rest) != 1:
            notes.append(f"The NUMA node of {nic.name} is unknown; {found[nic.name]} is taken.")
    return found


def _home_of_gpu(view: HostView, gpu: GpuView, numbers: Sequence[int]) -> int:
    if gpu.numa is not None and gpu.numa in numbers:
        return gpu.numa
    if len(numbers) == 1:
        return numbers[0]
    near = {
        other.numa
        for other in view.gpus
        if other.numa in numbers and _class(view, gpu.name, other.name) in _NEAR
    }
    if len(near) == 1 and (home := near.pop()) is not None:
        return home
    raise TopologyError(
        f"{gpu.name}: the dump does not say which of the NUMA nodes {listed(numbers)} it is next to; "
        "merge it with nvidia-smi topo -m, hwloc or sysfs of the same machine"
    )


def _class(view: HostView, left: str, right: str) -> str | None:
    return view.path_classes.get((min(left, right), max(left, right)))
