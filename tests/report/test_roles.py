"""Nodes fold into roles without losing one."""

from planner.report.fleet_view import fabric_of, pods
from planner.report.roles import most_telling, node_roles
from planner.report.uses import occupancy
from tests.report import factories, machines


def test_roles_cover_every_node_once() -> None:
    """16 nodes under four pipeline stages are four roles of four nodes."""
    where = machines.topology(nodes=16)
    roles = node_roles(where, occupancy(factories.training_plan(where)), {})
    assert [len(role.nodes) for role in roles] == [4, 4, 4, 4]
    assert sorted(name for role in roles for name in role.nodes) == sorted(node.name for node in where.nodes)
    assert [role.label for role in roles] == ["stage 0", "stage 1", "stage 2", "stage 3"]


def test_idle_nodes_are_a_role_of_their_own() -> None:
    """Nodes without work come last and say so."""
    where = machines.topology(nodes=5)
    roles = node_roles(where, occupancy(factories.training_plan(where, pp=4)), {})
    assert [role.label for role in roles][-1] == "not used"
    assert roles[-1].colour is None


def test_machine_types_are_never_folded_together() -> None:
    """Two idle machines of different type are two roles."""
    where = machines.topology(nodes=2, more={"arm-0": machines.superchip()})
    assert len(node_roles(where, occupancy(None), {})) == 2


def test_the_busiest_node_stands_for_its_role() -> None:
    """Of equal nodes, the one with the busiest link is drawn; of roles, those with the busiest links."""
    where = machines.topology(nodes=16)
    loads = {("node-6/nic0", "leaf-0-rail-0"): 0.9, ("node-2/nic0", "leaf-0-rail-0"): 0.2}
    roles = node_roles(where, occupancy(factories.training_plan(where)), loads)
    assert [role.sample.name for role in roles[:2]] == ["node-2", "node-6"]
    mixed = node_roles(machines.topology(nodes=1, more={"arm-0": machines.superchip()}), occupancy(None), {})
    assert most_telling(roles, loads, 2) == [roles[0], roles[1]]
    assert most_telling(mixed, {}, 2) == list(mixed)


def test_every_rank_is_on_its_gpu() -> None:
    """Rank ((p * dp + d) * cp + c) * tp + t is shown as stage p, replica d, part t."""
    where = machines.topology(nodes=8)
    who = occupancy(factories.training_plan(where))
    use = who.of("node-3/gpu5")[0]
    assert (who.groups[use.group].stage, use.tensor, use.detail) == (1, 5, "rank 29, replica 1")


def test_pods_follow_the_switches() -> None:
    """70 nodes of 32 per leaf are three pods; nodes on one NVLink domain are one."""
    where = machines.topology(nodes=70)
    found = pods(where, fabric_of(where), {("leaf-1-rail-3", "spine"): 0.5})
    assert [len(pod.nodes) for pod in found] == [32, 32, 6]
    assert [pod.uplink for pod in found] == [None, 0.5, None]
    assert found[0].label == "leaf-0-rail-[0-7]"
    rack = machines.nvlink_domain(6)
    assert [pod.label for pod in pods(rack, fabric_of(rack), None)] == ["nvs-[0-17]"]
