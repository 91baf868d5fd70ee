"""What a machine makes of an operator graph: times from operations and bytes, and the routes of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

from planner.costs import Calibration
from planner.costs.roofline import operator_seconds
from planner.errors import TopologyError, WorkloadError
from planner.placement.operators import CPU
from planner.placement.wires import Wires
from planner.topology import Device, Route, Router, Topology
from planner.workload.operators import Operator, OperatorGraph


def priced_graph(
    graph: OperatorGraph, device: Device, precision: str, calibration: Calibration, host: Route | None
) -> OperatorGraph:
    """Return a graph whose operators all have times.

    The time on an accelerator follows from operations and bytes where none is given, that of a transfer from
    the output's bytes and the route to the host.
    """

    def priced(op: Operator) -> Operator:
        run, move = op.accelerator_time, op.transfer_time
        if run == 0.0 and (op.flops > 0.0 or op.traffic > 0.0):
            run = operator_seconds(op.flops, op.traffic, device, precision, calibration)
        if move == 0.0 and op.output and host is not None:
            move = host.latency + op.output / host.rate
        return replace(op, accelerator_time=run, transfer_time=move)

    return OperatorGraph(tuple(priced(op) for op in graph.operators), graph.edges)


def host_route(topology: Topology, gpu: str) -> tuple[str, Route | None]:
    """Return the NUMA domain ``NODE/NUMA`` of a GPU and the route between them."""
    node, name = gpu.split("/", 1)
    machine = topology.node_of[node].machine
    numa = next(part.numa for part in machine.gpus if part.name == name)
    return f"{node}/{numa}", topology.host_route(node, numa, name)


def wires_of(graph: OperatorGraph, topology: Topology, gpus: Sequence[str], job: str) -> Wires:
    """Return the routes between GPUs and the host of the first of them.

    An output without stated bytes has those that its transfer time moves on the route to the host.

    Raises
    ------
    WorkloadError
        If nothing joins two of the devices.
    """
    numa, host = host_route(topology, gpus[0])
    rate = host.rate if host is not None else 0.0
    names = {CPU: numa} | dict(enumerate(gpus))
    router, numbers = Router(topology), dict[tuple[str, str], int]()
    latency, pace, hops = {}, {}, {}
    paces: list[float] = []
    for one, other in permutations(names, 2):
        try:
            way = router.hops(names[one], names[other])
        except TopologyError as error:
            raise WorkloadError(f"job {job!r}: {error}") from error
        edges = [router.edge(hop) for hop in way]
        for hop, edge in zip(way, edges, strict=True):
            if hop not in numbers:
                numbers[hop] = len(paces)
                paces.append(1.0 / edge.rate)
        latency[one, other] = sum(edge.latency for edge in edges)
        pace[one, other] = max(1.0 / edge.rate for edge in edges)
        hops[one, other] = tuple(numbers[hop] for hop in way)
    outputs = tuple(op.transfer_time * rate if op.output is None else op.output for op in graph.operators)
    return Wires(outputs, latency, pace, hops, tuple(paces))
