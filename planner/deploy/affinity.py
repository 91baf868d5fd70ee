"""Which nodes a pod may run on, and which taints it bears with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.equivalence import kind_of_machine
from planner.deploy.errors import DeployError
from planner.deploy.names import is_label_value, natural_key
from planner.deploy.shares import host_name
from planner.deploy.slicing import slice_resource
from planner.deploy.target import Target
from planner.topology.cluster import Node

Json = dict[str, Any]
HOSTNAME = "kubernetes.io/hostname"
KIND = "kind"
"""Name, under the planner's own domain, of the label that tells kinds of machines apart."""
ARCH = "kubernetes.io/arch"
GPU_RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
"""Extended resource of the device plugin of each vendor."""
_ARCHITECTURES = {
    "amd64": "amd64",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "x86": "amd64",
    "arm64": "arm64",
    "aarch64": "arm64",
    "riscv64": "riscv64",
    "rv64": "riscv64",
    "rv64gc": "riscv64",
    "rv64gcv": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "loongarch64": "loong64",
}
"""Value of ``kubernetes.io/arch`` (Go's GOARCH) by the names that machines use for their architecture."""


def kubernetes_arch(arch: str) -> str:
    """Return the value of ``kubernetes.io/arch`` for an architecture.

    Raises
    ------
    DeployError
        If no release of Kubernetes runs on it.
    """
    found = _ARCHITECTURES.get(arch.strip().lower())
    if found is None:
        raise DeployError(
            f"architecture {arch!r} is none that Kubernetes nodes have: {', '.join(_ARCHITECTURES)}"
        )
    return found


def gpu_resource(vendor: str, mig: str | None, target: Target) -> str:
    """Return the extended resource of a GPU, or of a MIG slice by the strategy of the device plugin.

    Claims of devices take the place of whole resources later, so that they keep the name of the profile.

    Raises
    ------
    DeployError
        If no device plugin is known for the vendor.
    """
    if vendor not in GPU_RESOURCES:
        raise DeployError(
            f"no device plugin is known for GPUs of {vendor!r}; known: {', '.join(GPU_RESOURCES)}"
        )
    counted = target.platform.devices == "device-plugin" and target.platform.mig_strategy == "single"
    return GPU_RESOURCES[vendor] if mig is None or counted else slice_resource(mig)


def gpu_tolerations(vendor: str) -> list[Json]:
    """Return the tolerations of the taint that keeps other pods away from GPU nodes."""
    return [{"key": GPU_RESOURCES[vendor], "operator": "Exists", "effect": "NoSchedule"}]


def node_affinity(
    nodes: Sequence[Node], archs: Sequence[str], target: Target, more: Sequence[Json] = ()
) -> Json:
    """Return the required affinity to some nodes: by host name, or by machine type where they are many.

    Parameters
    ----------
    more
        Expressions that hold besides.
    """
    arch = _in(ARCH, sorted({kubernetes_arch(name) for name in archs}))
    if uses_hostnames(nodes, target):
        hosts = [host_name(node) for node in sorted(nodes, key=lambda node: natural_key(node.name))]
        terms = [{"matchExpressions": [arch, _in(HOSTNAME, list(dict.fromkeys(hosts)))]}]
    else:
        terms = [
            {"matchExpressions": [arch, *(_in(key, [value]) for key, value in sorted(labels.items()))]}
            for _, labels in sorted(machine_labels(nodes, target).items())
        ]
    for term in terms:
        term["matchExpressions"] += more
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def uses_hostnames(nodes: Sequence[Node], target: Target) -> bool:
    """Return whether a pod's nodes are listed by name rather than picked by labels."""
    return not target.portable and len(nodes) <= target.most_hostnames


def machine_labels(nodes: Sequence[Node], target: Target) -> dict[str, Mapping[str, str]]:
    """Return the labels that pick the nodes of each machine type.

    Those that the target states; else those that all these nodes bear in the topology, and the label with the
    kind of the machine, which the agent writes: equal parts and links, whatever they are called.
    """
    chosen: dict[str, Mapping[str, str]] = {}
    for name in sorted({node.machine.name for node in nodes}):
        labels = [node.labels for node in nodes if node.machine.name == name]
        common = {
            key: value
            for key, value in labels[0].items()
            if key != HOSTNAME and is_label_value(value) and all(other.get(key) == value for other in labels)
        }
        (machine, *_) = [node.machine for node in nodes if node.machine.name == name]
        kind = {target.key(KIND): kind_of_machine(machine)}
        chosen[name] = target.machine_labels.get(name) or {**common, **kind}
    return chosen


def apart(labels: Mapping[str, str]) -> Json:
    """Return the anti-affinity that keeps two pods with the same labels off one node."""
    term = {"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": HOSTNAME}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def evenly(labels: Mapping[str, str], num_nodes: int) -> list[Json]:
    """Return the spread that puts equally many pods with the same labels on every allowed node.

    Of ``num_nodes`` nodes one that is missing does not make the others take its pods: they wait.
    """
    return [
        {
            "maxSkew": 1,
            "minDomains": num_nodes,
            "topologyKey": HOSTNAME,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": dict(labels)},
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]


def _in(key: str, values: Sequence[str]) -> Json:
    return {"key": key, "operator": "In", "values": list(values)}
