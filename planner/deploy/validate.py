"""The deploy room's own check of what it is about to write: what no schema of Kubernetes sees.

Schemas know nothing of selectors, volumes, the syntax of labels, the class of a pod's resources, or the
machine that the pod is meant for, and the API server does not check pods inside custom kinds at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.deploy.affinity import ARCH, GPU_RESOURCES, HOSTNAME
from planner.deploy.errors import DeployError
from planner.deploy.names import is_dns_label, is_label_value
from planner.deploy.shares import host_name
from planner.deploy.target import is_pinned_image
from planner.topology.cluster import Node, Topology

Json = Mapping[str, Any]
LARGEST_ANNOTATIONS = 256 * 1024
_QUALIFIED = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_WHOLE = re.compile(r"[1-9][0-9]*")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def validate(objects: Sequence[Json], topology: Topology) -> None:
    """Check all objects of a bundle together.

    Raises
    ------
    DeployError
        If anything is wrong; lists every reason.
    """
    reasons = list(dict.fromkeys(problems(objects, topology)))
    if reasons:
        raise DeployError(*reasons)


def problems(objects: Sequence[Json], topology: Topology) -> Iterator[str]:
    """Yield everything wrong with the objects of a bundle, as sentences."""
    seen: set[tuple[str, str]] = set()
    for item in objects:
        key = (item["kind"], item["metadata"]["name"])
        if key in seen:
            yield f"{show(item)}: there are two objects of this name; rename a job or stage"
        seen.add(key)
        yield from _metadata(item)
        for template in pod_templates(item):
            yield from _pod(show(item), template["spec"], topology)
            for key_, value in template["metadata"]["labels"].items():
                yield from _label(show(item), key_, value)
        yield from _selector(item)
    yield from _references(objects)


def show(item: Json) -> str:
    """Return kind and name of an object."""
    return f"{item['kind']} {item['metadata']['name']}"


def pod_templates(item: Json) -> list[Json]:
    """Return the pod templates of an object, of whatever kind."""
    spec = item.get("spec", {})
    if item["kind"] == "LeaderWorkerSet":
        group = spec["leaderWorkerTemplate"]
        return [group[name] for name in ("leaderTemplate", "workerTemplate") if name in group]
    if item["kind"] == "PodCliqueSet":
        cliques = spec["template"]["cliques"]
        return [{"metadata": {"labels": one["labels"]}, "spec": one["spec"]["podSpec"]} for one in cliques]
    if item["kind"] == "JobSet":
        return [job["template"]["spec"]["template"] for job in spec["replicatedJobs"]]
    return [spec["template"]] if "template" in spec else []


def _metadata(item: Json) -> Iterator[str]:
    meta = item["metadata"]
    if not is_dns_label(meta["name"]):
        yield f"{show(item)}: the name is not a DNS label"
    for key, value in meta.get("labels", {}).items():
        yield from _label(show(item), key, value)
    annotations = meta.get("annotations", {})
    for key in annotations:
        if not _QUALIFIED.fullmatch(key):
            yield f"{show(item)}: annotation key {key!r} is not legal"
    if sum(len(key) + len(str(value).encode()) for key, value in annotations.items()) > LARGEST_ANNOTATIONS:
        yield f"{show(item)}: the annotations exceed {LARGEST_ANNOTATIONS} bytes"


def _label(where: str, key: str, value: object) -> Iterator[str]:
    if not _QUALIFIED.fullmatch(key):
        yield f"{where}: label key {key!r} is not legal"
    if not is_label_value(value):
        yield f"{where}: label value {value!r} is not legal"


def _pod(where: str, spec: Json, topology: Topology) -> Iterator[str]:
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    names = [container["name"] for container in spec["containers"]]
    if len(set(names)) != len(names) or len(set(volumes)) != len(volumes):
        yield f"{where}: two containers or two volumes have one name"
    for name in [*names, *volumes]:
        if not is_dns_label(name):
            yield f"{where}: {name!r} is not a DNS label"
    mounted: set[str] = set()
    for container in spec["containers"]:
        yield from _container(f"{where}: container {container['name']}", container, volumes)
        mounted.update(mount["name"] for mount in container.get("volumeMounts", []))
    for name in sorted(set(volumes) - mounted):
        yield f"{where}: volume {name} is mounted nowhere"
    if (
        spec["securityContext"].get("runAsNonRoot") is not True
        or spec.get("automountServiceAccountToken") is not False
    ):
        yield f"{where}: the pod may run as root or bears a token"
    yield from _ports(where, spec["containers"])
    yield from _devices(where, spec, topology)
    yield from _affinity(where, spec)


def _container(where: str, container: Json, volumes: Sequence[str]) -> Iterator[str]:
    if not is_pinned_image(container["image"]):
        yield f"{where}: image {container['image']!r} needs a tag other than latest, or a digest"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"{where}: mounts volume {mount['name']!r}, which the pod does not have"
    paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    variables = [variable["name"] for variable in container.get("env", [])]
    if len(set(paths)) != len(paths) or len(set(variables)) != len(variables):
        yield f"{where}: two volumes have one path, or two variables one name"
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            yield f"{where}: variable {name!r} is not legal"
    yield from _resources(where, container.get("resources", {}))
    security = container.get("securityContext", {})
    if (
        security.get("allowPrivilegeEscalation") is not False
        or security.get("readOnlyRootFilesystem") is not True
    ):
        yield f"{where}: the security context is open"


def _resources(where: str, amounts: Json) -> Iterator[str]:
    limits = amounts.get("limits", {})
    if not {"cpu", "memory"} <= set(limits) or amounts.get("requests") != limits:
        yield f"{where}: requests and limits differ or are incomplete, so the pod is not of class Guaranteed"
    for name, amount in limits.items():
        if not _QUALIFIED.fullmatch(name):
            yield f"{where}: resource {name!r} is not legal"
        if (name == "cpu" or "/" in name) and not _WHOLE.fullmatch(amount):
            yield f"{where}: {name} {amount!r} is not a whole number"


def _ports(where: str, containers: Sequence[Json]) -> Iterator[str]:
    ports = [port for container in containers for port in container.get("ports", [])]
    names, numbers = [port["name"] for port in ports], [port["containerPort"] for port in ports]
    if len(set(names)) != len(names) or len(set(numbers)) != len(numbers):
        yield f"{where}: two containers use one port"
    for name in names:
        if not _PORT_NAME.fullmatch(name):
            yield f"{where}: port name {name!r} is not legal"


def _devices(where: str, spec: Json, topology: Topology) -> Iterator[str]:
    """Yield pods that ask for more GPUs or cores than each machine that they may run on has."""
    nodes = _allowed_nodes(spec, topology)
    limits = [container.get("resources", {}).get("limits", {}) for container in spec["containers"]]
    asked = sum(int(amounts.get(name, 0)) for amounts in limits for name in GPU_RESOURCES.values())
    if not nodes:
        yield f"{where}: no node of the topology matches the affinity"
    counts = {len(node.machine.gpus): node.name for node in nodes}
    # Where labels pick the nodes, those of other machine types are among these.
    enough = min(counts, default=asked) if _hosts(spec) else max(counts, default=asked)
    if asked > enough:
        yield f"{where}: asks for {asked} GPUs, but {counts[enough]} has {enough}"


def _allowed_nodes(spec: Json, topology: Topology) -> list[Node]:
    hosts = _hosts(spec)
    return [node for node in topology.nodes if not hosts or _host(node) in hosts]


def _hosts(spec: Json) -> set[str]:
    return {
        value
        for term in node_terms(spec)
        for expression in term["matchExpressions"]
        if expression["key"] == HOSTNAME
        for value in expression["values"]
    }


def _host(node: Node) -> str | None:
    try:
        return host_name(node)
    except DeployError:
        return None


def node_terms(spec: Json) -> list[Json]:
    """Return the node selector terms that a pod requires."""
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return list(required["nodeSelectorTerms"])


def _affinity(where: str, spec: Json) -> Iterator[str]:
    for term in node_terms(spec):
        expressions = term["matchExpressions"]
        if ARCH not in {expression["key"] for expression in expressions}:
            yield f"{where}: the affinity does not state {ARCH}"
        for expression in expressions:
            for value in expression["values"]:
                yield from _label(where, expression["key"], value)


def _selector(item: Json) -> Iterator[str]:
    selector = item.get("spec", {}).get("selector", {})
    wanted = selector.get("matchLabels", {}) if item["kind"] == "Deployment" else {}
    for template in pod_templates(item):
        if not wanted.items() <= template["metadata"]["labels"].items():
            yield f"{show(item)}: the selector does not match the labels of the pod template"


def _references(objects: Sequence[Json]) -> Iterator[str]:
    """Yield references to objects of the bundle that do not exist, and selectors that select nothing."""
    named = {(item["kind"], item["metadata"]["name"]) for item in objects}
    templates = [template for item in objects for template in pod_templates(item)]
    for item in objects:
        for template in pod_templates(item):
            spec = template["spec"]
            if ("ServiceAccount", spec.get("serviceAccountName")) not in named:
                yield f"{show(item)}: there is no ServiceAccount {spec.get('serviceAccountName')!r}"
            for volume in spec.get("volumes", []):
                if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in named:
                    yield f"{show(item)}: there is no ConfigMap {volume['configMap']['name']!r}"
    for item in objects:
        yield from _reaches(item, templates)


def _reaches(item: Json, templates: Sequence[Json]) -> Iterator[str]:
    """Yield services, budgets and policies that reach no pod, or ports that no container opens."""
    spec = item.get("spec", {})
    selectors = {
        "Service": spec.get("selector"),
        "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels"),
        "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
    }
    wanted = selectors.get(item["kind"])
    if wanted is None:
        return
    reached = [template for template in templates if wanted.items() <= template["metadata"]["labels"].items()]
    if not reached:
        yield f"{show(item)}: selects no pod of the bundle"
    if item["kind"] == "Service":
        for template in reached:
            opened = {
                port["name"]
                for container in template["spec"]["containers"]
                for port in container.get("ports", [])
            }
            for port in spec["ports"]:
                if port["targetPort"] not in opened:
                    yield f"{show(item)}: no container opens its port {port['targetPort']!r}"
