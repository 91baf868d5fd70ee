"""Slices of GPUs by the strategy of the device plugin, and policies of the kubelets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.manifest_plans import plan, serving_plan
from planner.deploy import DeployError, Target, kubernetes_bundle
from planner.deploy.context import Context
from planner.deploy.k8s import bundle_objects
from planner.deploy.platform import Kubelet, Platform
from planner.deploy.roundtrip import hold_stages, land, world
from planner.deploy.world import cluster_objects
from planner.placement.plan import CpuPlacement, Replica
from tests.deploy.manifests import containers, documents, of_kind
from tests.deploy.plans import Case, machine, nodes, riscv_stages, serving_job, topology, workload

PROFILE = "3g.71gb"


def sliced(*more: Any) -> Case:
    """Return two replicas on slices of one GPU, beside other jobs."""
    replicas = [Replica(name=f"r{i}", node="node-0", devices=["node-0/gpu0"]) for i in range(2)]
    job = serving_plan(replicas, name="small", tp=1, mig=PROFILE, bound=[])
    return Case(
        plan(job, *more), topology(nodes("node-0"), machines=[machine()]), workload(serving_job("small"))
    )


def target(strategy: str = "mixed", devices: str = "device-plugin", **more: Any) -> Target:
    return Target(platform=Platform(devices=devices, driver="0.5", mig_strategy=strategy, **more))  # type: ignore[arg-type]


def bundle(case: Case, aim: Target) -> list[Any]:
    return documents(kubernetes_bundle(case.plan, case.topology, case.workload, aim))


def whole() -> Any:
    replica = Replica(name="r", node="node-0", devices=["node-0/gpu[4-7]"])
    return serving_plan([replica], name="large", tp=4, bound=[])


def test_mixed_names_slices_by_profile_and_leaves_other_gpus_whole() -> None:
    """Slices and whole GPUs of one node are asked for by different resources, and both land."""
    limits = {
        name: amount
        for one in containers(bundle(sliced(whole()), target()))
        for name, amount in one["resources"]["limits"].items()
        if name.startswith("nvidia.com/")
    }
    assert limits == {f"nvidia.com/mig-{PROFILE}": "1", "nvidia.com/gpu": "4"}


def test_single_counts_slices_as_gpus_on_nodes_that_are_cut_alike() -> None:
    """The resource is that of whole GPUs, so that labels hold the pods to nodes with slices of this size."""
    objects = bundle(sliced(), target("single"))
    (one,) = of_kind(objects, "Deployment")
    spec = one["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    found = {entry["key"]: entry["values"] for entry in term["matchExpressions"]}
    assert found["nvidia.com/mig.strategy"] == ["single"] and found["nvidia.com/gpu.slices.gi"] == ["3"]


def test_a_node_with_whole_gpus_is_no_slice_under_single() -> None:
    """Where the GPUs of the node are not cut, pods stay unscheduled rather than take whole ones."""
    case = sliced()
    context = Context(case.plan, case.topology, case.workload, target("single"))
    objects, cluster = bundle_objects(context).all, world(context)
    (node,) = [one for one in cluster if one["kind"] == "Node"]
    del node["metadata"]["labels"]["nvidia.com/gpu.slices.gi"]
    node["status"]["allocatable"]["nvidia.com/gpu"] = "8"
    assert all(one.node is None and "affinity/selector" in one.reason for one in land(objects, cluster))


@pytest.mark.parametrize(
    ("strategy", "more", "words"),
    [("none", (), "mig_strategy: none gives no slices"), ("single", (whole(),), "equal slices on a node")],
)
def test_what_a_strategy_cannot_give_is_refused(strategy: str, more: Any, words: str) -> None:
    """No slices without a strategy, and no whole GPU beside slices under the single one."""
    with pytest.raises(DeployError, match=words):
        bundle(sliced(*more), target(strategy))


def test_claims_need_no_strategy() -> None:
    """With claims of devices the driver gives slices by profile, whatever the device plugin does."""
    (claim,) = of_kind(bundle(sliced(), target("none", "dra")), "ResourceClaimTemplate")
    request = claim["spec"]["spec"]["devices"]["requests"][0]["exactly"]
    assert (
        request["deviceClassName"] == "mig.nvidia.com"
        and PROFILE in request["selectors"][0]["cel"]["expression"]
    )


def test_exact_claims_hold_slices_to_their_gpu() -> None:
    """The selector names the parent of the slices, and a cluster that is cut elsewhere takes no pod."""
    case = sliced()
    ids = {f"node-0/gpu{number}": f"GPU-00000000-0000-0000-0000-{number:012d}" for number in range(8)}
    context = Context(case.plan, case.topology, case.workload, target("none", "dra", exact=True, gpu_ids=ids))
    files = kubernetes_bundle(case.plan, case.topology, case.workload, context.target)
    (claim,) = of_kind(documents(files), "ResourceClaimTemplate")
    (selector,) = claim["spec"]["spec"]["devices"]["requests"][0]["exactly"]["selectors"]
    assert f'parentUUID in ["{ids["node-0/gpu0"]}"]' in selector["cel"]["expression"]
    objects = bundle_objects(context).all
    elsewhere = cluster_objects(case.topology, context.target, cut={"node-0/gpu3": (PROFILE, PROFILE)})
    assert all(one.node is None and "allocate all claims" in one.reason for one in land(objects, elsewhere))


@pytest.mark.parametrize(
    ("kubelet", "words"),
    [
        (Kubelet(cpu_manager="none"), "to cores of one NUMA domain"),
        (Kubelet(topology_manager="best-effort"), "to cores of one NUMA domain"),
        (Kubelet(), ""),
        (Kubelet(topology_manager="restricted"), ""),
    ],
)
def test_stages_need_kubelets_that_hold_them(kubelet: Kubelet, words: str) -> None:
    """Stages pinned to a NUMA domain are refused where the stated policies would not keep them there."""
    if words:
        with pytest.raises(DeployError, match=words):
            bundle(riscv_stages(), target(kubelet=kubelet))
    else:
        assert bundle(riscv_stages(), target(kubelet=kubelet))


def test_pods_over_several_domains_need_kubelets_that_let_them() -> None:
    """A pod with all GPUs of two domains is turned away by single-numa-node, and taken by best-effort."""
    replica = Replica(name="r", node="node-0", devices=["node-0/gpu[0-7]"])
    case = Case(
        plan(serving_plan([replica], tp=8, bound=[])), topology(nodes("node-0")), workload(serving_job())
    )
    with pytest.raises(DeployError, match="several NUMA domains"):
        bundle(case, target(kubelet=Kubelet()))
    assert bundle(case, target(kubelet=Kubelet(topology_manager="best-effort")))


def beside(numa: str) -> Case:
    """Return a server on the GPUs of the second NUMA domain with a stage on some domain."""
    stage = CpuPlacement(
        stage="decode", numa=numa, cores=4, core_list="60-63" if numa == "numa1" else "0-3",
        utilisation=0.5, latency=0.01,
    )  # fmt: skip
    replica = Replica(name="r", node="node-0", devices=["node-0/gpu[4-7]"], stages=[stage])
    job = serving_plan([replica], tp=4, bound=[])
    return Case(plan(job), topology(nodes("node-0")), workload(serving_job(stages=("decode",))))


def test_stages_lie_beside_their_gpus() -> None:
    """Where stages are planned on the domain of their GPUs, kubelets align whole pods, and only then."""
    scopes = {}
    for numa in ("numa0", "numa1"):
        case = beside(numa)
        files = kubernetes_bundle(case.plan, case.topology, case.workload, target())
        (group,) = json.loads(files["requirements.json"])["nodes"]["kubelet"]
        scopes[numa] = group["topologyManagerScope"]
    assert scopes == {"numa0": "container", "numa1": "pod"}
    context = Context(case.plan, case.topology, case.workload, target())
    objects = bundle_objects(context).all
    hold_stages(context, objects)
    cluster = world(context)
    (found,) = [one for one in cluster if one["kind"] == "NodeResourceTopology"]
    before = [row["available"] for zone in found["zones"] for row in zone["resources"]]
    assert all(one.node for one in land(objects, cluster))
    after = [row["available"] for zone in found["zones"] for row in zone["resources"]]
    half = len(before) // 2
    assert (before[:half] != after[:half]) != (before[half:] != after[half:])  # one domain gave everything
