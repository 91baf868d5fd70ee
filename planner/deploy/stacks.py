"""What each scheduler needs besides the pods: queues, topologies, gangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from planner.deploy.affinity import HOSTNAME
from planner.deploy.capabilities import earlier
from planner.deploy.context import Context, template_key
from planner.deploy.domains import domains, smallest_level
from planner.deploy.names import dns_label
from planner.deploy.scheduler.quantities import quantity
from planner.deploy.validate import pod_templates
from planner.topology.cluster import Node

Json = dict[str, Any]
GANGS = ("LeaderWorkerSet", "JobSet")
QUEUE = "planner"


def with_stack(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return what the scheduler needs beside the objects of all jobs, which are changed to refer to it."""
    handler = _STACKS.get(context.target.platform.stack)
    return handler(context, objects) if handler else []


def _gangs(context: Context, objects: Sequence[Json]) -> list[tuple[Json, list[Node], int]]:
    """Return what starts together: the object, its nodes, its number of pods."""
    found = []
    for item in objects:
        if item["kind"] in GANGS:
            shares = [
                share
                for key in {template_key(one["metadata"]["labels"]) for one in pod_templates(item)}
                for share in context.shares.get(key, [])
            ]
            found.append((item, [share.node for share in shares], num_pods(item)))
    return found


def num_pods(item: Json) -> int:
    """Return how many pods an object makes."""
    spec = item["spec"]
    if item["kind"] == "LeaderWorkerSet":
        return int(spec["replicas"] * spec["leaderWorkerTemplate"]["size"])
    if item["kind"] == "JobSet":
        return sum(job["replicas"] * job["template"]["spec"]["parallelism"] for job in spec["replicatedJobs"])
    if item["kind"] == "PodCliqueSet":
        return int(sum(spec["replicas"] * one["spec"]["replicas"] for one in spec["template"]["cliques"]))
    return int(spec.get("replicas", 1))


def _level(context: Context, nodes: Sequence[Node]) -> str | None:
    target = context.target
    return target.topology_label or smallest_level(
        domains(context.topology), nodes, target.platform, target.domain
    )


def _bare(context: Context, name: str, *, namespaced: bool = True) -> Json:
    """Return the metadata of an object of the whole bundle rather than of a job."""
    meta: Json = {"name": name, "labels": {"app.kubernetes.io/managed-by": "planner"}}
    return {**meta, "namespace": context.target.namespace} if namespaced else meta


def _annotate(item: Json, pairs: Mapping[str, str]) -> None:
    for template in pod_templates(item):
        template["metadata"]["annotations"] = {**template["metadata"].get("annotations", {}), **pairs}


