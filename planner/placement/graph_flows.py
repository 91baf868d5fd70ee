"""Bytes that a placed operator graph puts on the links of the machine for one sample."""

from __future__ import annotations

from collections.abc import Iterator

from planner.placement.flows import Flow
from planner.placement.graph_prices import host_route
from planner.placement.graphs import OperatorsProblem, assignment_of
from planner.placement.operators import CPU, transfers
from planner.placement.operators_plan import OperatorsPlan, OperatorStage
from planner.placement.wires import moves

CAUSE = "operators"


def operator_flows(problem: OperatorsProblem, plan: OperatorsPlan) -> list[Flow]:
    """Return what each sample moves: over the routes of its outputs, or to and from host memory.

    The bytes of an output are those stated, else those that its transfer time moves on the route to the host.
    """
    wired = problem.graph_problem.wires is not None
    return list(_wired(problem, plan) if wired else _hosted(problem, plan))


def _wired(problem: OperatorsProblem, plan: OperatorsPlan) -> Iterator[Flow]:
    inner = problem.graph_problem
    assert inner.wires is not None
    assignment, _ = assignment_of(problem, plan)
    numa, _ = host_route(problem.topology, problem.accelerators[0])
    names = {CPU: numa} | dict(enumerate(problem.accelerators))
    for source, (here, there) in moves(inner.graph, assignment):
        yield Flow(names[here], names[there], inner.wires.outputs[source], CAUSE)


def _hosted(problem: OperatorsProblem, plan: OperatorsPlan) -> Iterator[Flow]:
    graph = problem.graph_problem.graph
    _, host = host_route(problem.topology, problem.accelerators[0])
    rate = host.rate if host is not None else 0.0
    sizes = [op.transfer_time * rate if op.output is None else op.output for op in graph.operators]
    stage_of = {key: place for place, stage in enumerate(plan.stages) for key in stage.operators}
    home = [stage_of[op.key] for op in graph.operators]
    for place, stage in enumerate(plan.stages):
        taken, handed = transfers(graph, home, place)
        inwards, outwards = sum(sizes[index] for index in taken), sum(sizes[index] for index in handed)
        yield from _copies(problem, stage, inwards, outwards)


def _copies(
    problem: OperatorsProblem, stage: OperatorStage, inwards: float, outwards: float
) -> Iterator[Flow]:
    """Yield the flows of a stage whose devices take samples in turn; the host moves nothing."""
    for gpu in stage.devices:
        numa, way = host_route(problem.topology, gpu)
        if way is not None:
            yield Flow(numa, gpu, inwards / len(stage.devices), CAUSE)
            yield Flow(gpu, numa, outwards / len(stage.devices), CAUSE)
