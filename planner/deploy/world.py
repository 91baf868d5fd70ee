"""The cluster that a topology describes, as the objects that its API server would hold.

What a topology does not say is what the target asks of the nodes: labels, kubelet policies, the driver.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from planner.deploy.affinity import ARCH, GPU_RESOURCES, HOSTNAME, kubernetes_arch, machine_labels
from planner.deploy.domains import Domains, domains
from planner.deploy.pods import quantity
from planner.deploy.shares import host_name
from planner.deploy.target import GIB, Target
from planner.topology.cluster import Node, Topology

Json = dict[str, Any]
DRIVER = "gpu.nvidia.com"
FABRIC_DRIVER = "compute-domain.nvidia.com"
CHANNEL_CLASS = "compute-domain-default-channel.nvidia.com"
DRIVER_VERSION = "580.65.6"
MOST_PODS = 110
"""Pods of a node (the kubelet's default ``maxPods``)."""
SLICES = 7
"""Slices of one GPU, at most (NVIDIA MIG user guide)."""
STORAGE = 4096 * GIB
"""Ephemeral storage taken for granted on every node, which no topology states, bytes."""


def cluster_objects(
    topology: Topology, target: Target, *, aligned: bool = True, slices: Iterable[str] = ()
) -> list[Json]:
    """Return nodes, NUMA topologies, device slices and classes of a cluster.

    Parameters
    ----------
    aligned
        Whether the kubelets align CPUs, memory and devices to one NUMA domain.
    slices
        Profiles of the MIG slices that the GPUs are cut into.
    """
    found, profiles = domains(topology), sorted(set(slices))
    marks = machine_labels(topology.nodes, target)
    objects: list[Json] = [_class(name, text) for name, text in _CLASSES.items()]
    for node in topology.nodes:
        objects.append(_node(node, target, found, marks[node.machine.name], profiles))
        objects.append(_numa(node, target, profiles, "single-numa-node" if aligned else "best-effort"))
        if target.platform.devices == "dra":
            objects += _slices(node, target, found, profiles)
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


def _labels(node: Node, target: Target, found: Domains, marks: Mapping[str, str]) -> dict[str, str]:
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
    return labels


def _devices(count: int, vendors: Iterable[str], target: Target, profiles: list[str]) -> dict[str, str]:
    """Return the extended resources of some GPUs."""
    if not count or target.platform.devices == "dra":
        return {}
    if profiles:
        return {f"nvidia.com/mig-{one.replace('+', '.')}": str(SLICES * count) for one in profiles}
    return {GPU_RESOURCES[vendor]: str(count) for vendor in sorted(set(vendors)) if vendor in GPU_RESOURCES}


def _node(node: Node, target: Target, found: Domains, marks: Mapping[str, str], profiles: list[str]) -> Json:
    machine, sizing = node.machine, target.sizing
    cores = sum(domain.cores for domain in machine.numa)
    memory = sum(domain.memory.value for domain in machine.numa)
    vendors = [machine.device_of(gpu.name).vendor for gpu in machine.gpus]
    amounts = {
        "cpu": str((cores - 1) * sizing.threads_per_core),
        "memory": quantity(memory * (1 - sizing.system_memory)),
        "ephemeral-storage": quantity(STORAGE),
        "pods": str(MOST_PODS),
        **_devices(len(machine.gpus), vendors, target, profiles),
    }
    if target.rdma_resource:
        amounts[target.rdma_resource] = "1000"
    if sizing.huge_page:
        amounts[f"hugepages-{sizing.huge_page}"] = quantity(memory // 2 // GIB * GIB)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": host_name(node), "labels": _labels(node, target, found, marks)},
        "spec": {},
        "status": {"allocatable": amounts},
    }


def _numa(node: Node, target: Target, profiles: list[str], policy: str) -> Json:
    zones = []
    for index, domain in enumerate(node.machine.numa):
        gpus = [gpu for gpu in node.machine.gpus if gpu.numa == domain.name]
        vendors = [node.machine.device_of(gpu.name).vendor for gpu in gpus]
        amounts = {
            "cpu": str(domain.cores * target.sizing.threads_per_core),
            "memory": quantity(domain.memory.value),
            **_devices(len(gpus), vendors, target, profiles),
        }
        rows = [
            {"name": name, "capacity": v, "allocatable": v, "available": v} for name, v in amounts.items()
        ]
        zones.append({"name": f"node-{index}", "type": "Node", "resources": rows})
    attributes = {"topologyManagerPolicy": policy, "topologyManagerScope": "container"}
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


def _slices(node: Node, target: Target, found: Domains, profiles: list[str]) -> list[Json]:
    host = host_name(node)
    objects = []
    if node.machine.gpus:
        entries = [
            one for index in range(len(node.machine.gpus)) for one in _gpu(node, index, target, profiles)
        ]
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


def _gpu(node: Node, index: int, target: Target, profiles: list[str]) -> list[Json]:
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
    if not profiles:
        return [entry]
    cut = []
    for profile in profiles:
        for number in range(SLICES):
            attributes = {**entry["attributes"], "profile": {"string": profile}}
            cut.append(
                {
                    **entry,
                    "name": f"gpu-{index}-mig-{profile.replace('.', '-')}-{number}",
                    "attributes": attributes,
                }
            )
    return cut
