"""Plans given back to the model of the scheduler: as planned, or refused with a reason."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.manifest_plans import plan, serving_plan, training_plan
from benchmarks.manifest_situations import Situation, situations
from planner.deploy import DeployError, Target, kubernetes_bundle
from planner.deploy.context import Context
from planner.deploy.k8s import bundle_objects
from planner.deploy.platform import Platform
from planner.deploy.roundtrip import land, misplaced, world
from planner.deploy.world import gpu_uuid
from planner.placement.plan import Replica, Strategy
from tests.deploy.plans import Case, machine, nodes, serving_job, topology, workload

Json = dict[str, Any]
PERTURBATIONS = 20
Change = Callable[[random.Random, Json, list[Json]], None]


def random_case(seed: int) -> Context:
    """Return a small plan on a small cluster for some target, all drawn from a seed."""
    draw = random.Random(seed)
    domains = draw.choice([1, 2])
    gpus, count = draw.choice([2, 4, 8]), draw.randint(1, 4)
    box = machine(gpus=gpus, domains=domains, cores=draw.choice([32, 56]))
    where = topology(nodes(f"node-[0-{count - 1}]" if count > 1 else "node-0"), machines=[box])
    names = [node.name for node in where.nodes]
    draw.shuffle(names)
    used = names[: draw.randint(1, count)]
    if draw.random() < 0.3 and len(used) > 1:
        devices = [f"{name}/gpu[0-{gpus - 1}]" for name in used]
        job: Any = training_plan(Strategy(tp=gpus, dp=len(used)), devices, bound=[])
    else:
        tp = draw.choice([one for one in (1, 2, 4, 8) if one <= gpus // domains])
        # Replicas lie side by side from the first GPU on, as the solver places equal ones.
        starts = range(0, gpus, tp)[: draw.randint(1, gpus // tp)]
        replicas = [
            Replica(name=f"r-{name}-{first}", node=name, devices=[f"{name}/gpu[{first}-{first + tp - 1}]"])
            for name in used
            for first in starts
        ]
        job = serving_plan(replicas, tp=tp, bound=[])
    case = Case(plan(job), where, workload(serving_job()))
    devices_by = draw.choice(["device-plugin", "dra", "dra"])
    exact = devices_by == "dra" and draw.random() < 0.5 and job.kind == "serving"
    ids = {gpu: gpu_uuid(gpu, Target()) for gpu in where.gpus} if exact else {}
    platform = Platform(devices=devices_by, driver="0.5", exact=exact, gpu_ids=ids)  # type: ignore[arg-type]
    version = draw.choice(["1.34", "1.37"])
    target = Target(version=version, platform=platform, portable=not exact and draw.random() < 0.3)
    return Context(case.plan, case.topology, case.workload, target)


def lose_gpus(draw: random.Random, node: Json, objects: list[Json]) -> None:
    """Take every GPU of a node away."""
    amounts = node["status"]["allocatable"]
    amounts.update({name: "0" for name in amounts if name.startswith("nvidia.com/")})
    for one in objects:
        if one["kind"] == "ResourceSlice" and one["spec"]["nodeName"] == node["metadata"]["name"]:
            one["spec"]["devices"] = []


def lose_cores(draw: random.Random, node: Json, objects: list[Json]) -> None:
    """Fill the NUMA domains of a node."""
    node["status"]["allocatable"]["cpu"] = "500m"
    for one in objects:
        if one["kind"] == "NodeResourceTopology" and one["metadata"]["name"] == node["metadata"]["name"]:
            for zone in one["zones"]:
                zone["resources"][0]["available"] = "250m"


def lose_label(draw: random.Random, node: Json, objects: list[Json]) -> None:
    """Take a label that pods ask for off a node."""
    del node["metadata"]["labels"][draw.choice(["kubernetes.io/hostname", "kubernetes.io/arch"])]


def taint(draw: random.Random, node: Json, objects: list[Json]) -> None:
    """Cordon a node."""
    node["spec"]["taints"] = [{"key": "maintenance", "effect": "NoSchedule"}]


def older_driver(draw: random.Random, node: Json, objects: list[Json]) -> None:
    """Have the driver of a node publish less: an extended resource is gone, devices lack their properties."""
    amounts = node["status"]["allocatable"]
    for name in [name for name in amounts if name.startswith("nvidia.com/")]:
        del amounts[name]
    for one in objects:
        if one["kind"] == "ResourceSlice" and one["spec"]["nodeName"] == node["metadata"]["name"]:
            for device in one["spec"]["devices"]:
                device["capacity"], device["attributes"] = {}, {"type": {"string": "gpu"}}


CHANGES: tuple[Change, ...] = (lose_gpus, lose_cores, lose_label, taint, older_driver)


def outcome(context: Context, objects: list[Json], cluster: list[Json]) -> tuple[list[str], list[str]]:
    """Return why pods stay unscheduled, and what would be wrong about those that do not."""
    landings = land(objects, cluster)
    lost = [one.reason for one in landings if one.node is None]
    return lost, [] if lost else list(misplaced(context, objects, landings))


def judged(context: Context, seed: int) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what 20 changes of the cluster do to a plan, each on one of its nodes."""
    draw = random.Random(seed)
    objects, cluster = bundle_objects(context).all, world(context)
    assert outcome(context, objects, cluster) == ([], [])
    hosts = {gpu.partition("/")[0] for job in context.plan.jobs for gpu in job.gpus()}
    for index in range(PERTURBATIONS):
        change, changed = CHANGES[index % len(CHANGES)], copy.deepcopy(cluster)
        host = draw.choice(sorted(hosts))
        (node,) = [one for one in changed if one["kind"] == "Node" and one["metadata"]["name"] == host]
        change(draw, node, changed)
        yield change.__name__, *outcome(context, objects, changed)


