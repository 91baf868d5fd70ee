"""Portable plans: nodes and GPUs that are as good as the planned ones are taken, and no others."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.manifest_plans import GB, plan, serving_plan
from planner.deploy import DeployError, Target, kubernetes_bundle
from planner.deploy.agent.metrics import feature_text
from planner.deploy.agent.reading import Reading, machine_of
from planner.deploy.context import Context
from planner.deploy.equivalence import machine_kind
from planner.deploy.k8s import bundle_objects
from planner.deploy.platform import Platform
from planner.deploy.roundtrip import land, misplaced, world
from planner.placement.plan import Replica
from planner.topology import Machine, Topology, load_topology
from planner.topology.machine import MachineType
from tests.deploy.plans import Case, machine, nodes, serving_job, topology, workload


def kind(spec: Machine) -> str:
    return machine_kind(topology(nodes("n", spec.name), machines=[spec]).nodes[0].machine)


def renamed(spec: Machine, names: dict[str, str], name: str = "other") -> Machine:
    """Return a machine with other names of its parts, in reverse order."""
    body = spec.model_dump(mode="json")
    body["name"] = name
    for part in ("numa", "gpus", "nics"):
        for one in body[part]:
            one["name"] = names.get(one["name"], one["name"])
            if "numa" in one:
                one["numa"] = names.get(one["numa"], one["numa"])
        body[part] = body[part][::-1]
    for link in body["links"]:
        link["between"] = [names.get(end, end) for end in link["between"]]
    body["links"] = body["links"][::-1]
    return Machine.model_validate(body)


@settings(max_examples=15, deadline=None)
@given(gpus=st.sampled_from([2, 4, 8]), domains=st.sampled_from([1, 2]), data=st.data())
def test_names_and_order_make_no_kind(gpus: int, domains: int, data: st.DataObject) -> None:
    """Under any renaming a machine stays of its kind; with one part or link changed it does not."""
    spec = machine(gpus=gpus, domains=domains)
    parts = [*(one.name for one in spec.numa), *(one.name for one in spec.gpus)]
    names = dict(
        zip(parts, data.draw(st.permutations([f"part-{i}" for i in range(len(parts))])), strict=True)
    )
    assert kind(renamed(spec, names)) == kind(spec)
    changed = spec.model_dump(mode="json")
    where = data.draw(st.sampled_from(["rate", "cores", "memory", "nvlink"]))
    if where == "rate":
        changed["links"][0]["bandwidth"] = "25 GB/s"
    elif where == "nvlink":
        link = {"between": ["gpu0", "gpu1"], "kind": "nvlink", "bandwidth": 450 * GB, "latency": 1e-6}
        changed["links"].append(link)
    else:
        changed["numa"][0][where] = 7 if where == "cores" else "1 GiB"
    assert kind(Machine.model_validate(changed)) != kind(spec)


def h200() -> MachineType:
    return load_topology("hgx-h200").nodes[0].machine


def test_sets_of_gpus_are_equal_by_their_place_among_the_links() -> None:
    """Either half of a symmetric machine is as good as the other; a set over both sockets is not."""
    names = [gpu.name for gpu in h200().gpus]
    assert machine_kind(h200(), names[:4]) == machine_kind(h200(), names[4:])
    assert machine_kind(h200(), names[:4]) != machine_kind(h200(), names[2:6])


def portable(**platform: Any) -> Target:
    return Target(portable=True, platform=Platform(driver="0.5", labels="topograph-1.0", **platform))


def one_service(where: Topology, gpus: str = "gpu[0-3]", node: str = "a-0") -> Case:
    replica = Replica(name="r", node=node, devices=[f"{node}/{gpus}"])
    return Case(plan(serving_plan([replica], bound=[])), where, workload(serving_job()))


def landed(case: Case, target: Target, *gone: str) -> tuple[list[str | None], list[str]]:
    """Return the nodes of the pods, and what is wrong, in a cluster without some nodes."""
    context = Context(case.plan, case.topology, case.workload, target)
    objects = bundle_objects(context).all
    cluster = [one for one in world(context) if one["metadata"]["name"].removesuffix("-gpus") not in gone]
    found = land(objects, cluster)
    lost = any(one.node is None for one in found)
    return [one.node for one in found], [] if lost else list(misplaced(context, objects, found))


@pytest.mark.parametrize("devices", ["device-plugin", "dra"])
def test_an_equal_node_of_another_type_is_taken_and_an_unequal_one_is_not(devices: str) -> None:
    """The label of the kind, and not the name of the type, says where a portable plan may go."""
    first = machine("first")
    twin, narrow = renamed(first, {"gpu0": "accelerator0"}, "twin"), copy.deepcopy(first)
    slower = narrow.model_dump(mode="json") | {"name": "slower"}
    slower["links"][0]["bandwidth"] = "25 GB/s"
    machines = [first, twin, Machine.model_validate(slower)]
    where = topology(nodes("a-0", "first"), nodes("b-0", "twin"), nodes("c-0", "slower"), machines=machines)
    case, target = one_service(where), portable(devices=devices)
    assert landed(case, target) == (["a-0"], [])
    assert landed(case, target, "a-0") == (["b-0"], [])
    assert landed(case, target, "a-0", "b-0") == ([None], [])
    assert kubernetes_bundle(case.plan, case.topology, case.workload, target)


def test_claims_for_unequal_gpus_are_refused() -> None:
    """Where the first free GPUs stand otherwise among the links than the planned ones, nothing is written."""
    spec = machine(gpus=4, domains=1).model_dump(mode="json")
    link = {"between": ["gpu2", "gpu3"], "kind": "nvlink", "bandwidth": 450 * GB, "latency": 1e-6}
    where = topology(
        nodes("a-0"), machines=[Machine.model_validate({**spec, "links": [*spec["links"], link]})]
    )
    replica = Replica(name="r", node="a-0", devices=["a-0/gpu[2-3]"])
    case = Case(plan(serving_plan([replica], tp=2, bound=[])), where, workload(serving_job()))
    with pytest.raises(DeployError, match=r"gpu0, gpu1 of a-0, which are linked otherwise"):
        kubernetes_bundle(case.plan, case.topology, case.workload, portable(devices="dra"))


def test_portable_groups_stay_below_one_leaf() -> None:
    """Pods of a replica over two nodes of one leaf go to one leaf; without a label for leaves: refused."""
    where = load_topology("dgx-h100-x8")
    replica = Replica(name="r", node="node-0", devices=["node-[0-1]/gpu[0-7]"])
    job = serving_plan([replica], tp=8, pp=2, bound=[])
    case = Case(plan(job), where, workload(serving_job()))
    context = Context(case.plan, case.topology, case.workload, portable())
    (group,) = [one for one in bundle_objects(context).all if one["kind"] == "LeaderWorkerSet"]
    for template in group["spec"]["leaderWorkerTemplate"].values():
        if isinstance(template, dict):
            (term,) = template["spec"]["affinity"]["podAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]
            assert term["topologyKey"] == "fabric.topograph.run/tier-0"
    nodes_, wrong = landed(case, portable(), "node-0")
    assert wrong == [] and len(set(nodes_)) == 2 and None not in nodes_


def test_exact_and_portable_exclude_one_another() -> None:
    """The very GPUs of named nodes are nowhere else."""
    with pytest.raises(DeployError, match="cannot be portable"):
        portable(devices="dra", exact=True, gpu_ids={"a/b": "GPU-00000000-0000-0000-0000-000000000000"})


def test_the_agent_writes_the_kind_as_a_label() -> None:
    """The label that portable pods ask for is the one that the agent of such a node publishes."""
    found = Reading("n", (), {}, 8, (), 0.1, kind=machine_kind(h200()))
    assert f"planner.example.org/kind={machine_kind(h200())}\n" in feature_text(found, "planner.example.org")
    where = load_topology("dgx-h100-x8")
    assert machine_of(where, "node-3") is where.node_of["node-3"].machine
    assert machine_of(where, "elsewhere") is where.nodes[0].machine
