"""Changes of decision, swings and fronts, against what is plain to see in small tables."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.study.whatif import Outcome, StudyDocument, changes, crossings, pareto_front, swings
from planner.study.whatif.analysis import in_order, refinements

STUDY = StudyDocument.model_validate(
    {
        "name": "s",
        "topology": "t",
        "workload": "w",
        "vary": [
            {"parameter": "topology.a", "label": "rate", "values": ["10 GB/s", "20 GB/s", "40 GB/s"]},
            {"parameter": "topology.b", "label": "host", "values": ["x86", "riscv"]},
        ],
    }
)


def _outcome(rate: str, host: str, tp: int, value: float) -> Outcome:
    return Outcome(
        labels={"rate": rate, "host": host},
        status="optimal",
        decisions={"tp": str(tp), "pp": "1"},
        metrics={"time": value, "gpus": float(tp)},
    )


GRID = [
    _outcome(rate, host, 8 if rate == "40 GB/s" else 4, value)
    for (rate, host), value in zip(
        product(["10 GB/s", "20 GB/s", "40 GB/s"], ["x86", "riscv"]), [9, 10, 5, 6, 3, 3.5], strict=True
    )
]


def test_changes_are_between_neighbours_and_name_what_differs() -> None:
    """The plan changes between 20 and 40 GB/s on both hosts, in tp alone, and nowhere else."""
    found = changes(STUDY, GRID)
    assert [(c.parameter, c.low, c.high, c.before, c.after) for c in found] == [
        ("rate", "20 GB/s", "40 GB/s", "tp 4", "tp 8")
    ] * 2
    assert [c.others for c in found] == [{"host": "x86"}, {"host": "riscv"}]


def test_refinements_halve_the_interval_of_a_change() -> None:
    """The middle of 20 and 40 GB/s is asked for on each host, and sorts between them."""
    assert refinements(STUDY, GRID) == [
        {"host": "x86", "rate": "30 GB/s"},
        {"host": "riscv", "rate": "30 GB/s"},
    ]
    added = _outcome("30 GB/s", "x86", 4, 4.0)
    assert [o.labels["rate"] for o in in_order(STUDY, [*GRID, added])] == [
        "10 GB/s", "10 GB/s", "20 GB/s", "20 GB/s", "30 GB/s", "40 GB/s", "40 GB/s",
    ]  # fmt: skip


def test_swings_move_one_parameter_and_the_widest_is_first() -> None:
    """The rate moves the time from 9 to 3, the host from 9 to 10."""
    found = [(s.parameter, s.at_low, s.at_high, s.low, s.high) for s in swings(STUDY, GRID, "time")]
    assert found == [("rate", 3.0, 9.0, "40 GB/s", "10 GB/s"), ("host", 9.0, 10.0, "x86", "riscv")]


def test_an_infeasible_neighbour_is_a_change() -> None:
    """From a plan to none is a change too."""
    nothing = Outcome(labels={"rate": "40 GB/s", "host": "x86"}, status="infeasible")
    found = changes(STUDY, [GRID[2], nothing])
    assert [(c.before, c.after) for c in found] == [("a plan", "infeasible")]


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=3, max_size=3))
def test_lines_cross_exactly_where_their_order_changes(heights: list[tuple[int, int]]) -> None:
    """Between neighbours whose order of hosts differs there is one crossing, in between, on both lines."""
    rates = [10.0, 20.0, 40.0]
    grid = [
        _outcome(f"{rate:g} GB/s", host, 4, float(value))
        for rate, pair in zip(rates, heights, strict=True)
        for host, value in zip(("x86", "riscv"), pair, strict=True)
    ]
    found = {(one.low, one.high): one for one in crossings(STUDY, grid, "time")}
    for (low, (a, b)), (high, (c, d)) in pairwise(zip(rates, heights, strict=True)):
        crossing = found.pop((f"{low:g} GB/s", f"{high:g} GB/s"), None)
        assert (crossing is not None) == ((a - b) * (c - d) < 0)
        if crossing is not None:
            assert low < crossing.at < high
            assert (crossing.below, crossing.above) == (("x86", "riscv") if a < b else ("riscv", "x86"))
            share = (crossing.at - low) / (high - low)
            assert a + share * (c - a) == pytest.approx(b + share * (d - b))
            assert crossing.value == pytest.approx(a + share * (c - a))
    assert not found


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_the_front_is_what_brute_force_leaves(points: list[tuple[int, int]]) -> None:
    """Exactly the points that no other point equals or beats in both metrics and beats in one, once each."""
    outcomes = [
        Outcome(labels={"n": str(i)}, status="optimal", metrics={"a": float(a), "b": float(b)})
        for i, (a, b) in enumerate(points)
    ]
    expected = {
        (a, b) for a, b in points if not any((c <= a and d <= b and (c, d) != (a, b)) for c, d in points)
    }
    front = [(o.metrics["a"], o.metrics["b"]) for o in pareto_front(outcomes, "a", "b")]
    assert sorted(expected) == front
