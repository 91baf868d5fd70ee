"""Whether a cluster has what a bundle needs: ``requirements.json`` held against a dump of the cluster.

The dump is what ``kubectl get nodes,crds,deviceclasses,resourceslices,noderesourcetopologies,pvc -A -o json``
prints. Kinds that it lacks altogether are named as not looked at, rather than taken for absent.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.affinity import ARCH, HOSTNAME
from planner.deploy.capabilities import earlier
from planner.deploy.errors import DeployError
from planner.deploy.scheduler.numa import policy_of
from planner.deploy.scheduler.quantities import quantity
from planner.deploy.slicing import slice_resource

Json = Mapping[str, Any]
_RELEASE = re.compile(r"v?(\d+\.\d+)")


@dataclass(frozen=True)
class Preflight:
    """What a cluster lacks, and what the dump does not show."""

    lacking: tuple[str, ...]
    unseen: tuple[str, ...]


def preflight(needs: Json, objects: Sequence[Json]) -> Preflight:
    """Return what a cluster lacks of the requirements of a bundle.

    Parameters
    ----------
    needs
        The document ``requirements.json`` of a bundle.
    objects
        Objects of the cluster.

    Raises
    ------
    DeployError
        If the document is no such requirements.
    """
    cluster = _Dump(objects)
    try:
        lacking = [*_placeholders(needs), *cluster.nodes_lack(needs), *cluster.objects_lack(needs)]
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise DeployError(
            f"no requirements.json of 'planner emit k8s', or a broken dump: {error!r}"
        ) from None
    return Preflight(tuple(dict.fromkeys(lacking)), tuple(dict.fromkeys(cluster.unseen)))


def _placeholders(needs: Json) -> Iterator[str]:
    for image in needs["images to replace"]:
        yield f"image {image} stands for your own; name it in programs of the target"


class _Dump:
    """Objects of a cluster by kind."""

    def __init__(self, objects: Sequence[Json]) -> None:
        self.by_kind: dict[str, dict[str, Json]] = defaultdict(dict)
        for one in objects:
            meta = one.get("metadata") or {}
            self.by_kind[str(one.get("kind"))][f"{meta.get('namespace', '')}/{meta.get('name')}"] = one
        self.unseen: list[str] = []

    def all(self, kind: str, what: str) -> list[Json]:
        """Return the objects of a kind; none at all are noted as not looked at."""
        found = list(self.by_kind.get(kind, {}).values())
        if not found:
            self.unseen.append(f"{what}: the dump has no {kind}")
        return found

    def nodes_lack(self, needs: Json) -> Iterator[str]:
        """Yield what nodes lack: the planned ones by name, and what some node must have."""
        nodes = self.all("Node", "nodes")
        if not nodes:
            return
        hosts = {_labels(node).get(HOSTNAME, node["metadata"]["name"]): node for node in nodes}
        for node in nodes:
            yield from _old(node, needs["kubernetes"])
        yield from _nowhere(needs, nodes)
        named = not needs["nodes"]["labels by machine type"]
        for group in needs["nodes"]["kubelet"]:
            for host in group["nodes"] if named else ():
                yield from _absent(host, hosts)
            yield from self._kubelets(group)
        if needs["devices"]["mode"] == "device-plugin":
            yield from _slices_lack(needs, hosts)

    def _kubelets(self, group: Json) -> Iterator[str]:
        zones = {one["metadata"]["name"]: one for one in self.all("NodeResourceTopology", "kubelet policies")}
        wanted = group["topologyManagerPolicy"], group["topologyManagerScope"]
        for host in group["nodes"]:
            if host in zones and policy_of(zones[host]) != wanted:
                there = " ".join(policy_of(zones[host]))
                yield (
                    f"kubelet of {host}: topologyManagerPolicy and topologyManagerScope are {there}, but "
                    f"{' '.join(wanted)} are needed"
                )

    def objects_lack(self, needs: Json) -> Iterator[str]:
        """Yield missing kinds, claims of volumes, classes and attributes of devices."""
        if needs["kinds"]:
            definitions = {
                one["metadata"]["name"]: one for one in self.all("CustomResourceDefinition", "custom kinds")
            }
            for kind in needs["kinds"] if definitions else ():
                yield from _not_served(kind, definitions.get(kind["crd"]))
        if needs["volume claims"]:
            claims = {
                (one["metadata"].get("namespace"), one["metadata"]["name"])
                for one in self.all("PersistentVolumeClaim", "volume claims")
            }
            for name in needs["volume claims"] if claims else ():
                if (needs["namespace"], name) not in claims:
                    yield f"namespace {needs['namespace']} has no PersistentVolumeClaim {name}"
        if needs["devices"]["classes"]:
            classes = {one["metadata"]["name"] for one in self.all("DeviceClass", "device classes")}
            for name in needs["devices"]["classes"] if classes else ():
                if name not in classes:
                    yield f"there is no DeviceClass {name}; the driver for claims is not installed"
            yield from self._attributes(needs)

    def _attributes(self, needs: Json) -> Iterator[str]:
        devices = [
            (one["spec"].get("nodeName"), entry.get("basic") or entry)
            for one in self.all("ResourceSlice", "devices")
            if one["spec"]["driver"] == "gpu.nvidia.com"
            for entry in one["spec"].get("devices") or ()
        ]
        for name in needs["devices"]["attributes"]:
            without = sorted(
                {str(node) for node, one in devices if name not in (one.get("attributes") or {})}
            )
            if without:
                yield (
                    f"devices of {', '.join(without[:4])} do not publish {name}, which claims ask for; the "
                    f"driver there is older than {needs['devices']['driver']}"
                )


def _nowhere(needs: Json, nodes: Sequence[Json]) -> Iterator[str]:
    """Yield what at least one node must have and none has."""
    for arch in needs["architectures"]:
        if all(_labels(node).get(ARCH) != arch for node in nodes):
            yield f"no node is of architecture {arch}"
    for resource in needs["resources"]:
        if all(not quantity(_allocatable(node).get(resource, 0)) for node in nodes):
            yield f"no node has the resource {resource}; its device plugin is not installed or not ready"
    for machine, labels in needs["nodes"]["labels by machine type"].items():
        if not any(labels.items() <= _labels(node).items() for node in nodes):
            pairs = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
            yield f"no node bears the labels of machine type {machine}: {pairs}"


def _labels(node: Json) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _allocatable(node: Json) -> Json:
    return (node.get("status") or {}).get("allocatable") or {}


def _old(node: Json, release: str) -> Iterator[str]:
    text = ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or ""
    match = _RELEASE.match(text)
    if match and earlier(match[1], release):
        yield f"node {node['metadata']['name']} runs Kubernetes {text}; the files are for {release} or later"


def _absent(host: str, hosts: Mapping[str, Json]) -> Iterator[str]:
    node = hosts.get(host)
    if node is None:
        yield f"there is no node {host}, which the plan uses"
        return
    if (node.get("spec") or {}).get("unschedulable"):
        yield f"node {host}, which the plan uses, is cordoned"
    states = {one["type"]: one["status"] for one in (node.get("status") or {}).get("conditions") or ()}
    if states.get("Ready", "True") != "True":
        yield f"node {host}, which the plan uses, is not ready"


def _slices_lack(needs: Json, hosts: Mapping[str, Json]) -> Iterator[str]:
    """Yield nodes with fewer slices of GPUs than the plan has there, under the mixed strategy."""
    if needs["devices"]["mig strategy"] != "mixed":
        return
    asked: dict[tuple[str, str], int] = defaultdict(int)
    for gpu, profiles in needs["nodes"]["slices of GPUs"].items():
        for profile in profiles:
            asked[gpu.partition("/")[0], slice_resource(profile)] += 1
    for (host, resource), count in sorted(asked.items()):
        there = quantity(_allocatable(hosts[host]).get(resource, 0)) if host in hosts else 0
        if there < count:
            yield f"node {host} has {there} of {resource}, the plan needs {count}: cut its GPUs"


def _not_served(kind: Json, definition: Json | None) -> Iterator[str]:
    if definition is None:
        yield f"{kind['crd']} is not installed; it comes with {kind['project']}"
        return
    served = [one["name"] for one in definition["spec"]["versions"] if one.get("served", True)]
    if kind["version"] not in served:
        yield f"{kind['crd']} is served as {', '.join(served)}, not {kind['version']}; use {kind['project']}"
