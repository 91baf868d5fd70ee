"""GPUs as claims of devices: templates of claims for extended resources, and NVLink domains across nodes.

Selectors name only attributes that the driver publishes: one that it lacks is no mismatch but an error for
which a pod is tried for ever, and a constraint on one cannot be met.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.affinity import GPU_RESOURCES, uses_hostnames
from planner.deploy.context import Context, template_key
from planner.deploy.domains import domains, smallest_level
from planner.deploy.errors import DeployError
from planner.deploy.names import dns_label
from planner.deploy.platform import NUMA_ATTRIBUTE
from planner.deploy.shares import Share
from planner.deploy.validate import pod_templates, show

Json = dict[str, Any]
GROUPED = ("LeaderWorkerSet", "JobSet")
"""Kinds whose pods work together on several nodes."""
GPU_CLASS, MIG_CLASS = "gpu.nvidia.com", "mig.nvidia.com"
LONGEST_EXPRESSION = 10 * 1024
"""Characters of an expression of a selector (``resource.k8s.io/v1``, CELSelector)."""
USABLE = 0.9
"""Least share of a GPU's nominal memory that its driver reports; error correction and firmware take some."""
_MIG = "nvidia.com/mig-"


def with_claims(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return the objects of a job with claims of devices in place of extended resources of GPUs.

    Raises
    ------
    DeployError
        If the GPUs are of a vendor without a driver for claims, or exact ones have no UUID or too many.
    """
    made: list[Json] = []
    for item in objects:
        before = len(made)
        for template in pod_templates(item):
            made += _claimed(context, item, template)
        if len(made) > before and item["kind"] in GROUPED:
            made += _fabric(context, item)
    unique = {(one["kind"], one["metadata"]["name"]): one for one in made}
    return [*unique.values(), *objects]


def _claimed(context: Context, item: Json, template: Mapping[str, Any]) -> list[Json]:
    """Turn the GPUs of a template's containers into claims; return the template of the claim."""
    labels, found = template["metadata"]["labels"], []
    for container in template["spec"]["containers"]:
        amounts = container["resources"]
        for name in [name for name in amounts["limits"] if _is_gpu(name)]:
            if name == GPU_RESOURCES["amd"]:
                raise DeployError(
                    f"{show(item)}: no driver for claims of {name} is known; use devices: device-plugin"
                )
            count = int(amounts["limits"].pop(name))
            amounts["requests"].pop(name)
            amounts["claims"] = [{"name": "gpus"}]
            shares = context.shares.get(template_key(labels), [])
            own = dns_label("-".join([*template_key(labels), "gpus"]))
            found.append(_template(context, own, labels, count, name, shares))
    if found:
        template["spec"]["resourceClaims"] = [
            {"name": "gpus", "resourceClaimTemplateName": found[0]["metadata"]["name"]}
        ]
    return found


def _is_gpu(name: str) -> bool:
    return name in GPU_RESOURCES.values() or name.startswith(_MIG)


def _template(
    context: Context, name: str, labels: Mapping[str, str], count: int, resource: str, shares: Sequence[Share]
) -> Json:
    mig = resource.removeprefix(_MIG) if resource.startswith(_MIG) else None
    text = mig_expression(context, mig, shares) if mig else gpu_expression(context, shares)
    if len(text) > LONGEST_EXPRESSION:
        raise DeployError(
            f"the UUIDs of {sum(share.num_gpus for share in shares)} GPUs exceed one expression of "
            f"{LONGEST_EXPRESSION} characters; leave exact out: whole nodes are held by their names"
        )
    body: Json = {
        "deviceClassName": MIG_CLASS if mig else GPU_CLASS,
        "allocationMode": "ExactCount",
        "count": count,
    }
    if text:
        body["selectors"] = [{"cel": {"expression": text}}]
    devices: Json = {"requests": [{"name": "gpu", "exactly": body}]}
    one_numa = bool(shares) and all(len(share.numas) == 1 for share in shares)
    if not mig and one_numa and count > 1 and NUMA_ATTRIBUTE in context.target.platform.attributes:
        devices["constraints"] = [{"requests": ["gpu"], "matchAttribute": NUMA_ATTRIBUTE}]
    spec = {"spec": {"devices": devices}}
    # The API server lets no template change, so that another content has another name.
    mark = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": context.meta(dns_label(f"{name}-{mark}"), labels),
        "spec": spec,
    }


