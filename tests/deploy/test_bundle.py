"""Bundles as wholes: the same bytes every time, fast, refused where the target lacks something, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.manifest_plans import plan, serving_plan, training_plan
from benchmarks.manifest_situations import Situation, situations
from planner.cli import cli
from planner.deploy import DeployError, Target, kubernetes_bundle
from planner.deploy.capabilities import capabilities
from planner.deploy.context import Context
from planner.deploy.difference import Change, changes
from planner.deploy.k8s import bundle_objects
from planner.deploy.platform import Platform
from planner.deploy.target import VERSIONS
from planner.deploy.target_document import load_target
from planner.placement.plan import Replica, Strategy
from tests.deploy.manifests import documents, of_kind
from tests.deploy.plans import Case, nodes, serving_job, topology, training_job, workload

SITUATIONS = {one.name: one for one in situations()}


def emitted(one: Situation, target: Target | None = None) -> dict[str, str]:
    return kubernetes_bundle(one.plan, one.topology, one.workload, target)


def platform(**fields: Any) -> Platform:
    return Platform(**{"driver": "0.5", "labels": "topograph-1.0", **fields})


def replicas(count: int, *, per_node: int = 2) -> Case:
    """Return a service of many replicas on halves of nodes."""
    found = [
        Replica(
            name=f"r-{index}",
            node=f"node-{index // per_node}",
            devices=[f"node-{index // per_node}/gpu[{4 * (index % 2)}-{4 * (index % 2) + 3}]"],
        )
        for index in range(count)
    ]
    where = topology(nodes(f"node-[0-{count // per_node - 1}]"))
    return Case(plan(serving_plan(found, bound=[])), where, workload(serving_job()))


def test_the_same_bytes_a_hundred_times() -> None:
    """The same plan gives the same files 100 times over."""
    first = emitted(SITUATIONS["NVLink domain"], Target(platform=platform(devices="dra")))
    for _ in range(99):
        assert emitted(SITUATIONS["NVLink domain"], Target(platform=platform(devices="dra"))) == first


def test_a_thousand_pods_are_written_and_verified() -> None:
    """A bundle of 1,000 pods holds them all; `benchmarks/RESULTS.md` says how long it takes."""
    case = replicas(1000)
    files = kubernetes_bundle(case.plan, case.topology, case.workload)
    assert sum(item["spec"]["replicas"] for item in of_kind(documents(files), "Deployment")) == 1000


@pytest.mark.parametrize(
    ("version", "fields", "words"),
    [
        ("1.37", {"devices": "dra", "stack": "kai"}, "switched off by default"),
        ("1.37", {"devices": "dra", "driver": "9.9"}, "driver '9.9' is unknown; known: 25.3"),
        ("1.37", {"stack": "slurm"}, "scheduler stack 'slurm' is unknown"),
        ("1.37", {"labels": "none"}, "label profile 'none' is unknown"),
        ("1.37", {"exact": True}, "exact GPUs need devices: dra"),
        ("1.37", {"devices": "dra", "exact": True}, "need gpu_ids"),
        ("1.37", {"devices": "dra", "exact": True, "gpu_ids": {"a/b": "x"}}, "no UUID"),
        ("1.33", {}, "is not supported"),
    ],
)
def test_what_a_target_lacks_is_refused_with_the_reason(version: str, fields: Any, words: str) -> None:
    """A combination that no cluster can have is refused before anything is written."""
    with pytest.raises(DeployError, match=words):
        Target(version=version, platform=Platform(**fields))


@pytest.mark.parametrize("version", VERSIONS)
def test_kinds_come_only_with_their_release(version: str) -> None:
    """Gangs of core Kubernetes are emitted from 1.37 on; no kind is emitted before its release."""
    found = documents(emitted(SITUATIONS["gang training"], Target(version=version, platform=platform())))
    assert bool(of_kind(found, "PodGroup")) == (version == "1.37")
    for item in found:
        served = capabilities().served(item["apiVersion"], item["kind"])
        assert served is None or served.since <= version


def test_selectors_name_only_what_the_driver_publishes() -> None:
    """With a driver that publishes no NUMA domain, claims carry no constraint on it."""
    for driver, constrained in (("0.5", True), ("0.4", False)):
        target = Target(platform=platform(devices="dra", driver=driver))
        (claim,) = of_kind(documents(emitted(SITUATIONS["CPU stage"], target)), "ResourceClaimTemplate")
        assert ("constraints" in claim["spec"]["spec"]["devices"]) == constrained


def test_pods_of_one_nvlink_domain_share_memory() -> None:
    """On GB200 a replica over four trays gets a ComputeDomain, and each of its pods a channel of it."""
    found = documents(emitted(SITUATIONS["NVLink domain"], Target(platform=platform(devices="dra"))))
    (domain,) = of_kind(found, "ComputeDomain")
    channel = domain["spec"]["channel"]["resourceClaimTemplate"]["name"]
    (group,) = of_kind(found, "LeaderWorkerSet")
    for word in ("leaderTemplate", "workerTemplate"):
        spec = group["spec"]["leaderWorkerTemplate"][word]["spec"]
        assert channel in [one["resourceClaimTemplateName"] for one in spec["resourceClaims"]]
        assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpus"}, {"name": "imex"}]


def objects(case: Case) -> list[Any]:
    return bundle_objects(Context(case.plan, case.topology, case.workload, Target())).all


def test_a_diff_names_the_pods_that_restart_and_no_other() -> None:
    """An equal plan restarts nothing; a new batch restarts the servers, and not the training beside them."""
    where, service = topology(nodes("node-[0-7]")), replicas(8).plan.jobs[0]
    assert service.kind == "serving"
    train = training_plan(Strategy(tp=8, dp=4), ["node-[4-7]/gpu[0-7]"], bound=[])
    batch = service.batching.model_copy(update={"max_batch": 32})
    old, same, new = (
        objects(Case(plan(one, train), where, workload(serving_job(), training_job())))
        for one in (service, service, service.model_copy(update={"batching": batch}))
    )
    assert changes(old, same) == []
    assert changes(old, new) == [Change("Deployment chat", "restart", 8, "the pod's containers differ")]
    stopped = changes(old, [])
    assert {(one.owner, one.action) for one in stopped} == {
        ("Deployment chat", "stop"),
        ("JobSet pretrain", "stop"),
    }
    fewer = changes(objects(replicas(8)), objects(replicas(6)))
    assert ("stop", 2) in [(one.action, one.pods) for one in fewer]


def test_a_target_is_read_from_a_document(tmp_path: Path) -> None:
    """Everything that options cannot say stands in a document; its mistakes are named with their place."""
    path = tmp_path / "target.yaml"
    path.write_text("schema: target/1\nkubernetes: '1.37'\ndevices: dra\ndriver: '0.5'\nstack: kueue\n")
    assert load_target(path).platform.stack == "kueue"
    path.write_text("schema: target/1\nstack: slurm\n")
    with pytest.raises(Exception, match=r"target\.yaml:2"):
        load_target(path)


POD = """
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  containers:
  - {name: main, image: "a:1", resources: {limits: {nvidia.com/gpu: "GPUS"}}}
