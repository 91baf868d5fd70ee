"""The cluster that a topology describes, as the objects that its API server would hold.

What a topology does not say is what the target asks of the nodes: labels, kubelet policies, the driver.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.affinity import (
    ARCH,
    GPU_RESOURCES,
    HOSTNAME,
    KIND,
    gpu_resource,
    kubernetes_arch,
    machine_labels,
)
from planner.deploy.domains import Domains, domains
from planner.deploy.equivalence import kind_of_machine
from planner.deploy.platform import Kubelet
from planner.deploy.pods import quantity
from planner.deploy.shares import host_name
from planner.deploy.slicing import INSTANCE_SLICES, STRATEGY, compute_slices
from planner.deploy.target import GIB, Target
from planner.topology.cluster import Node, Topology
from planner.topology.models import Gpu

Json = dict[str, Any]
DRIVER = "gpu.nvidia.com"
FABRIC_DRIVER = "compute-domain.nvidia.com"
CHANNEL_CLASS = "compute-domain-default-channel.nvidia.com"
DRIVER_VERSION = "580.65.6"
MOST_PODS = 110
"""Pods of a node (the kubelet's default ``maxPods``)."""
STORAGE = 4096 * GIB
"""Ephemeral storage taken for granted on every node, which no topology states, bytes."""


Cuts = Mapping[str, Sequence[str]]
"""Profiles of the slices that a GPU ``NODE/GPU`` is cut into; GPUs that are not named are whole."""


def cluster_objects(
    topology: Topology,
    target: Target,
    *,
    kubelets: Mapping[str, Kubelet] | None = None,
    cut: Cuts | None = None,
) -> list[Json]:
    """Return nodes, NUMA topologies, device slices and classes of a cluster.

    Parameters
    ----------
    kubelets
        Policies of the kubelets by node; those of the target, else ones that align nothing, when absent.
    cut
        GPUs that are cut into slices; none when absent.
    """
    found, cut = domains(topology), cut or {}
    types = {node.machine.name: node.machine for node in topology.nodes}
    kinds = {name: {target.key(KIND): kind_of_machine(machine)} for name, machine in types.items()}
    marks = {name: {**kinds[name], **found} for name, found in machine_labels(topology.nodes, target).items()}
    plain = target.platform.kubelet or Kubelet(topology_manager="best-effort")
    objects: list[Json] = [_class(name, text) for name, text in _CLASSES.items()]
    for node in topology.nodes:
        objects.append(_node(node, target, found, marks[node.machine.name], cut))
        objects.append(_numa(node, target, cut, (kubelets or {}).get(node.name, plain)))
        if target.platform.devices == "dra":
            objects += _slices(node, target, found, cut)
    return objects


_CLASSES: Mapping[str, str] = {
    "gpu.nvidia.com": f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'",
    "mig.nvidia.com": f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'mig'",
    CHANNEL_CLASS: f"device.driver == '{FABRIC_DRIVER}'",
}


def _class(name: str, expression: str) -> Json:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }


def _labels(
    node: Node, target: Target, found: Domains, marks: Mapping[str, str], cut: Cuts
) -> dict[str, str]:
    keys = target.platform.label_keys(target.domain)
    labels = {
        HOSTNAME: host_name(node),
        ARCH: kubernetes_arch(node.machine.numa[0].arch),
        "kubernetes.io/os": "linux",
        **marks,
        **node.labels,
    }
    for level in ("spine", "leaf", "accelerator"):
        key, home = getattr(keys, level), found.of(level).get(node.name)
        if key and home:
            labels.setdefault(key, home)
    if node.machine.gpus:
        labels.setdefault("nvidia.com/gpu.present", "true")
    profiles = [one for gpu in node.machine.gpus for one in cut.get(f"{node.name}/{gpu.name}", ())]
    if profiles and target.platform.devices == "device-plugin":
        labels[STRATEGY] = target.platform.mig_strategy
        if target.platform.mig_strategy == "single":
            labels[INSTANCE_SLICES] = str(compute_slices(profiles[0]))
    return labels


def _devices(node: Node, gpus: Sequence[Gpu], target: Target, cut: Cuts) -> dict[str, str]:
    """Return the extended resources of some GPUs of a node: whole ones, and slices by the strategy."""
    if target.platform.devices == "dra":
        return {}
    found: Counter[str] = Counter()
    for gpu in gpus:
        vendor, profiles = node.machine.device_of(gpu.name).vendor, cut.get(f"{node.name}/{gpu.name}")
        if profiles is None:
            found.update([GPU_RESOURCES[vendor]] if vendor in GPU_RESOURCES else [])
        else:
            found.update(gpu_resource(vendor, one, target) for one in profiles)
    return {name: str(count) for name, count in sorted(found.items())}