def mig_expression(context: Context, profile: str, shares: Sequence[Share]) -> str:
    """Return the selector of slices of a profile, of exact GPUs where the target says which they are."""
    text = f'device.attributes["gpu.nvidia.com"].profile == {json.dumps(profile)}'
    return f"{text} && {_exactly(context, shares, 'parentUUID')}" if context.target.platform.exact else text


def _exactly(context: Context, shares: Sequence[Share], attribute: str) -> str:
    """Return the condition that a device is one of the GPUs of some shares, or a slice of one."""
    found = {_uuid(context, f"{share.node.name}/{place.gpu}") for share in shares for place in share.places}
    return f'device.attributes["gpu.nvidia.com"].{attribute} in {json.dumps(sorted(found))}'


def gpu_expression(context: Context, shares: Sequence[Share]) -> str:
    """Return the selector of the GPUs of some shares: their UUIDs, or GPUs with as much memory.

    Raises
    ------
    DeployError
        If an exact GPU has no UUID.
    """
    terms = []
    memory = min(
        (share.machine.device_of(place.gpu).memory.value for share in shares for place in share.places),
        default=0.0,
    )
    if memory:
        least = f"{int(memory * USABLE // 2**30)}Gi"
        terms.append(f'device.capacity["gpu.nvidia.com"].memory.compareTo(quantity("{least}")) >= 0')
    if context.target.platform.exact:
        terms.append(_exactly(context, shares, "uuid"))
    return " && ".join(terms)


def _uuid(context: Context, gpu: str) -> str:
    found = context.target.platform.gpu_ids.get(gpu)
    if found is None:
        raise DeployError(
            f"gpu_ids lacks {gpu!r}, which the plan uses; without it the claim cannot name the GPU"
        )
    return found


def _fabric(context: Context, item: Json) -> list[Json]:
    """Return the ComputeDomain of pods on several nodes that share NVLink memory, and join the pods to it."""
    templates = pod_templates(item)
    if not _one_fabric(context, templates):
        return []
    name = item["metadata"]["name"]
    channel = dns_label(f"{name}-channel")
    for template in templates:
        template["spec"]["resourceClaims"].append({"name": "imex", "resourceClaimTemplateName": channel})
        container = template["spec"]["containers"][0]
        container["resources"]["claims"].append({"name": "imex"})
        container["env"] = [*container.get("env", []), {"name": "NCCL_MNNVL_ENABLE", "value": "1"}]
    spec = {
        "numNodes": 0,
        "channel": {"allocationMode": "Single", "resourceClaimTemplate": {"name": channel}},
    }
    return [
        {
            "apiVersion": "resource.nvidia.com/v1beta1",
            "kind": "ComputeDomain",
            "metadata": context.meta(name, item["metadata"]["labels"]),
            "spec": spec,
        }
    ]


def _one_fabric(context: Context, templates: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether pods run on several nodes, all of one NVLink domain."""
    shares = _shares(context, templates)
    found = domains(context.topology).accelerator
    homes = {found.get(share.node.name) for share in shares}
    return len({share.node.name for share in shares}) > 1 and len(homes) == 1 and None not in homes


def _shares(context: Context, templates: Sequence[Mapping[str, Any]]) -> list[Share]:
    return [
        share
        for key in sorted({template_key(template["metadata"]["labels"]) for template in templates})
        for share in context.shares.get(key, [])
    ]


def hold_together(context: Context, objects: Sequence[Json]) -> None:
    """Hold pods that work together to one domain, whichever label value it has.

    Those that share NVLink memory across nodes to one NVLink domain; where nodes are not named, others to
    the smallest domain that holds their nodes in the plan.
    """
    keys = context.target.platform.label_keys(context.target.domain)
    for item in objects:
        templates = pod_templates(item) if item["kind"] in GROUPED else []
        key: str | None = keys.accelerator if templates and _one_fabric(context, templates) else None
        nodes = [share.node for share in _shares(context, templates)]
        if not key and len(nodes) > 1 and not uses_hostnames(nodes, context.target):
            key = smallest_level(
                domains(context.topology), nodes, context.target.platform, context.target.domain
            )
        if key:
            for template in templates:
                own = template["metadata"]["labels"]
                labels = {
                    name: own[name] for name in ("app.kubernetes.io/name", "app.kubernetes.io/instance")
                }
                term = {"labelSelector": {"matchLabels": labels}, "topologyKey": key}
                template["spec"]["affinity"]["podAffinity"] = {
                    "requiredDuringSchedulingIgnoredDuringExecution": [term]
                }
