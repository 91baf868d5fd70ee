"""The objects of a cluster that a decision depends on, indexed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from planner.deploy.scheduler.requests import Amounts, pod_requests

Object = Mapping[str, Any]
GPU_CLASS: Object = {
    "metadata": {"name": "gpu.nvidia.com"},
    "spec": {
        "selectors": [
            {
                "cel": {
                    "expression": "device.driver == 'gpu.nvidia.com' && "
                    "device.attributes['gpu.nvidia.com'].type == 'gpu'"
                }
            }
        ]
    },
}
"""The device class that NVIDIA's driver installs for whole GPUs."""


class Cluster:
    """Nodes, their NUMA topologies, device slices, claims, classes, and the pods bound to nodes.

    Parameters
    ----------
    objects
        In any order; kinds that no decision depends on are passed over. Of several versions of a kind
        the fields are the same for what is read here.
    """

    def __init__(self, objects: Iterable[Object]) -> None:
        by_kind: dict[str, list[Object]] = defaultdict(list)
        for one in objects:
            by_kind[one["kind"]].append(one)
        self.nodes = _by_name(by_kind["Node"])
        self.topologies = _by_name(by_kind["NodeResourceTopology"])
        self.slices = by_kind["ResourceSlice"]
        self.claims = {
            (one["metadata"].get("namespace") or "default", one["metadata"]["name"]): one
            for one in by_kind["ResourceClaim"]
        }
        self.templates = {
            (one["metadata"].get("namespace") or "default", one["metadata"]["name"]): one
            for one in by_kind["ResourceClaimTemplate"]
        }
        self.classes = {"gpu.nvidia.com": GPU_CLASS} | _by_name(by_kind["DeviceClass"])
        self.pods = [one for one in by_kind["Pod"] if _bound(one)]

    @cached_property
    def _on(self) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = defaultdict(list)
        for pod in self.pods:
            found[pod["spec"]["nodeName"]].append(pod)
        return found

    @cached_property
    def _with(self) -> dict[tuple[str, str], list[Object]]:
        found: dict[tuple[str, str], list[Object]] = defaultdict(list)
        for pod in self.pods:
            for pair in (pod["metadata"].get("labels") or {}).items():
                found[pair].append(pod)
        return found

    @cached_property
    def repelling(self) -> list[tuple[Object, Mapping[str, str]]]:
        """Pods with required anti-affinity, and the labels of their nodes."""
        return [
            (pod, self.home(pod))
            for pod in self.pods
            if (pod["spec"].get("affinity") or {}).get("podAntiAffinity")
        ]

    @cached_property
    def _labelled(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(self.nodes):
            for pair in (self.nodes[name]["metadata"].get("labels") or {}).items():
                found[pair].append(name)
        return found

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.nodes)

    def candidates(self, selector: Mapping[str, str]) -> list[str]:
        """Return the nodes that may carry all labels of a node selector, by the rarest of them, sorted."""
        return min((self._labelled.get(pair, []) for pair in selector.items()), key=len, default=self._names)

    def home(self, pod: Object) -> Mapping[str, str]:
        """Return the labels of the node that a pod is bound to."""
        node = self.nodes.get(pod["spec"]["nodeName"])
        return {} if node is None else node["metadata"].get("labels") or {}

    def pods_on(self, node: str) -> list[Object]:
        """Return the pods bound to a node."""
        return self._on.get(node, [])

    def pods_like(self, selector: Object | None) -> list[Object]:
        """Return the bound pods that a label selector may select, by the rarest of its plain labels."""
        exact = (selector or {}).get("matchLabels") or {}
        return min((self._with.get(pair, []) for pair in exact.items()), key=len, default=self.pods)

    def domains(self, keys: tuple[str, ...]) -> dict[str, frozenset[str]]:
        """Return the nodes that carry all label keys, by their value of the last one."""
        if keys not in self._domains:
            found: dict[str, set[str]] = defaultdict(set)
            for name, node in self.nodes.items():
                labels = node["metadata"].get("labels") or {}
                if all(key in labels for key in keys):
                    found[labels[keys[-1]]].add(name)
            self._domains[keys] = {value: frozenset(names) for value, names in found.items()}
        return self._domains[keys]

    @cached_property
    def _domains(self) -> dict[tuple[str, ...], dict[str, frozenset[str]]]:
        return {}

    @cached_property
    def allocated(self) -> frozenset[tuple[str, str, str]]:
        """Driver, pool and name of the devices that claims hold already."""
        return frozenset(
            (one["driver"], one["pool"], one["device"])
            for claim in self.claims.values()
            for one in (((claim.get("status") or {}).get("allocation") or {}).get("devices") or {}).get(
                "results", ()
            )
            if not one.get("adminAccess")
        )

    @cached_property
    def slices_of(self) -> dict[str, list[Object]]:
        """Device slices by node, in order of pool and name; slices of every node under an empty name."""
        found: dict[str, list[Object]] = defaultdict(list)
        for one in self.slices:
            found["" if one["spec"].get("allNodes") else str(one["spec"].get("nodeName"))].append(one)
        return found

    def used(self, node: str) -> Amounts:
        """Return what the pods bound to a node have asked for."""
        total: Amounts = {}
        for pod in self.pods_on(node):
            for name, value in pod_requests(pod["spec"]).items():
                total[name] = total.get(name, 0) + value
        return total


def _by_name(objects: Iterable[Object]) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in objects}


def _bound(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["spec"].get("nodeName")) and phase not in ("Succeeded", "Failed")
