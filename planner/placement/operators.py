"""The judge of operator placements: loads, latency, memory, colours and contiguity, from the graph alone.

References
----------
.. [1] J. Tarnawski, A. Phanishayee, N. Devanur, D. Mahajan, F. Nina Paravecino, "Efficient Algorithms for
   Device Placement of DNN Graph Operators", NeurIPS 2020: both objectives and contiguity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.placement.wires import Wires, link_times, wired_times
from planner.workload.operators import OperatorFile, OperatorGraph

CPU = -1
"""The device number of the CPU; accelerators are numbered from 0."""

Kind = Literal["contiguous", "free", "latency"]
Assignment = tuple[int, ...]
"""The device of each operator: an accelerator's number, or `CPU`."""


@dataclass(frozen=True)
class OperatorProblem:
    """An operator graph and the machine for it.

    Attributes
    ----------
    kind
        ``contiguous`` and ``free``: least load, s, of the busiest device, which every sample waits for in a
        full pipeline, on one CPU device beside the accelerators. ``latency``: finish time, s, of one
        sample, with one invocation per accelerator and as many CPU cores as there are operators.
    memory
        Bytes of one accelerator.
    has_cpu
        Whether operators may run on the CPU.
    sync_rate
        Rate at which replicas of a stage sum their gradients, bytes/s.
    wires
        What moves outputs from device to device; through host memory when ``None``.
    """

    graph: OperatorGraph
    num_accelerators: int
    memory: float
    kind: Kind = "free"
    has_cpu: bool = True
    sync_rate: float = float("inf")
    wires: Wires | None = None


def operator_problem(file: OperatorFile, kind: Kind) -> OperatorProblem:
    """Return the problem that a file of the JSON form states, for one objective.

    The throughput objective takes at most one CPU device, as the files of that form do.
    """
    return OperatorProblem(file.graph, file.num_accelerators, file.memory, kind, file.num_cpus > 0)


def transfers(graph: OperatorGraph, assignment: Sequence[int], device: int) -> tuple[list[int], list[int]]:
    """Return the operators whose output an accelerator takes in, and those whose output it hands out."""
    taken = [
        source
        for source, targets in enumerate(graph.successors)
        if assignment[source] != device and any(assignment[target] == device for target in targets)
    ]
    handed = [
        source
        for source, targets in enumerate(graph.successors)
        if assignment[source] == device and any(assignment[target] != device for target in targets)
    ]
    return taken, handed


def load(problem: OperatorProblem, assignment: Sequence[int], device: int) -> float:
    """Return the time, s, that a device is busy per sample: run times, and transfers of an accelerator."""
    held = [op for op, place in zip(problem.graph.operators, assignment, strict=True) if place == device]
    if problem.wires is not None:
        runs = sum(op.cpu_time if device == CPU else op.accelerator_time for op in held)
        return runs + sum(wired_times(problem.graph, problem.wires, assignment, device))
    if device == CPU:
        return sum(op.cpu_time for op in held)
    taken, handed = transfers(problem.graph, assignment, device)
    moved = sum(problem.graph.operators[source].transfer_time for source in (*taken, *handed))
    return sum(op.accelerator_time for op in held) + moved


def max_load(problem: OperatorProblem, assignment: Sequence[int]) -> float:
    """Return the load, s, of the busiest device, or of the busiest link where there are wires."""
    links = 0.0 if problem.wires is None else max(link_times(problem.graph, problem.wires, assignment))
    devices = (load(problem, assignment, device) for device in (CPU, *range(problem.num_accelerators)))
    return max(links, *devices)


def latency(problem: OperatorProblem, assignment: Sequence[int]) -> float:
    """Return the finish time, s, of one sample.

    An accelerator starts when everything it reads from outside has finished, and then takes its whole load;
    all of its operators finish together. An operator on the CPU starts when its inputs have finished.

    Raises
    ------
    ValueError
        If accelerators wait for one another, so that none can start.
    """
    return max((end for _, _, end in invocations(problem, assignment)), default=0.0)


def invocations(problem: OperatorProblem, assignment: Sequence[int]) -> list[tuple[int, float, float]]:
    """Return unit, start and finish, s, of everything that runs for one sample, in a possible order.

    A unit is an operator on the CPU, by its number, or accelerator ``d`` as ``-1 - d``.

    Raises
    ------
    ValueError
        If accelerators wait for one another, so that none can start.
    """
    graph = problem.graph
    waits = unit_waits(graph, assignment)
    finish: dict[int, float] = {}
    found = []
    for unit in _in_order(waits):
        start = max((finish[other] for other in waits[unit]), default=0.0)
        busy = graph.operators[unit].cpu_time if unit >= 0 else load(problem, assignment, -1 - unit)
        finish[unit] = start + busy
        found.append((unit, start, finish[unit]))
    if len(found) < len(waits):
        raise ValueError("accelerators wait for one another")
    return found


