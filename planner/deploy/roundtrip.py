"""Whether a cluster would carry out a bundle as planned: its objects put to the model of the scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.apiserver import problems_of
from planner.deploy.apiserver.metadata import metadata
from planner.deploy.capacity import pods_of
from planner.deploy.claims import GPU_CLASS, GROUPED, MIG_CLASS
from planner.deploy.context import Context, job_name
from planner.deploy.domains import domains
from planner.deploy.errors import DeployError
from planner.deploy.expand import CUSTOM, PodSet, made_templates, pod_sets
from planner.deploy.kubelet import policies, staged_nodes
from planner.deploy.scheduler import Cluster, bind, schedule
from planner.deploy.scheduler.cluster import repelled
from planner.deploy.scheduler.numa import take
from planner.deploy.shares import host_name
from planner.deploy.slicing import cuts
from planner.deploy.validate import pod_templates, show, validate
from planner.deploy.world import cluster_objects
from planner.placement.plan import JobPlan, ServingPlan

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Landing:
    """Where a pod goes: its node and devices, or why no node takes it."""

    pods: PodSet
    node: str | None
    devices: tuple[str, ...]
    reason: str


def verify(context: Context, objects: Sequence[Json], added: Sequence[Json]) -> None:
    """Check a bundle before it is written: rules of the API server, references, and every pod's node.

    Raises
    ------
    DeployError
        If a rule is broken, or a pod would go elsewhere than the plan has it; lists every reason.
    """
    reasons = [
        f"{show(dict(item))}: {reason}"
        for item in (*objects, *added)
        for reason in (*metadata(item), *problems_of(item), *_lifted(item))
    ]
    if reasons:
        raise DeployError(*reasons)
    validate([dict(item) for item in objects], context.topology)
    reasons = list(misplaced(context, objects, land(objects, world(context))))
    if reasons:
        raise DeployError(*reasons)


def _lifted(item: Json) -> Iterator[str]:
    """Yield what is wrong with the pods inside custom kinds, which the API server does not look at."""
    if item["kind"] in CUSTOM:
        for template in pod_templates(dict(item)):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **template["metadata"]}}
            yield from metadata(pod)
            yield from problems_of({**pod, "spec": template["spec"]})


def world(context: Context) -> list[dict[str, Any]]:
    """Return the objects of the cluster of a plan, as the target and its requirements have it."""
    return cluster_objects(
        context.topology, context.target, kubelets=policies(context), cut=cuts(context.plan)
    )


def hold_stages(context: Context, objects: Sequence[Json]) -> None:
    """Have kubelets align pods as a whole where stages are planned beside their GPUs, if all pods fit so.

    Container by container each stage lies on one NUMA domain, but not surely on that of the GPUs.
    """
    if context.target.platform.kubelet is None and context.target.platform.devices == "device-plugin":
        context.whole_pods.update(staged_nodes(context))
        if context.whole_pods and any(one.node is None for one in land(objects, world(context))):
            context.whole_pods.clear()


def land(objects: Iterable[Json], cluster_of: Sequence[Json]) -> list[Landing]:
    """Return where the pods of some objects go in a cluster, one after the other, the choosiest first."""
    objects = list(objects)
    cluster = Cluster(
        [
            *cluster_of,
            *(one for one in objects if one["kind"].startswith("ResourceClaim")),
            *made_templates(objects),
        ]
    )
    found: list[Landing] = []
    for pods in pod_sets(objects):
        found += _place(pods, cluster)
    return found


def _place(pods: PodSet, cluster: Cluster) -> Iterator[Landing]:
    """Yield where equal pods go.

    Each is tried from the last one's node on, since binding only takes away; with a spread the turn comes
    round again, as nodes that refused a pod take one once all others have theirs.
    """
    spread = bool(pods.pod["spec"].get("topologySpreadConstraints"))
    alone = "kubernetes.io/hostname" in repelled(pods.pod)
    start = ""
    for left in range(pods.count, 0, -1):
        verdict = schedule(pods.pod, cluster, start=start)
        if verdict.node is None and start and spread:
            verdict = schedule(pods.pod, cluster)
        if verdict.node is None:
            message = verdict.message if not start or spread else schedule(pods.pod, cluster).message
            yield from (Landing(pods, None, (), message) for _ in range(left))
            return
        bind(pods.pod, verdict.node, verdict.devices, cluster)
        if verdict.node in cluster.topologies:
            take(pods.pod, cluster.topologies[verdict.node])
        start = f"{verdict.node}\0" if spread or alone else verdict.node
        yield Landing(pods, verdict.node, verdict.devices, "")


def misplaced(context: Context, objects: Sequence[Json], landings: Sequence[Landing]) -> Iterator[str]:
    """Yield where a cluster would differ from the plan.

    Each job must have as many GPUs of each node as the plan gives it there; where nodes are picked by labels,
    of each kind of machine, in no more domains of the fabric. Exact claims must get the very GPUs, others
    GPUs with the same place among the links of their node: equal ones, so that the plan costs the same.
    """
    for landing in landings:
        if landing.node is None:
            yield f"{landing.pods.owner}: a pod would stay unscheduled: {landing.reason}"
    if any(landing.node is None for landing in landings):
        return
    templates = {
        item["metadata"]["name"]: item for item in objects if item["kind"] == "ResourceClaimTemplate"
    }
    for job in context.plan.jobs:
        own = [one for one in landings if one.pods.pod["metadata"]["labels"].get(_PART) == job_name(job)]
        if own:
            yield from _job_misplaced(context, job, own, templates)


def _job_misplaced(
    context: Context, job: JobPlan, landings: Sequence[Landing], templates: Mapping[str, Json]
) -> Iterator[str]:
    planned = Counter(host_name(context.topology.node_of[gpu.partition("/")[0]]) for gpu in job.gpus())
    real: Counter[str] = Counter()
    named = True
    for landing in landings:
        count = num_gpus(landing.pods.pod["spec"], templates)
        real[str(landing.node)] += count
        named = named and (_named(landing.pods.pod["spec"]) or not count)
    if not named:
        kinds = {host_name(node): context.kinds.of(node.machine) for node in context.topology.nodes}
        planned, real = _by_kind(planned, kinds), _by_kind(real, kinds)
        yield from _torn(context, job, landings)
    if +real != +planned:
        names = {context.kinds.of(node.machine): node.machine.name for node in context.topology.nodes}
        wrong, right = _show(+real, names), _show(+planned, names)
        yield f"job {job.name!r}: pods would take GPUs of {wrong}, but the plan has {right}"
    devices = {
        f"{one.node}/{name.partition('-mig-')[0]}"
        for one in landings
        for name in one.devices
        if name.startswith("gpu-")
    }
    if context.target.platform.exact and devices != set(_planned_devices(context, job.gpus())):
        yield f"job {job.name!r}: claims would get {sorted(devices)[:4]}, which are not the plan's GPUs"
    elif devices and not (isinstance(job, ServingPlan) and job.mig):
        yield from _unequal(context, job, landings)


def _unequal(context: Context, job: JobPlan, landings: Sequence[Landing]) -> Iterator[str]:
    """Yield claims that get GPUs which stand otherwise among the links of their node than planned ones."""
    planned = Counter(
        context.kinds.of(share.machine, [place.gpu for place in share.places])
        for gpus in pods_of(job)
        for share in context.reader(job).shares(gpus)
    )
    machines = {host_name(node): node.machine for node in context.topology.nodes}
    for one in landings:
        own = [name for name in one.devices if name.startswith("gpu-")]
        if own and one.node is not None:
            machine = machines[one.node]
            gpus = [machine.gpus[int(name.removeprefix("gpu-"))].name for name in own]
            shape = context.kinds.of(machine, gpus)
            if not planned[shape]:
                yield (
                    f"job {job.name!r}: a claim would get {', '.join(gpus)} of {one.node}, which are linked "
                    "otherwise than the planned GPUs; use exact: true with gpu_ids"
                )
            planned[shape] -= 1


def _torn(context: Context, job: JobPlan, landings: Sequence[Landing]) -> Iterator[str]:
    """Yield groups of pods that would lie in more domains of the fabric than the plan has them in."""
    found = domains(context.topology)
    names = {host_name(node): node.name for node in context.topology.nodes}
    groups: dict[str, set[str]] = {}
    for one in landings:
        groups.setdefault(" ".join(one.pods.owner.split()[:2]), set()).add(names[str(one.node)])
    for level in ("accelerator", "leaf"):
        of = found.of(level)
        most = max(len({of.get(gpu.partition("/")[0]) for gpu in gpus}) for gpus in pods_of(job))
        for owner, nodes in sorted(groups.items()):
            if owner.split()[0] in GROUPED and len({of.get(node) for node in nodes}) > most:
                yield (
                    f"{owner}: pods would lie in {len({of.get(node) for node in nodes})} domains "
                    f"({'NVLink' if level == 'accelerator' else 'leaf switches'}), but the plan has {most}; "
                    f"no label of profile {context.target.platform.labels!r} holds them together"
                )


_PART = "app.kubernetes.io/part-of"


def _planned_devices(context: Context, gpus: Iterable[str]) -> Iterator[str]:
    for gpu in gpus:
        node = context.topology.node_of[gpu.partition("/")[0]]
        index = [one.name for one in node.machine.gpus].index(gpu.partition("/")[2])
        yield f"{host_name(node)}/gpu-{index}"


def num_gpus(spec: Json, templates: Mapping[str, Json]) -> int:
    """Return the GPUs that a pod asks for, as extended resources or by templates of claims."""
    total = 0
    for container in spec["containers"]:
        limits = (container.get("resources") or {}).get("limits") or {}
        total += sum(
            int(value)
            for name, value in limits.items()
            if name.endswith("/gpu") or name.startswith("nvidia.com/mig-")
        )
    for claim in spec.get("resourceClaims") or ():
        template = templates.get(claim.get("resourceClaimTemplateName") or "")
        if template is not None:
            requests = template["spec"]["spec"]["devices"]["requests"]
            bodies = [one.get("exactly") or one["firstAvailable"][0] for one in requests]
            total += sum(
                one.get("count", 1) for one in bodies if one["deviceClassName"] in (GPU_CLASS, MIG_CLASS)
            )
    return total


def _named(spec: Json) -> bool:
    """Return whether a pod is held to hosts by their names."""
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    return any(
        one["key"] == "kubernetes.io/hostname"
        for term in required.get("nodeSelectorTerms") or ()
        for one in term.get("matchExpressions") or ()
    )


def _by_kind(counts: Counter[str], kinds: Mapping[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for host, count in counts.items():
        found[kinds[host]] += count
    return found


def _show(counts: Counter[str], names: Mapping[str, str]) -> str:
    rows = sorted(f"{names.get(name, name)} {count}" for name, count in counts.items())
    return ", ".join(rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
