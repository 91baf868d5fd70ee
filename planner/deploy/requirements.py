"""What a cluster must have before the files of a plan can run on it, as a document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner import __version__
from planner.deploy.affinity import ARCH, machine_labels, uses_hostnames
from planner.deploy.capabilities import capabilities
from planner.deploy.capacity import pods_of
from planner.deploy.context import Context
from planner.deploy.kubelet import policies
from planner.deploy.names import natural_key
from planner.deploy.shares import host_name, rdma_ports, socket_ports
from planner.deploy.slicing import cuts
from planner.deploy.target import PLACEHOLDER
from planner.deploy.validate import node_terms, pod_templates
from planner.placement.plan import JobPlan, ServingPlan, TrainingPlan
from planner.topology.cluster import Node

Json = Mapping[str, Any]


def requirements(context: Context, objects: Sequence[Json], added: Sequence[Json] = ()) -> str:
    """Return the prerequisites of a bundle, and of the components that its root adds, as JSON text."""
    templates = [template for item in objects for template in pod_templates(item)]
    images = {container["image"] for template in templates for container in template["spec"]["containers"]}
    found = {
        "plan": {"name": context.plan.name, "digest": context.digest, "planner": __version__},
        "kubernetes": context.target.version,
        "namespace": context.target.namespace,
        "kinds": _kinds([*objects, *added]),
        "architectures": sorted(set(_architectures(templates))),
        "images": sorted(images),
        "images to replace": sorted(image for image in images if image.startswith(PLACEHOLDER)),
        "volume claims": sorted(set(_claims(templates))),
        "resources": sorted(set(_resources(templates))),
        "devices": _devices(context, objects),
        "nodes": _nodes(context),
        "notes": sorted(set(_notes(context))),
    }
    return json.dumps(found, indent=2, sort_keys=False, ensure_ascii=False) + "\n"


def _kinds(objects: Sequence[Json]) -> list[Json]:
    """Return the custom kinds that somebody has to install, in the order of their names."""
    named = sorted({(item["kind"], item["apiVersion"]) for item in objects})
    served = [capabilities().served(api, kind) for kind, api in named]
    return [
        {"crd": one.crd, "version": one.api.rpartition("/")[2], "project": one.project}
        for one in served
        if one is not None and one.crd is not None
    ]


def _architectures(templates: Sequence[Json]) -> Iterator[str]:
    """Yield the architectures that images have to exist for."""
    for template in templates:
        for term in node_terms(template["spec"]):
            for expression in term["matchExpressions"]:
                if expression["key"] == ARCH:
                    yield from expression["values"]


def _claims(templates: Sequence[Json]) -> Iterator[str]:
    for template in templates:
        for volume in template["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                yield volume["persistentVolumeClaim"]["claimName"]


def _resources(templates: Sequence[Json]) -> Iterator[str]:
    for template in templates:
        for container in template["spec"]["containers"]:
            yield from (name for name in container["resources"]["limits"] if "/" in name)


_ATTRIBUTE = re.compile(r'attributes\["gpu\.nvidia\.com"\]\.(\w+)')


def _devices(context: Context, objects: Sequence[Json]) -> Json:
    """Return how pods get devices: classes of claims, and the attributes that claims ask for."""
    platform, classes, attributes = context.target.platform, set(), set()
    for item in objects:
        if item["kind"] == "ResourceClaimTemplate":
            wanted = item["spec"]["spec"]["devices"]
            for one in wanted["requests"]:
                classes.add(one["exactly"]["deviceClassName"])
                for selector in one["exactly"].get("selectors") or ():
                    attributes.update(_ATTRIBUTE.findall(selector["cel"]["expression"]))
            attributes |= {one["matchAttribute"] for one in wanted.get("constraints") or ()}
    return {
        "mode": platform.devices,
        "driver": platform.driver if platform.devices == "dra" else None,
        "mig strategy": platform.mig_strategy,
        "classes": sorted(classes),
        "attributes": sorted(attributes),
    }


def job_nodes(context: Context, job: JobPlan) -> list[Node]:
    """Return the nodes of a job's GPU processes, in order of first use."""
    names = dict.fromkeys(gpu.partition("/")[0] for gpu in job.gpus())
    return [context.topology.node_of[name] for name in names if name in context.topology.node_of]


def _nodes(context: Context) -> Json:
    found = policies(context)
    labels: dict[str, Mapping[str, str]] = {}
    for job in context.plan.jobs:
        nodes = job_nodes(context, job)
        if nodes and not uses_hostnames(nodes, context.target):
            labels |= {
                machine: dict(marks) for machine, marks in machine_labels(nodes, context.target).items()
            }
    used = {host_name(node): found[node.name].configuration() for node in _used(context)}
    groups: dict[str, list[str]] = {}
    for host, configuration in used.items():
        groups.setdefault(json.dumps(configuration), []).append(host)
    kubelets = [
        {**json.loads(text), "nodes": sorted(hosts, key=natural_key)}
        for text, hosts in sorted(groups.items())
    ]
    return {"kubelet": kubelets, "labels by machine type": labels, "slices of GPUs": cuts(context.plan)}


def _used(context: Context) -> list[Node]:
    """Return the nodes that a plan uses, in the order of the topology."""
    names = {gpu.partition("/")[0] for job in context.plan.jobs for gpu in job.gpus()}
    for job in context.plan.jobs:
        if isinstance(job, ServingPlan):
            reader = context.reader(job)
            names |= {
                reader.stage_place(one, stage)[0].name
                for pool in job.pools()
                for one in pool.replicas
                for stage in one.stages
            }
    return [node for node in context.topology.nodes if node.name in names]


def _notes(context: Context) -> Iterator[str]:
    target = context.target
    if target.platform.devices == "dra":
        yield (
            "Devices of claims take no part in the kubelet's Topology Manager (kubernetes/website issue "
            "56232): CPUs of a pod may lie on another NUMA domain than its GPUs; use a device plugin where "
            "that counts."
        )
    else:
        yield (
            "The device plugin chooses which GPUs a pod gets; the plan's own choice inside a node is a wish, "
            "except where a pod takes all GPUs of its node."
        )
    if target.sizing.threads_per_core == 1:
        yield "One CPU is asked for per planned core; set threads_per_core where nodes run two threads each."
    for job in context.plan.jobs:
        if isinstance(job, TrainingPlan) and uses_hostnames(job_nodes(context, job), target):
            yield "The names of the nodes of training jobs equal their labels kubernetes.io/hostname."
        ports = {
            port
            for gpus in pods_of(job)
            for share in context.reader(job).shares(gpus)
            for port in share.nics(target.nic_names)
        }
        unknown = sorted(ports - set(rdma_ports(sorted(ports))) - set(socket_ports(sorted(ports))))
        if unknown:
            yield (
                f"The ports {', '.join(unknown[:8])} are named like no device of an operating system, so "
                "NCCL chooses by itself; give their names in nic_names."
            )
        if rdma_ports(sorted(ports)) and target.rdma_resource is None:
            yield "Pods get no RDMA device; name the extended resource of its device plugin in rdma_resource."
        if isinstance(job, ServingPlan) and any(one.stages for pool in job.pools() for one in pool.replicas):
            yield "Images of stages hold numactl and read PLANNER_WORKERS, PLANNER_PREFETCH, PLANNER_PORT."
