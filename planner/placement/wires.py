"""Outputs of operators on the real links of a machine: each takes the route to every device that reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.workload.operators import OperatorGraph

Pair = tuple[int, int]


@dataclass(frozen=True)
class Wires:
    """Routes between devices; the CPU is device -1.

    Attributes
    ----------
    outputs
        Bytes of each operator's output.
    latency, pace
        Time of an empty message, s, and time per byte, s, of the route between two devices.
    hops
        Numbers of the links on that route.
    link_pace
        Time per byte of each link, s.
    """

    outputs: tuple[float, ...]
    latency: Mapping[Pair, float]
    pace: Mapping[Pair, float]
    hops: Mapping[Pair, tuple[int, ...]]
    link_pace: tuple[float, ...]

    def seconds(self, operator: int, pair: Pair) -> float:
        """Return the time of an operator's output on the route between two devices, s."""
        return self.latency[pair] + self.outputs[operator] * self.pace[pair]


def moves(graph: OperatorGraph, assignment: Sequence[int]) -> Iterator[tuple[int, Pair]]:
    """Yield every operator whose output leaves its device, once for each device that reads it."""
    for source, targets in enumerate(graph.successors):
        here = assignment[source]
        for there in dict.fromkeys(assignment[target] for target in targets):
            if there != here:
                yield source, (here, there)


def wired_times(
    graph: OperatorGraph, wires: Wires, assignment: Sequence[int], device: int
) -> tuple[float, float]:
    """Return the time that a device takes in outputs, and the time that it hands them out, s."""
    taken = handed = 0.0
    for source, pair in moves(graph, assignment):
        if pair[1] == device:
            taken += wires.seconds(source, pair)
        elif pair[0] == device:
            handed += wires.seconds(source, pair)
    return taken, handed


def link_times(graph: OperatorGraph, wires: Wires, assignment: Sequence[int]) -> list[float]:
    """Return how long each link is busy for one sample, s; a single 0 where there is no link."""
    busy = [0.0] * max(1, len(wires.link_pace))
    for source, pair in moves(graph, assignment):
        for link in wires.hops[pair]:
            busy[link] += wires.outputs[source] * wires.link_pace[link]
    return busy
