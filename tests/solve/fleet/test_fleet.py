"""A fleet's placement equals a walk of all placements, is legal, and is never worse than a simple rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from planner.placement.fleet import (
    Assignment,
    Choice,
    FleetJob,
    FleetProblem,
    Part,
    Shape,
    check_fleet,
    fleet_cost,
)
from planner.placement.slices import Cut
from planner.solve import Budget
from planner.solve.fleet import best_fit, first_fit, greedy, solve_fleet
from tests.solve.fleet.fleets import cluster, fleets, least_cost


@given(fleets())
@settings(max_examples=25, deadline=None)
def test_placement_equals_a_walk_of_all_placements(problem: FleetProblem) -> None:
    """The cost is the least of all legal placements, and the bound is not above it."""
    solution = solve_fleet(problem, Budget(seconds=20.0))
    known = least_cost(problem)
    assert check_fleet(problem, solution.placement, solution.cost) == []
    assert solution.cost == pytest.approx(known, rel=2e-4)
    assert solution.bound <= known * (1 + 1e-9)


@given(fleets())
@settings(max_examples=25, deadline=None)
def test_simple_rules_are_legal_and_never_better(problem: FleetProblem) -> None:
    """First fit, best fit and greedy break no rule and cost at least as much as the plan."""
    solution = solve_fleet(problem, Budget(seconds=20.0))
    for rule in (first_fit, best_fit, greedy):
        placement = rule(problem)
        cost = fleet_cost(problem, placement)
        assert check_fleet(problem, placement, cost) == []
        assert solution.cost <= cost * (1 + 1e-9)


def _pair() -> tuple[FleetProblem, dict[str, Assignment]]:
    """Return two services that must be apart, each on two slices, and a legal placement."""
    slices, whole = Shape("cut", 1, 2, "3g.40gb"), Shape("whole", 1, 2)
    jobs = (
        FleetJob("a", 1.0, (Choice(slices, 1.0, 1.0, 2),), frozenset({"b"})),
        FleetJob("b", 2.0, (Choice(whole, 2.0, 1.5, 2), Choice(slices, 1.0, 1.0, 2)), spread=True),
    )
    placement = {
        "a": Assignment(slices, tuple(Part("c-0", ("gpu0",), Cut("3g.40gb", start)) for start in (0, 4))),
        "b": Assignment(whole, (Part("w-0", ("gpu1",)), Part("w-1", ("gpu0",)))),
    }
    return FleetProblem(cluster(), jobs), placement


def test_a_legal_placement_passes() -> None:
    """The placement that the faults below start from breaks no rule; its cost is the weighted mean."""
    problem, placement = _pair()
    assert check_fleet(problem, placement, (1.0 + 2 * 1.5) / 3) == []


@pytest.mark.parametrize(
    ("name", "parts", "word"),
    [
        ("a", (Part("c-0", ("gpu0",), Cut("3g.40gb", 0)),) * 2, "overlaps"),
        ("a", (Part("c-0", ("gpu0",), Cut("3g.40gb", 0)),), "parts placed"),
        ("a", (Part("c-0", ("gpu0",)), Part("c-0", ("gpu0",), Cut("3g.40gb", 4))), "whole GPUs"),
        ("b", (Part("w-0", ("gpu0",)), Part("w-0", ("gpu1",))), "share a node"),
        ("b", (Part("w-0", ("gpu0",)), Part("c-0", ("gpu0",))), "not of machine"),
        ("b", (Part("w-0", ("gpu7",)), Part("w-1", ("gpu0",))), "of its GPUs"),
    ],
)
def test_a_misplaced_part_is_found(name: str, parts: tuple[Part, ...], word: str) -> None:
    """Each wrong part is named."""
    problem, placement = _pair()
    wrong = placement | {name: Assignment(placement[name].shape, parts)}
    assert any(word in text for text in check_fleet(problem, wrong, fleet_cost(problem, wrong)))


def test_shared_nodes_and_cores_and_figures_are_found() -> None:
    """Jobs that must be apart, cores given away twice and a wrong cost are each named."""
    problem, placement = _pair()
    assert any("the judge finds" in text for text in check_fleet(problem, placement, 1.0))
    jobs = tuple(
        replace(job, choices=tuple(replace(choice, cores=4) for choice in job.choices))
        for job in problem.jobs
    )
    greedy_cores = replace(problem, jobs=jobs)
    cost = fleet_cost(greedy_cores, placement)
    assert any("cores given away" in text for text in check_fleet(greedy_cores, placement, cost))
    whole, one = Shape("whole", 1, 2), Shape("whole", 1)
    near = FleetProblem(
        cluster(),
        (
            FleetJob("a", 1.0, (Choice(one, 1.0, 1.0, 1),), frozenset({"b"})),
            FleetJob("b", 1.0, (Choice(whole, 1.0, 1.0, 1),)),
        ),
    )
    together = {
        "a": Assignment(one, (Part("w-0", ("gpu0",)),)),
        "b": Assignment(whole, (Part("w-0", ("gpu1",)), Part("w-1", ("gpu0",)))),
    }
    assert any("must not share" in text for text in check_fleet(near, together, 1.0))
