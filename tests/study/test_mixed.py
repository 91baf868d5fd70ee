"""A training job on unequal nodes: together when that is faster, else on the better model alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import WorkloadError
from planner.solve import Budget
from planner.study.mixed import plan_mixed
from planner.topology import load_topology
from tests.study.fleet_jobs import documents, service, training


def test_together_is_at_least_as_good_as_either_alone() -> None:
    """The step time is no longer than on one model alone, and the bound is below all of them."""
    cluster = load_topology("dgx-a100-x4-h100-x4")
    small = replace(cluster, nodes=(cluster.nodes[0], cluster.nodes[-1]))
    found = plan_mixed(replace(documents([training("train")]), topology=small), Budget(seconds=30.0))
    values = [one.value for one in found.alone.values() if one is not None]
    assert len(values) == 2
    assert found.seconds <= min(values)
    assert found.bound <= found.seconds * (1 + 1e-9)
    assert (found.placement is None) == (found.seconds == min(values))


def test_services_are_refused() -> None:
    """A workload that is not one training job is named as such."""
    with pytest.raises(WorkloadError, match="single training job"):
        plan_mixed(documents([service("serve", 1.0)]), Budget(seconds=5.0))
