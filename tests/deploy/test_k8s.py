import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from benchmarks.manifest_plans import plan, serving_plan
from planner import __version__
from planner.deploy import Target, kubernetes_bundle
from planner.deploy.target import VERSIONS
from planner.placement.plan import Replica
from planner.topology import TopologyDocument, resolve
from planner.workload.resolve import Workload
from tests.deploy.manifests import (
    CUSTOM,
    as_pod,
    bundle,
    containers,
    documents,
    known,
    pods,
    strict,
    templates,
    validate_core,
)
from tests.deploy.plans import (
    Case,
    all_cases,
    device,
    multi_node_service,
    nodes,
    riscv_stages,
    serving_job,
    single_node_service,
    topology,
    training,
    training_job,
    workload,
)

CASES = all_cases()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_every_object_and_every_pod_is_valid(name: str, version: str) -> None:
    """Core kinds, and pods inside custom kinds, satisfy the strict schema of each supported release."""
    for item in known(name) if version == "1.34" else bundle(CASES[name], Target(version=version)):
        if item["kind"] not in CUSTOM:
            validate_core(item, version)
        for template in templates(item):
            validate_core(as_pod(template), version)


@pytest.fixture(scope="module")
def custom_schema(shared_data: Path) -> Callable[[str], Draft202012Validator]:
    """Return the strict validator of a custom kind, from the recorded definitions."""
    folder = shared_data / "k8s-schemas" / "crds"
    files = {
        "LeaderWorkerSet": "leaderworkerset.x-k8s.io_leaderworkerset_v1.json",
        "JobSet": "jobset.x-k8s.io_jobset_v1alpha2.json",
    }

    def validator(kind: str) -> Draft202012Validator:
        path = folder / files[kind]
        if not path.is_file():
            pytest.skip(f"the definition of {kind} ({path.name}) is absent")
        schema = strict(json.loads(path.read_text(encoding="utf-8"))["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        return Draft202012Validator(schema)

    return validator


@pytest.mark.reference
@pytest.mark.parametrize("name", ["multi-node service", "training on 8 nodes", "training on 2048 nodes"])
def test_custom_kinds_satisfy_their_definitions(
    name: str, custom_schema: Callable[[str], Draft202012Validator]
) -> None:
    """LeaderWorkerSet and JobSet satisfy their definitions, and a misspelt field does not."""
    found = [item for item in known(name) if item["kind"] in CUSTOM]
    assert found
    for item in found:
        validator = custom_schema(item["kind"])
        validator.validate(item)
        with pytest.raises(ValidationError, match="replica_count"):
            validator.validate({**item, "spec": {**item["spec"], "replica_count": 1}})


@pytest.mark.parametrize("name", CASES)
def test_every_pod_is_of_class_guaranteed(name: str) -> None:
    """Requests equal limits in whole CPUs for every container, so that the kubelet pins cores."""
    found = containers(known(name))
    assert found
    for container in found:
        amounts = container["resources"]
        assert amounts["requests"] == amounts["limits"]
        assert int(amounts["limits"]["cpu"]) >= 1
        assert amounts["limits"]["memory"].endswith("Gi")


@pytest.mark.parametrize("name", CASES)
def test_every_pod_runs_without_rights(name: str) -> None:
    """No pod runs as root, writes to its image, bears a token, or keeps capabilities."""
    for pod in pods(known(name)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", CASES)
def test_kustomization_lists_every_manifest(name: str) -> None:
    """What kustomize applies is exactly what was written."""
    case = CASES[name]
    files = kubernetes_bundle(case.plan, case.topology, case.workload)
    written = {name.removeprefix("base/") for name in files if name.startswith("base/")}
    listed = yaml.safe_load(files["base/kustomization.yaml"])["resources"]
    assert written == {*listed, "kustomization.yaml"}
    assert yaml.safe_load(files["kustomization.yaml"])["resources"] == ["base"]


def test_workloads_name_their_plan() -> None:
    """Digest and version stand on what starts pods, but not on pods, which a new digest must not restart."""
    case = single_node_service()
    (deployment,) = [item for item in bundle(case) if item["kind"] == "Deployment"]
    annotations = deployment["metadata"]["annotations"]
    assert annotations["planner.example.org/plan-digest"] == case.plan.content_digest
    slower = case.plan.solver.model_copy(update={"seconds": 123.0})
    assert case.plan.model_copy(update={"solver": slower}).content_digest == case.plan.content_digest
    assert annotations["planner.example.org/planner-version"] == f"v{__version__}"
    assert case.plan.content_digest not in json.dumps(deployment["spec"])


def test_bundle_is_reproducible() -> None:
    """The same plan gives the same bytes, whatever the order of nodes and of the workload's jobs."""
    job = training(8)
    first, second = nodes("node-[0-7]"), nodes("spare-[0-3]")
    # Each node has GPUs for one of the jobs only.
    replicas = [
        Replica(name=f"r{half}", node="spare-0", devices=[f"spare-0/gpu[{4 * half}-{4 * half + 3}]"])
        for half in range(2)
    ]
    moved = plan(serving_plan(replicas), job.plan.jobs[0])
    one = kubernetes_bundle(moved, topology(first, second), workload(serving_job(), training_job()))
    again = kubernetes_bundle(moved, topology(first, second), workload(serving_job(), training_job()))
    other = kubernetes_bundle(moved, topology(second, first), workload(training_job(), serving_job()))
    assert one == again == other
    assert list(one) == list(other)


def test_requirements_name_what_the_cluster_must_have() -> None:
    """The document beside the manifests names custom kinds, claims, placeholders and kubelet policies."""
    case = riscv_stages()
    files = kubernetes_bundle(case.plan, case.topology, case.workload)
    found: dict[str, Any] = json.loads(files["requirements.json"])
    assert found["images to replace"] == ["registry.example.org/stage-worker:1.0.0"]
    assert found["volume claims"] == ["models"]
    assert found["architectures"] == ["riscv64"]
    assert found["resources"] == ["nvidia.com/gpu"]
    assert [one["cpuManagerPolicy"] for one in found["nodes"]["kubelet"]] == ["static"]
    assert found["nodes"]["kubelet"][0]["topologyManagerPolicy"] == "single-numa-node"
    group = multi_node_service()
    found = json.loads(kubernetes_bundle(group.plan, group.topology, group.workload)["requirements.json"])
    assert [kind["crd"] for kind in found["kinds"]] == ["leaderworkersets.leaderworkerset.x-k8s.io"]
    assert found["nodes"]["kubelet"][0]["topologyManagerPolicy"] == "best-effort"


def test_jobs_on_one_node_share_its_cores() -> None:
    """Two jobs on one node together ask for no more cores than it has, with some left for the kubelet."""
    service = single_node_service().plan.jobs[0]
    halves = [
        service.model_copy(update={"name": f"half-{i}", "replicas": [service.replicas[i]], "bindings": []})  # type: ignore[union-attr]
        for i in range(2)
    ]
    case = Case(
        plan(*halves), topology(nodes("node-[0-1]")), workload(serving_job("half-0"), serving_job("half-1"))
    )
    cpus = [int(container["resources"]["limits"]["cpu"]) for container in containers(bundle(case))]
    assert len(cpus) == 2
    assert sum(cpus) <= 110


def test_topology_given_as_a_document_is_enough() -> None:
    """A cluster of one node without a list of nodes is a cluster too."""
    case = single_node_service()
    document = TopologyDocument(name="one", devices=[device()], machines=case.topology.document.machines)
    lonely = resolve(document, {"accelerator": device()})
    service = case.plan.jobs[0]
    here = service.replicas[0].model_copy(update={"node": "box", "devices": ["box/gpu[0-3]"]})  # type: ignore[union-attr]
    small = plan(service.model_copy(update={"replicas": [here]}))
    empty = Workload(case.workload.document, (), case.workload.digest)
    assert len(documents(kubernetes_bundle(small, lonely, empty))) == 5
