"""Serving in two pools: Deployments behind a router, or one PodCliqueSet where KAI schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.manifest_plans import plan, serving_plan
from planner.deploy import Target, kubernetes_bundle
from planner.deploy.apiserver import Checker, read_schemas
from planner.deploy.expand import pod_sets
from planner.deploy.platform import Platform
from planner.placement.plan import Batching, PrefillPart, Replica, Strategy
from tests.deploy.manifests import documents, environment, of_kind, only
from tests.deploy.plans import Case, nodes, serving_job, topology, workload


def two_pools(*, spans: bool = False) -> Case:
    """Return prompts on one node, two servers, and answers on another, or over two."""
    prompts = [
        Replica(name=f"p{i}", node="node-0", devices=[f"node-0/gpu[{4 * i}-{4 * i + 3}]"]) for i in range(2)
    ]
    answers = ["node-1/gpu[0-7]", "node-2/gpu[0-7]"] if spans else ["node-1/gpu[0-7]"]
    job = serving_plan([Replica(name="d0", node="node-1", devices=answers)], tp=8, pp=len(answers), bound=[])
    part = PrefillPart(
        strategy=Strategy(tp=4, dp=2), layers=[80], replicas=prompts, memory=job.memory[:1], cache_move=0.01,
        batching=Batching(max_batch=8, max_tokens=8192),
    )  # fmt: skip
    whole = job.model_copy(update={"prefill": part})
    return Case(plan(whole), topology(nodes("node-[0-3]")), workload(serving_job()))


def bundle(case: Case, **platform: Any) -> list[Any]:
    target = Target(platform=Platform(labels="topograph-1.0", **platform))
    return documents(kubernetes_bundle(case.plan, case.topology, case.workload, target))


def test_a_router_stands_before_two_deployments() -> None:
    """Each pool has its own service, both hand caches on, and clients reach the router by the job's name."""
    objects = bundle(two_pools())
    found = {one["metadata"]["name"]: one for one in of_kind(objects, "Deployment")}
    assert {name: one["spec"]["replicas"] for name, one in found.items()} == {
        "chat-prefill": 2, "chat-decode": 1, "chat-router": 1,
    }  # fmt: skip
    for name in ("chat-prefill", "chat-decode"):
        (server,) = found[name]["spec"]["template"]["spec"]["containers"]
        assert any("NixlConnector" in word for word in server["args"])
        assert environment(server)["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5600"
    (router,) = found["chat-router"]["spec"]["template"]["spec"]["containers"]
    assert router["args"][:2] == ["--prefill=http://chat-prefill:80", "--decode=http://chat-decode:80"]
    selectors = {one["metadata"]["name"]: one["spec"]["selector"] for one in of_kind(objects, "Service")}
    role = "planner.example.org/role"
    assert (selectors["chat-prefill"][role], selectors["chat-decode"][role]) == ("prefill", "decode")
    assert selectors["chat"]["app.kubernetes.io/component"] == "router"


def test_a_pool_over_nodes_is_a_group() -> None:
    """A server over two nodes is a LeaderWorkerSet of its pool, under either scheduler."""
    for stack in ("core", "kai"):
        objects = bundle(two_pools(spans=True), stack=stack)
        group = only(objects, "LeaderWorkerSet")
        assert group["metadata"]["name"] == "chat-decode" and of_kind(objects, "PodCliqueSet") == []


def test_kai_gets_one_set_of_cliques() -> None:
    """Both pools are cliques of one set, all pods at once, held to the smallest level that has both."""
    objects = bundle(two_pools(), stack="kai")
    whole = only(objects, "PodCliqueSet")
    cliques = {one["name"]: one for one in whole["spec"]["template"]["cliques"]}
    counts = {name: one["spec"]["replicas"] for name, one in cliques.items()}
    assert counts == {name: one["spec"]["minAvailable"] for name, one in cliques.items()}
    assert counts == {"prefill": 2, "decode": 1}
    assert all(one["spec"]["podSpec"]["schedulerName"] == "kai-scheduler" for one in cliques.values())
    assert all(one["labels"]["kai.scheduler/queue"] == "planner" for one in cliques.values())
    assert [one["metadata"]["name"] for one in of_kind(objects, "Deployment")] == ["chat-router"]
    levels = only(objects, "ClusterTopologyBinding")["spec"]["levels"]
    assert levels[-1] == {"domain": "host", "key": "kubernetes.io/hostname"}
    assert sorted(pods.count for pods in pod_sets(objects)) == [1, 1, 2]


@pytest.mark.reference
@pytest.mark.parametrize("stack", ["core", "kueue", "kai", "volcano", "numa"])
def test_pools_are_valid_under_every_scheduler(shared_data: Path, stack: str) -> None:
    """Every object passes the schema and rules of its kind."""
    checker = Checker(read_schemas(shared_data / "k8s-schemas", "1.34"))
    for case in (two_pools(), two_pools(spans=True)):
        for item in bundle(case, stack=stack):
            assert checker.problems(item) == []
