"""Requirements of a bundle held against dumps of clusters."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from planner.cli.main import cli
from planner.deploy import DeployError, Target, kubernetes_bundle
from planner.deploy.context import Context
from planner.deploy.platform import Platform
from planner.deploy.preflight import preflight
from planner.deploy.roundtrip import world
from planner.deploy.target import Program
from tests.deploy.plans import multi_node_service, single_node_service
from tests.deploy.test_slicing import sliced
from tests.deploy.test_slicing import target as plugin

Json = dict[str, Any]
CRD = "leaderworkersets.leaderworkerset.x-k8s.io"


def dump(context: Context, needs: Json) -> list[Json]:
    """Return the objects of a cluster that has everything."""
    objects = world(context)
    for one in objects:
        if one["kind"] == "Node":
            one["status"]["nodeInfo"] = {"kubeletVersion": "v1.37.1"}
            one["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    for kind in needs["kinds"]:
        spec = {"versions": [{"name": kind["version"], "served": True}]}
        objects.append({"kind": "CustomResourceDefinition", "metadata": {"name": kind["crd"]}, "spec": spec})
    claim = {"name": "models", "namespace": "planner"}
    return [*objects, {"kind": "PersistentVolumeClaim", "metadata": claim}]


def prepared(devices: str = "dra") -> tuple[Json, list[Json]]:
    case = multi_node_service()
    target = Target(
        version="1.36",
        platform=Platform(devices=devices, driver="0.5", labels="topograph-1.0"),  # type: ignore[arg-type]
        programs={"large": Program(image="example.org/server:1")},
    )
    files = kubernetes_bundle(case.plan, case.topology, case.workload, target)
    needs = json.loads(files["requirements.json"])
    return needs, dump(Context(case.plan, case.topology, case.workload, target), needs)


def of(objects: list[Json], kind: str, name: str = "") -> Json:
    return next(one for one in objects if one["kind"] == kind and name in one["metadata"]["name"])


@pytest.mark.parametrize("devices", ["device-plugin", "dra"])
def test_a_cluster_that_has_everything_lacks_nothing(devices: str) -> None:
    """The cluster that the bundle was verified on meets its requirements, and all of it was looked at."""
    found = preflight(*prepared(devices))
    assert found.lacking == () and found.unseen == ()


CHANGES: dict[str, tuple[Callable[[list[Json]], Any], str]] = {
    "node gone": (lambda all_: all_.remove(of(all_, "Node", "node-1")), "there is no node node-1"),
    "cordoned": (
        lambda all_: of(all_, "Node", "node-1")["spec"].update(unschedulable=True),
        "node-1, which the plan uses, is cordoned",
    ),
    "not ready": (
        lambda all_: of(all_, "Node", "node-3")["status"]["conditions"][0].update(status="False"),
        "node-3, which the plan uses, is not ready",
    ),
    "old kubelet": (
        lambda all_: of(all_, "Node")["status"]["nodeInfo"].update(kubeletVersion="v1.33.4-gke.1"),
        "runs Kubernetes v1.33.4-gke.1; the files are for 1.36",
    ),
    "no kind": (
        lambda all_: of(all_, "CustomResourceDefinition")["metadata"].update(name="others.example.org"),
        f"{CRD} is not installed",
    ),
    "old kind": (
        lambda all_: of(all_, "CustomResourceDefinition")["spec"]["versions"][0].update(name="v1alpha1"),
        f"{CRD} is served as v1alpha1, not v1",
    ),
    "no weights": (
        lambda all_: of(all_, "PersistentVolumeClaim")["metadata"].update(namespace="other"),
        "namespace planner has no PersistentVolumeClaim models",
    ),
    "no class": (
        lambda all_: of(all_, "DeviceClass", "gpu.nvidia.com")["metadata"].update(name="other"),
        "no DeviceClass gpu.nvidia.com",
    ),
    "kubelet policy": (
        lambda all_: of(all_, "NodeResourceTopology", "node-1")["attributes"][0].update(value="none"),
        "kubelet of node-1",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_cluster_lacks_is_named(name: str) -> None:
    """One thing that is missing is one sentence that names it."""
    change, words = CHANGES[name]
    needs, objects = prepared()
    changed = copy.deepcopy(objects)
    change(changed)
    found = preflight(needs, changed).lacking
    assert len(found) == 1 and words in found[0], found


def test_attributes_and_resources_are_looked_for() -> None:
    """A driver that publishes no NUMA domain, and a plugin that gives no GPUs, are found out beforehand."""
    case = single_node_service()
    target = Target(platform=Platform(devices="dra", driver="0.5"))
    files = kubernetes_bundle(case.plan, case.topology, case.workload, target)
    needs = json.loads(files["requirements.json"])
    objects = dump(Context(case.plan, case.topology, case.workload, target), needs)
    for device in of(objects, "ResourceSlice")["spec"]["devices"]:
        del device["attributes"]["resource.kubernetes.io/numaNode"]
    assert any(
        "do not publish resource.kubernetes.io/numaNode" in one for one in preflight(needs, objects).lacking
    )
    needs, objects = prepared("device-plugin")
    for one in objects:
        if one["kind"] == "Node":
            del one["status"]["allocatable"]["nvidia.com/gpu"]
    assert preflight(needs, objects).lacking == (
        "no node has the resource nvidia.com/gpu; its device plugin is not installed or not ready",
    )


def test_gpus_that_are_not_cut_are_found() -> None:
    """Two slices are needed on a node that has one."""
    case = sliced()
    files = kubernetes_bundle(case.plan, case.topology, case.workload, plugin())
    needs = json.loads(files["requirements.json"])
    objects = dump(Context(case.plan, case.topology, case.workload, plugin()), needs)
    assert not any("slice" in one or "cut" in one for one in preflight(needs, objects).lacking)
    of(objects, "Node")["status"]["allocatable"]["nvidia.com/mig-3g.71gb"] = "1"
    assert any(
        "has 1 of nvidia.com/mig-3g.71gb, the plan needs 2" in one
        for one in preflight(needs, objects).lacking
    )


def test_the_command_says_what_is_missing_and_what_it_did_not_see(tmp_path: Path) -> None:
    """Exit code 1 with reasons; kinds that the dump lacks are named; what is no requirements is refused."""
    needs, objects = prepared()
    nodes = [one for one in objects if one["kind"] == "Node"]
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **one} for one in nodes[1:]]}
    (tmp_path / "requirements.json").write_text(json.dumps(needs))
    (tmp_path / "cluster.json").write_text(json.dumps(listed))
    words = [
        "check",
        "k8s",
        str(tmp_path / "cluster.json"),
        "--requirements",
        str(tmp_path / "requirements.json"),
    ]
    found = CliRunner().invoke(cli, ["--json", *words])
    answer = json.loads(found.stdout)
    assert found.exit_code == 0 if answer["ok"] else found.exit_code == 1
    assert any("no CustomResourceDefinition" in one for one in answer["not looked at"])
    (tmp_path / "requirements.json").write_text("{}")
    assert CliRunner().invoke(cli, words).exit_code == 1
    with pytest.raises(DeployError, match=r"no requirements\.json"):
        preflight({"images to replace": []}, nodes)