"""


def check(path: Path, text: str, *words: str) -> tuple[int, str]:
    path.write_text(text)
    found = CliRunner().invoke(cli, ["check", "k8s", str(path), *words])
    return found.exit_code, found.output


def test_users_manifests_are_judged(tmp_path: Path) -> None:
    """``check k8s`` says where pods go, why they go nowhere, and what an API server would refuse."""
    path = tmp_path / "pod.yaml"
    code, text = check(path, POD.replace("GPUS", "8"), "--topology", "hgx-h200")
    assert code == 0 and "Pod one: hgx-h200" in text
    code, text = check(path, POD.replace("GPUS", "9"), "--topology", "hgx-h200")
    assert code == 1 and "Insufficient nvidia.com/gpu" in text
    code, text = check(path, POD.replace("GPUS", "1.5"))
    assert code == 1 and "must be an integer" in text
    for broken in ("a: [", "- 1", "kind: 3", "apiVersion: v1\nkind: Pod\nspec: 7\n"):
        code, text = check(path, broken)
        assert code == 1 and "Traceback" not in text


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["spec", "template", "containers", "metadata", "labels", "selector"]), inner
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["Pod", "Deployment", "JobSet", "Service", "X"]), body=YAML)
def test_no_document_makes_the_check_fail(kind: str, body: Any) -> None:
    """Whatever a manifest holds, the answer is a list of problems."""
    from planner.deploy.judge import judge

    whole = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "spec": body}
    group = {"Deployment": "apps/v1", "JobSet": "jobset.x-k8s.io/v1alpha2"}.get(kind, "v1")
    assert isinstance(judge([{**whole, "apiVersion": group}]).problems, tuple)


HOSTILE = st.text(max_size=40).filter(lambda text: "\0" not in text)


@settings(max_examples=30, deadline=None)
@given(image=HOSTILE, namespace=HOSTILE, queue=HOSTILE, domain=HOSTILE)
def test_a_hostile_target_breaks_nothing(image: str, namespace: str, queue: str, domain: str) -> None:
    """Names of the target either are refused, or arrive unchanged in YAML that reads back the same."""
    one = SITUATIONS["gang training"]
    try:
        target = Target(namespace=namespace, queue=queue, domain=domain, platform=platform(stack="kueue"))
        files = emitted(one, target)
    except DeployError:
        return
    for text in files.values():
        list(yaml.safe_load_all(text)) if not text.startswith("{{") else None
    for item in documents(files):
        assert item["metadata"].get("namespace", namespace) == namespace


def test_json_of_the_check_is_one_object(tmp_path: Path) -> None:
    """With --json the landings and problems are one object on standard output."""
    path = tmp_path / "pod.yaml"
    path.write_text(POD.replace("GPUS", "2"))
    words = ["--json", "check", "k8s", str(path), "--topology", "hgx-h200"]
    found = json.loads(CliRunner().invoke(cli, words).stdout)
    assert found["ok"] is True and found["pods"] == [{"pod": "Pod one", "node": "hgx-h200", "devices": []}]


def test_templates_of_claims_are_never_changed_in_place() -> None:
    """Another selector has another name, which the API server takes, and its pods restart for it."""
    case = replicas(2)
    names, found = [], []
    for driver in ("0.5", "0.4"):
        target = Target(platform=platform(devices="dra", driver=driver))
        found.append(bundle_objects(Context(case.plan, case.topology, case.workload, target)).all)
        names += [item["metadata"]["name"] for item in of_kind(found[-1], "ResourceClaimTemplate")]
    assert len(names) == 2 and len(set(names)) == 2
    assert [(one.action, one.reason) for one in changes(*found)] == [
        ("restart", "the pod's resourceClaims differ")
    ]