def _core(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return Workload and PodGroup of every gang, from the release on that has them."""
    since = context.target.platform.scheduler.gang_since
    if earlier(context.target.version, since):
        return []
    made: list[Json] = []
    for item, nodes, count in _gangs(context, objects):
        if item["kind"] == "JobSet":  # a LeaderWorkerSet makes the groups of its replicas itself
            name, key = item["metadata"]["name"], _level(context, nodes)
            policy: Json = {"schedulingPolicy": {"gang": {"minCount": count}}}
            if key:
                policy["schedulingConstraints"] = {"topology": [{"key": key}]}
            group = dns_label(f"{name}-gang")
            meta = context.meta(name, item["metadata"]["labels"])
            made += [
                {
                    "apiVersion": "scheduling.k8s.io/v1beta1",
                    "kind": "Workload",
                    "metadata": meta,
                    "spec": {"podGroupTemplates": [{"name": "gang", **policy}]},
                },
                {
                    "apiVersion": "scheduling.k8s.io/v1beta1",
                    "kind": "PodGroup",
                    "metadata": {**meta, "name": group},
                    "spec": {"workloadRef": {"workloadName": name, "templateName": "gang"}, **policy},
                },
            ]
            for template in pod_templates(item):
                template["spec"]["schedulingGroup"] = {"podGroupName": group}
    return made


def _kueue(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return topology, flavour and queues, and have the job go through them."""
    keys = context.target.platform.label_keys(context.target.domain)
    queue = context.target.queue or QUEUE
    ordered = list(dict.fromkeys(key for key in (keys.spine, keys.leaf, keys.accelerator) if key))
    starts = [item for item in objects if pod_templates(item)]
    for item in starts:
        item["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = queue
    for item, nodes, _ in _gangs(context, objects):
        key = _level(context, nodes)
        if key in (*ordered, context.target.topology_label) and key is not None:
            _annotate(item, {"kueue.x-k8s.io/podset-required-topology": key})
    resources = sorted({name for item in starts for name in _asked(item)})
    quota = [
        {"name": name, "nominalQuota": str(sum(_asked(item).get(name, 0) for item in starts))}
        for name in resources
    ]
    flavor, topology = dns_label(f"{queue}-gpus"), dns_label(f"{queue}-fabric")
    return [
        {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "Topology",
            "metadata": _bare(context, topology, namespaced=False),
            "spec": {"levels": [{"nodeLabel": key} for key in (*ordered, HOSTNAME)]},
        },
        {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "ResourceFlavor",
            "metadata": _bare(context, flavor, namespaced=False),
            "spec": {"topologyName": topology, "nodeLabels": {"kubernetes.io/os": "linux"}},
        },
        {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "ClusterQueue",
            "metadata": _bare(context, queue, namespaced=False),
            "spec": {
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": context.target.namespace}
                },
                "resourceGroups": [
                    {"coveredResources": resources, "flavors": [{"name": flavor, "resources": quota}]}
                ],
            },
        },
        {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "LocalQueue",
            "metadata": _bare(context, queue),
            "spec": {"clusterQueue": queue},
        },
    ]


def _asked(item: Json) -> dict[str, int]:
    """Return upper bounds of what the pods of an object ask for: whole CPUs, bytes, devices."""
    total: dict[str, int] = {}
    for template in pod_templates(item):
        for container in template["spec"]["containers"]:
            for name, value in container["resources"]["limits"].items():
                total[name] = total.get(name, 0) + -int(-quantity(value) // 1) * num_pods(item)
    return total


def _kai(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return KAI's queue and topology, and have the pods named to them."""
    keys = context.target.platform.label_keys(context.target.domain)
    queue = context.target.queue or QUEUE
    name = dns_label(f"{queue}-fabric")
    ordered = list(dict.fromkeys(key for key in (keys.spine, keys.leaf, keys.accelerator) if key))
    for item in objects:
        for template in pod_templates(item):
            template["metadata"]["labels"]["kai.scheduler/queue"] = queue
    for item, nodes, _ in _gangs(context, objects):
        key = _level(context, nodes)
        if key:
            _annotate(
                item, {"kai.scheduler/topology": name, "kai.scheduler/topology-required-placement": key}
            )
    share = {"quota": -1, "limit": -1, "overQuotaWeight": 1}
    return [
        {
            "apiVersion": "kai.scheduler/v1alpha1",
            "kind": "Topology",
            "metadata": _bare(context, name, namespaced=False),
            "spec": {"levels": [{"nodeLabel": key} for key in (*ordered, HOSTNAME)]},
        },
        {
            "apiVersion": "scheduling.run.ai/v2",
            "kind": "Queue",
            "metadata": _bare(context, queue, namespaced=False),
            "spec": {"resources": {"cpu": share, "gpu": share, "memory": share}},
        },
    ]


def _volcano(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return Volcano's groups of pods, and its picture of the leaf switches in use."""
    keys, found = context.target.platform.label_keys(context.target.domain), domains(context.topology)
    made: dict[tuple[str, str], Json] = {}
    for item, nodes, count in _gangs(context, objects):
        name = item["metadata"]["name"]
        spec: Json = {"minMember": count}
        for tier, level in ((1, "accelerator"), (1, "leaf")):
            homes = sorted({found.of(level).get(node.name, "") for node in nodes} - {""})
            if not getattr(keys, level) or not homes:
                continue
            for home in homes:
                made["HyperNode", home] = _hyper_node(context, home, tier, level)
            if len(homes) == 1:
                spec["networkTopology"] = {"mode": "hard", "highestTierAllowed": tier}
            break
        made["PodGroup", name] = {
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "PodGroup",
            "metadata": context.meta(name, item["metadata"]["labels"]),
            "spec": spec,
        }
        _annotate(item, {"scheduling.k8s.io/group-name": name})
    return list(made.values())


def _hyper_node(context: Context, home: str, tier: int, level: str) -> Json:
    """Return the nodes of a domain, by name."""
    of = domains(context.topology).of(level)
    hosts = sorted(
        node.labels.get(HOSTNAME, node.name) for node in context.topology.nodes if of.get(node.name) == home
    )
    return {
        "apiVersion": "topology.volcano.sh/v1alpha1",
        "kind": "HyperNode",
        "metadata": _bare(context, home, namespaced=False),
        "spec": {
            "tier": tier,
            "members": [{"type": "Node", "selector": {"exactMatch": {"name": host}}} for host in hosts],
        },
    }


_STACKS: Mapping[str, Callable[[Context, Sequence[Json]], list[Json]]] = {
    "core": _core,
    "kueue": _kueue,
    "kai": _kai,
    "volcano": _volcano,
}


def numa_scheduler(context: Context) -> Json:
    """Return the configuration of a second scheduler that looks at NUMA zones (NodeResourceTopologyMatch)."""
    name = context.target.scheduler_name
    points = {"enabled": [{"name": "NodeResourceTopologyMatch"}]}
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "profiles": [
            {
                "schedulerName": name,
                "plugins": {"filter": points, "score": points},
                "pluginConfig": [
                    {
                        "name": "NodeResourceTopologyMatch",
                        "args": {"scoringStrategy": {"type": "LeastAllocated"}},
                    }
                ],
            }
        ],
    }