def _node(node: Node, target: Target, found: Domains, marks: Mapping[str, str], cut: Cuts) -> Json:
    machine, sizing = node.machine, target.sizing
    cores = sum(domain.cores for domain in machine.numa)
    memory = sum(domain.memory.value for domain in machine.numa)
    amounts = {
        "cpu": str((cores - 1) * sizing.threads_per_core),
        "memory": quantity(memory * (1 - sizing.system_memory)),
        "ephemeral-storage": quantity(STORAGE),
        "pods": str(MOST_PODS),
        **_devices(node, machine.gpus, target, cut),
    }
    if target.rdma_resource:
        amounts[target.rdma_resource] = "1000"
    if sizing.huge_page:
        amounts[f"hugepages-{sizing.huge_page}"] = quantity(memory // 2 // GIB * GIB)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": host_name(node), "labels": _labels(node, target, found, marks, cut)},
        "spec": {},
        "status": {"allocatable": amounts},
    }


def _numa(node: Node, target: Target, cut: Cuts, kubelet: Kubelet) -> Json:
    zones = []
    for index, domain in enumerate(node.machine.numa):
        gpus = [gpu for gpu in node.machine.gpus if gpu.numa == domain.name]
        amounts = {
            "cpu": str(domain.cores * target.sizing.threads_per_core),
            "memory": quantity(domain.memory.value),
            **_devices(node, gpus, target, cut),
        }
        rows = [
            {"name": name, "capacity": v, "allocatable": v, "available": v} for name, v in amounts.items()
        ]
        zones.append({"name": f"node-{index}", "type": "Node", "resources": rows})
    stated = kubelet.configuration()
    attributes = {name: stated[name] for name in ("topologyManagerPolicy", "topologyManagerScope")}
    return {
        "apiVersion": "topology.node.k8s.io/v1alpha2",
        "kind": "NodeResourceTopology",
        "metadata": {"name": host_name(node)},
        "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
        "zones": zones,
    }


def gpu_uuid(gpu: str, target: Target) -> str:
    """Return the UUID of a GPU ``NODE/GPU``: the stated one, else one that stands for its name."""
    return target.platform.gpu_ids.get(gpu) or f"GPU-{uuid.uuid5(uuid.NAMESPACE_URL, gpu)}"


def _slices(node: Node, target: Target, found: Domains, cut: Cuts) -> list[Json]:
    host = host_name(node)
    objects = []
    if node.machine.gpus:
        entries = [one for index in range(len(node.machine.gpus)) for one in _gpu(node, index, target, cut)]
        objects.append(_slice(f"{host}-gpus", host, DRIVER, entries))
    if node.name in found.accelerator:
        channel = {"name": "channel-0", "attributes": {"type": {"string": "channel"}, "id": {"int": 0}}}
        objects.append(_slice(f"{host}-fabric", host, FABRIC_DRIVER, [channel]))
    return objects


def _slice(name: str, host: str, driver: str, entries: list[Json]) -> Json:
    spec = {
        "driver": driver,
        "nodeName": host,
        "pool": {"name": host, "generation": 1, "resourceSliceCount": 1},
        "devices": entries,
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": spec,
    }


def _gpu(node: Node, index: int, target: Target, cut: Cuts) -> list[Json]:
    profiles = cut.get(f"{node.name}/{node.machine.gpus[index].name}")
    gpu, known = node.machine.gpus[index], target.platform.attributes
    device = node.machine.device_of(gpu.name)
    numa = [domain.name for domain in node.machine.numa].index(gpu.numa)
    values: dict[str, Json] = {
        "type": {"string": "mig" if profiles else "gpu"},
        "uuid": {"string": gpu_uuid(f"{node.name}/{gpu.name}", target)},
        "productName": {"string": device.name},
        "architecture": {"string": device.architecture},
        "driverVersion": {"version": DRIVER_VERSION},
        "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{index:02x}"},
        "resource.kubernetes.io/pciBusID": {"string": f"0000:{index:02x}:00.0"},
        "resource.kubernetes.io/numaNode": {"int": numa},
        "addressingMode": {"string": gpu.addressing.upper()},
        "index": {"int": index},
    }
    entry: Json = {
        "name": f"gpu-{index}",
        "attributes": {name: value for name, value in values.items() if name in known},
        "capacity": {"memory": {"value": quantity(device.memory.value)}},
    }
    if profiles is None:
        return [entry]
    return [_cut(entry, profile, number) for number, profile in enumerate(profiles)]


def _cut(entry: Json, profile: str, number: int) -> Json:
    whole = entry["attributes"]["uuid"]["string"]
    own = {
        **entry["attributes"],
        "uuid": {"string": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{whole}/{number}"))},
        "parentUUID": {"string": whole},
        "profile": {"string": profile},
    }
    return {**entry, "name": f"{entry['name']}-mig-{profile.replace('.', '-')}-{number}", "attributes": own}
