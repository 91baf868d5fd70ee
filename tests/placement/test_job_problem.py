"""What the budget of a job allows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import WorkloadError
from planner.placement.job_problem import gpus_within
from planner.topology import Topology
from planner.workload.limits import Budget
from tests.simulate.cases import cluster


def priced(price: float | None) -> Topology:
    """Return two nodes of four GPUs at a price, USD/h each."""
    topology = cluster(nodes=2, gpus=4)
    nodes = tuple(replace(node, machine=replace(node.machine, price=price)) for node in topology.nodes)
    return replace(topology, nodes=nodes)


@pytest.mark.parametrize(
    ("budget", "count"),
    [
        (Budget(), 8),
        (Budget(gpus=3), 3),
        (Budget(gpus=30), 8),
        (Budget(price=15.0), 7),  # 2 USD/h each
        (Budget(price=6.0), 3),
        (Budget(gpus=2, price=6.0), 2),
        (Budget(price=1.9), 0),
        (Budget(price=100.0), 8),
    ],
)
def test_a_budget_allows_so_many_gpus(budget: Budget, count: int) -> None:
    """Of eight GPUs at 8 USD/h for four, the number and the price each set a limit."""
    topology = priced(8.0)
    assert gpus_within(budget, topology, topology.hierarchy.gpus) == count


def test_a_price_limit_needs_prices() -> None:
    """Without a price of the machine the error names it and says what to write."""
    topology = priced(None)
    with pytest.raises(WorkloadError, match=r"price of machine 'box'.*'price: 30 USD/h'"):
        gpus_within(Budget(price=5.0), topology, topology.hierarchy.gpus)


def test_the_dearest_machine_counts_for_all() -> None:
    """Where machines cost differently, any choice of so many GPUs is within the budget."""
    topology = priced(8.0)
    first, second = topology.nodes
    dear = replace(second, machine=replace(second.machine, name="dear", price=16.0))
    mixed = replace(topology, nodes=(first, dear))
    assert gpus_within(Budget(price=15.0), mixed, topology.hierarchy.gpus) == 3