def settle(context: Context, seed: int) -> None:
    for name, lost, wrong in judged(context, seed):
        assert wrong == [], name
        assert lost or context.target.portable, name  # which may go to a node that is as good
        assert all("nodes are available" in reason for reason in lost), name


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_lands_as_planned_or_not_at_all(seed: int) -> None:
    """Random plans land on their nodes and GPUs; where something is missing, nowhere, with a reason."""
    settle(random_case(seed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_plans_land_as_planned_or_not_at_all(block: int) -> None:
    """The same for 190 more plans."""
    for seed in range(20 + 19 * block, 39 + 19 * block):
        settle(random_case(seed), seed)


@pytest.mark.parametrize("situation", situations(), ids=lambda one: one.name)
@pytest.mark.parametrize("devices", ["device-plugin", "dra"])
def test_the_situations_land_as_planned(situation: Situation, devices: str) -> None:
    """On shipped machines, with extended resources and with claims, every pod goes where the plan has it."""
    platform = Platform(devices=devices, driver="0.5", labels="topograph-1.0")  # type: ignore[arg-type]
    context = Context(situation.plan, situation.topology, situation.workload, Target(platform=platform))
    settle(context, 1)


def test_a_split_clique_leaves_pods_unscheduled() -> None:
    """When the nodes of an NVLink domain part, no group of pods straddles the gap."""
    (one,) = [one for one in situations() if one.name == "NVLink domain"]
    target = Target(platform=Platform(devices="dra"))
    context = Context(one.plan, one.topology, one.workload, target)
    objects, cluster = bundle_objects(context).all, world(context)
    (node,) = [item for item in cluster if item["kind"] == "Node" and item["metadata"]["name"] == "tray-2"]
    node["metadata"]["labels"]["nvidia.com/gpu.clique"] = "another"
    lost, _ = outcome(context, objects, cluster)
    assert len(lost) == 1 and "pod affinity" in lost[0]


def test_a_bundle_that_would_land_elsewhere_is_not_written() -> None:
    """Where two kinds of machine bear one label, pods would go to the wrong one: refused, with both named."""
    machines = [machine("big", cores=64), machine("small")]
    where = topology(nodes("a-0", "big"), nodes("b-0", "small"), machines=machines)
    job = serving_plan([Replica(name="r", node="b-0", devices=["b-0/gpu[0-3]"])], bound=[])
    same = {"big": {"example.org/pool": "gpus"}, "small": {"example.org/pool": "gpus"}}
    target = Target(most_hostnames=0, machine_labels=same)
    with pytest.raises(DeployError, match=r"GPUs of big 4, but the plan has small 4"):
        kubernetes_bundle(plan(job), where, workload(serving_job()), target)
    apart = {**same, "big": {"example.org/pool": "others"}}
    assert kubernetes_bundle(
        plan(job), where, workload(serving_job()), Target(most_hostnames=0, machine_labels=apart)
    )
