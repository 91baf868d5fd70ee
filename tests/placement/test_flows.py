from collections import defaultdict

import pytest

from planner.placement import Strategy
from planner.placement.flows import all_to_all_flows, link_loads, ring_flows, serving_flows, training_flows
from planner.topology import Router
from tests.placement.cases import GPUS, SMALL, serving_plan, serving_problem, training_plan, training_problem


def by_cause(strategy: Strategy, layers: tuple[int, ...]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    plan = training_plan(strategy, layers)
    for flow in training_flows(training_problem(), plan, {"dgx-h100"}):
        sums[flow.cause] += flow.size
    return sums


def test_a_ring_sends_its_share_from_each_member_to_the_next() -> None:
    """Each of 4 members sends 2 x 3/4 of 8 bytes."""
    flows = list(ring_flows(["a", "b", "c", "d"], 8.0, "tp", 2.0))
    assert [(f.source, f.target, f.size) for f in flows][:2] == [("a", "b", 12.0), ("b", "c", 12.0)]
    assert flows[-1].target == "a"
    assert list(ring_flows(["a"], 8.0, "tp", 2.0)) == []


def test_an_all_to_all_sends_an_even_part_to_every_other_member() -> None:
    """Of 12 bytes each member keeps a third and sends a third to each of two others."""
    flows = list(all_to_all_flows(["a", "b", "c"], 12.0))
    assert len(flows) == 6
    assert {flow.size for flow in flows} == {4.0}


def test_gradients_of_two_replicas_by_hand() -> None:
    """Each of two replicas sends 2 x 1/2 of 4 bytes per parameter."""
    moved = by_cause(Strategy(dp=2), (8,))
    assert moved == {"data": pytest.approx(2 * 4.0 * SMALL.num_parameters)}


def test_pipeline_hops_by_hand() -> None:
    """16 micro-batches of 1024 x 2048 activations of 2 bytes, forth and back."""
    moved = by_cause(Strategy(pp=2), (4, 4))
    assert moved == {"pp": pytest.approx(2 * 16 * 1024 * 2048 * 2)}


def test_tensor_traffic_by_hand() -> None:
    """Four all-reduces per layer and micro-batch between two ranks, each sends the whole message once."""
    moved = by_cause(Strategy(tp=2), (8,))
    assert moved == {"tp": pytest.approx(2 * 4 * 8 * 16 * 1024 * 2048 * 2)}


def test_links_carry_what_flows_cross_them() -> None:
    """Two ranks on NVLink: both links up and both down carry the same bytes, over a step of 2 s."""
    problem = training_problem()
    plan = training_plan(Strategy(tp=2), (8,))
    flows = training_flows(problem, plan, {"dgx-h100"})
    loads = link_loads(flows, Router(problem.topology), 2.0)
    assert {(load.source, load.target) for load in loads} == {
        (GPUS[0], "dgx-h100/nvswitch"), ("dgx-h100/nvswitch", GPUS[1]),
        (GPUS[1], "dgx-h100/nvswitch"), ("dgx-h100/nvswitch", GPUS[0]),
    }  # fmt: skip
    each = sum(flow.size for flow in flows) / 2
    assert [load.load for load in loads] == pytest.approx([each / 2.0] * 4)
    assert loads[0].utilisation == pytest.approx(each / 2.0 / loads[0].rate)


def test_serving_flows_stay_inside_each_replica() -> None:
    """Tensor traffic joins GPUs of one replica; inputs and outputs cross the host link."""
    flows = serving_flows(serving_problem(), serving_plan())
    home = {GPUS[0]: 0, GPUS[1]: 0, GPUS[4]: 1, GPUS[5]: 1}
    assert {flow.cause for flow in flows} == {"tp", "host"}
    assert all(home[flow.source] == home[flow.target] for flow in flows if flow.cause == "tp")
