"""The objects of a cluster that a decision depends on, indexed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


@dataclass
class Spread:
    """Pods by domain that a spread constraint of a pod counts, and the least of these numbers."""

    constraint: Object
    pod: Object
    counts: dict[str, int]
    least: int


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
        self.namespaces = {
            one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in by_kind["Namespace"]
        }

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

    def labels_of_namespace(self, name: str) -> Mapping[str, str]:
        """Return the labels of a namespace, with that of its name, which every one has."""
        return {"kubernetes.io/metadata.name": name, **self.namespaces.get(name, {})}

    def pods_in(self, key: str, value: str) -> list[Object]:
        """Return the pods bound to nodes whose label ``key`` has a value."""
        if key not in self._homes:
            found: dict[str, list[Object]] = defaultdict(list)
            for pod in self.pods:
                found[self.home(pod).get(key, "")].append(pod)
            self._homes[key] = found
        return self._homes[key].get(value, [])

    @cached_property
    def _homes(self) -> dict[str, dict[str, list[Object]]]:
        return {}

    @cached_property
    def repelling_keys(self) -> set[str]:
        """Topology keys of the required anti-affinity of bound pods."""
        return {key for pod in self.pods for key in repelled(pod)}

    def bind(self, pod: Object, node: str, devices: Iterable[str] = ()) -> None:
        """Put a pod on a node with its devices; `planner.deploy.scheduler.bind` counts spreads as well."""
        bound = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        self.pods.append(bound)
        home = self.nodes[node]["metadata"].get("labels") or {}
        self._on[node].append(bound)
        for pair in (pod["metadata"].get("labels") or {}).items():
            self._with[pair].append(bound)
        for key, found in self._homes.items():
            found[home.get(key, "")].append(bound)
        self.repelling_keys.update(repelled(pod))
        names = set(devices)
        self.allocated.update(
            (one["spec"]["driver"], one["spec"]["pool"]["name"], entry["name"])
            for one in self.slices_of.get(node, [])
            for entry in one["spec"].get("devices") or ()
            if entry["name"] in names
        )

    @cached_property
    def spread_counts(self) -> dict[int, Spread]:
        """What is known of spread constraints, by identity; whoever binds a pod brings it up to date."""
        return {}

    @cached_property
    def _labelled(self) -> dict[str, dict[str, list[str]]]:
        return {}

    def _by_value(self, key: str) -> dict[str, list[str]]:
        """Return the nodes that carry a label, sorted, by its value; all nodes are looked through once."""
        if key not in self._labelled:
            found: dict[str, list[str]] = {}
            for name in self._names:
                labels = self.nodes[name]["metadata"].get("labels")
                if labels and key in labels:
                    found.setdefault(labels[key], []).append(name)
            self._labelled[key] = found
        return self._labelled[key]

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.nodes)

    def candidates(self, selector: Mapping[str, str]) -> list[str]:
        """Return the nodes that may carry all labels of a node selector, by the rarest of them, sorted."""
        if not selector:
            return self._names
        found = [self._by_value(key).get(value, []) for key, value in selector.items()]
        return found[0] if len(found) == 1 else min(found, key=len)

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
            found = {value: frozenset(names) for value, names in self._by_value(keys[-1]).items()}
            for key in keys[:-1]:
                carry = frozenset(name for names in self._by_value(key).values() for name in names)
                found = {value: names & carry for value, names in found.items() if names & carry}
            self._domains[keys] = found
        return self._domains[keys]

    @cached_property
    def _domains(self) -> dict[tuple[str, ...], dict[str, frozenset[str]]]:
        return {}

    @cached_property
    def allocated(self) -> set[tuple[str, str, str]]:
        """Driver, pool and name of the devices that claims hold already."""
        return {
            (one["driver"], one["pool"], one["device"])
            for claim in self.claims.values()
            for one in (((claim.get("status") or {}).get("allocation") or {}).get("devices") or {}).get(
                "results", ()
            )
            if not one.get("adminAccess")
        }

    @cached_property
    def slices_of(self) -> dict[str, list[Object]]:
        """Device slices by node; those that say otherwise which nodes reach them under an empty name."""
        found: dict[str, list[Object]] = defaultdict(list)
        for one in self.slices:
            found[str(one["spec"].get("nodeName") or "")].append(one)
        return found

    def used(self, node: str) -> Amounts:
        """Return what the pods bound to a node have asked for."""
        total: Amounts = {}
        for pod in self.pods_on(node):
            for name, value in pod_requests(pod["spec"]).items():
                total[name] = total.get(name, 0) + value
        return total


def repelled(pod: Object) -> list[str]:
    """Return the topology keys of a pod's required anti-affinity."""
    found = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    return [one["topologyKey"] for one in found.get("requiredDuringSchedulingIgnoredDuringExecution") or ()]


def _by_name(objects: Iterable[Object]) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in objects}


def _bound(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["spec"].get("nodeName")) and phase not in ("Succeeded", "Failed")
