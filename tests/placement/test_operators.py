"""The judge of operator placements, on graphs whose figures can be worked out by hand."""

from __future__ import annotations

import pytest

from planner.placement.operators import (
    CPU,
    Kind,
    OperatorProblem,
    broken_rules,
    latency,
    load,
    max_load,
    stage_edges,
    value,
)
from planner.workload.operators import Operator, OperatorGraph


def diamond(kind: Kind = "free", *, memory: float = 10.0) -> OperatorProblem:
    """Return a -> b, c -> d with run times 1, 2, 3, 4 (ten times that on a CPU) and transfers 0.1 to 0.4."""
    operators = tuple(
        Operator(key, t, 10 * t, size=t, transfer_time=t / 10)
        for key, t in zip("abcd", (1.0, 2.0, 3.0, 4.0), strict=True)
    )
    graph = OperatorGraph(operators, ((0, 1), (0, 2), (1, 3), (2, 3)))
    return OperatorProblem(graph, 3, memory, kind)


def test_an_output_costs_each_accelerator_once_however_many_read_it() -> None:
    """One producer with two consumers elsewhere pays one transfer out, and the consumer's device one in."""
    problem = diamond()
    assert load(problem, (0, 1, 1, 1), 0) == pytest.approx(1.0 + 0.1)
    assert load(problem, (0, 1, 1, 1), 1) == pytest.approx(9.0 + 0.1)
    assert load(problem, (0, 1, 2, 1), 0) == pytest.approx(1.0 + 0.1)
    assert load(problem, (0, 1, 2, 1), 2) == pytest.approx(3.0 + 0.1 + 0.3)
    assert max_load(problem, (0, 1, 2, 1)) == pytest.approx(2.0 + 4.0 + 0.1 + 0.2 + 0.3 - 0.2)


def test_a_cpu_pays_no_transfer() -> None:
    """The load of the CPU is the sum of its run times; its partner pays both ways."""
    problem = diamond()
    assert load(problem, (0, CPU, 0, 0), CPU) == 20.0
    assert load(problem, (0, CPU, 0, 0), 0) == pytest.approx(1.0 + 3.0 + 4.0 + 0.1 + 0.2)


def test_latency_waits_for_all_inputs_and_finishes_everything_at_the_end() -> None:
    """Two accelerators between the ends run side by side, the CPU operators each by themselves."""
    problem = diamond("latency")
    first, second, third = 1.0 + 0.1, 2.0 + 0.1 + 0.2, 3.0 + 0.1 + 0.3
    assert latency(problem, (0, 1, 2, CPU)) == pytest.approx(first + max(second, third) + 40.0)
    assert latency(problem, (CPU,) * 4) == pytest.approx(10.0 + 30.0 + 40.0)
    assert latency(problem, (0,) * 4) == pytest.approx(10.0)


def test_an_accelerator_is_entered_once() -> None:
    """A set that a path leaves and enters again is refused, for latency and for contiguous stages."""
    assert broken_rules(diamond("latency"), (0, 1, 0, 0))
    assert broken_rules(diamond("contiguous"), (0, 1, 0, 0))
    assert broken_rules(diamond("free"), (0, 1, 0, 0)) == []


def test_accelerators_must_not_wait_for_one_another() -> None:
    """Two sets that are each convex and feed each other have no order."""
    operators = tuple(Operator(key, 1.0, 1.0) for key in "abcd")
    graph = OperatorGraph(operators, ((0, 1), (2, 3)))
    for kind in ("contiguous", "latency"):
        problem = OperatorProblem(graph, 2, 1.0, kind)
        assert broken_rules(problem, (0, 1, 1, 0)), kind
        assert broken_rules(problem, (0, 1, 0, 1)) == [], kind


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ((0, 0, 0), "4"),
        ((0, 0, 0, 7), "does not exist"),
        ((0, 0, 0, -2), "does not exist"),
        ((1, 1, 1, 1), "holds 10 bytes and has 9"),
    ],
)
def test_broken_rules_are_named(assignment: tuple[int, ...], words: str) -> None:
    """A missing operator, a stray device and a byte too many are each reported."""
    assert words in " ".join(broken_rules(diamond(memory=9.0), assignment))


def test_colours_and_unsupported_operators_are_checked() -> None:
    """Operators of a colour are together, and what only a CPU runs is there."""
    operators = (
        Operator("a", 1.0, 1.0, colour="red"),
        Operator("b", 1.0, 1.0, colour="red"),
        Operator("c", 1.0, 1.0, on_accelerator=False),
    )
    problem = OperatorProblem(OperatorGraph(operators, ()), 2, 1.0)
    assert broken_rules(problem, (0, 0, CPU)) == []
    assert "red" in broken_rules(problem, (0, 1, CPU))[0]
    assert "CPU only" in broken_rules(problem, (0, 0, 1))[0]


def test_backward_operators_follow_their_colour() -> None:
    """Backward edges do not order stages, unless a backward operator has no forward one of its colour."""
    operators = (
        Operator("a", 1.0, 9.0, colour="x"),
        Operator("b", 1.0, 9.0, colour="y"),
        Operator("b'", 1.0, 9.0, colour="y", backward=True),
        Operator("a'", 1.0, 9.0, colour="x", backward=True),
        Operator("s'", 1.0, 9.0, colour="z", backward=True),
    )
    graph = OperatorGraph(operators, ((0, 1), (1, 2), (2, 3), (3, 4)))
    assert stage_edges(graph) == {(0, 1), (4, 3)}
    problem = OperatorProblem(graph, 2, 1.0, "contiguous")
    assert broken_rules(problem, (0, 1, 1, 0, 0)) == []
    assert value(problem, (0, 1, 1, 0, 0)) == 3.0