def unit_waits(graph: OperatorGraph, assignment: Sequence[int]) -> dict[int, set[int]]:
    """Return the units that each unit waits for; see :func:`invocations`."""
    units = [index if place == CPU else -1 - place for index, place in enumerate(assignment)]
    waits: dict[int, set[int]] = {unit: set() for unit in units}
    for source, target in graph.edges:
        if units[source] != units[target]:
            waits[units[target]].add(units[source])
    return waits


def value(problem: OperatorProblem, assignment: Sequence[int]) -> float:
    """Return the objective, s, of a legal assignment."""
    return latency(problem, assignment) if problem.kind == "latency" else max_load(problem, assignment)


def broken_rules(problem: OperatorProblem, assignment: Sequence[int]) -> list[str]:
    """Return every rule that an assignment breaks, as sentences; empty when it is legal."""
    operators = problem.graph.operators
    if len(assignment) != len(operators):
        return [f"{len(assignment)} operators are placed, the graph has {len(operators)}"]
    lowest = CPU if problem.has_cpu else 0
    strays = [
        op.key
        for op, d in zip(operators, assignment, strict=True)
        if not lowest <= d < problem.num_accelerators
    ]
    if strays:
        return [f"operator {key} is on a device that does not exist" for key in strays]
    found = list(_operator_rules(problem, assignment))
    for device in range(problem.num_accelerators):
        held = sum(op.size for op, place in zip(operators, assignment, strict=True) if place == device)
        if held > problem.memory * (1 + 1e-12):
            found.append(f"accelerator {device} holds {held:.0f} bytes and has {problem.memory:.0f}")
    if problem.kind == "contiguous":
        found.extend(_stage_rules(problem.graph, assignment))
    if problem.kind == "latency":
        found.extend(_invocation_rules(problem.graph, assignment))
    return found


def stage_edges(graph: OperatorGraph) -> set[tuple[int, int]]:
    """Return the edges between operators along which the stages of a contiguous plan must not decrease.

    These are the edges of the forward pass. A backward operator follows its colour; one whose colour has no
    forward operator stands in for its mirrored twin, so that its edges to other backward operators count in
    reverse.
    """
    forward = {op.colour for op in graph.operators if not op.backward and op.colour is not None}
    alone = [op.backward and (op.colour is None or op.colour not in forward) for op in graph.operators]
    edges = set()
    for source, target in graph.edges:
        ends = graph.operators[source], graph.operators[target]
        if not ends[0].backward and not ends[1].backward:
            edges.add((source, target))
        elif ends[0].backward and ends[1].backward and (alone[source] or alone[target]):
            edges.add((target, source))
    return edges


def _operator_rules(problem: OperatorProblem, assignment: Sequence[int]) -> Iterator[str]:
    home: dict[str, int] = {}
    for op, device in zip(problem.graph.operators, assignment, strict=True):
        if device != CPU and not op.on_accelerator:
            yield f"operator {op.key} is on accelerator {device} and runs on a CPU only"
        if device == CPU and not op.on_cpu:
            yield f"operator {op.key} is on the CPU and runs on accelerators only"
        if op.colour is not None and home.setdefault(op.colour, device) != device:
            yield f"operator {op.key} is on device {device}, its colour {op.colour} on {home[op.colour]}"


def _stage_rules(graph: OperatorGraph, assignment: Sequence[int]) -> Iterator[str]:
    waits: dict[int, set[int]] = {device: set() for device in assignment}
    for source, target in stage_edges(graph):
        if assignment[source] != assignment[target]:
            waits[assignment[target]].add(assignment[source])
    stuck = sorted(set(waits) - set(_in_order(waits)))
    if stuck:
        yield f"devices {stuck} have no order in which stages never decrease along the forward edges"


def _invocation_rules(graph: OperatorGraph, assignment: Sequence[int]) -> Iterator[str]:
    """Yield the accelerators that would have to be called twice: a path leaves them and comes back."""
    for device in sorted(set(assignment) - {CPU}):
        left: set[int] = set()
        for index in graph.order:
            sources = graph.predecessors[index]
            if assignment[index] != device:
                if any(source in left or assignment[source] == device for source in sources):
                    left.add(index)
            elif any(source in left for source in sources):
                key = graph.operators[index].key
                yield f"accelerator {device} is left and entered again at operator {key}"
                break
    waits = unit_waits(graph, assignment)
    if len(list(_in_order(waits))) < len(waits):
        yield "accelerators wait for one another"


def _in_order(waits: dict[int, set[int]]) -> Iterator[int]:
    """Yield the vertices of a graph of predecessors in a topological order; those on cycles are left out."""
    pending = {vertex: len(before) for vertex, before in waits.items()}
    after: dict[int, list[int]] = {vertex: [] for vertex in waits}
    for vertex, before in waits.items():
        for other in before:
            after[other].append(vertex)
    ready = [vertex for vertex, count in pending.items() if count == 0]
    for vertex in ready:
        yield vertex
        for other in after[vertex]:
            pending[other] -= 1
            if pending[other] == 0:
                ready.append(other)
