"""Where a pod goes: the first node that every filter accepts, or the reasons of all that refuse."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.deploy.scheduler.cluster import Cluster
from planner.deploy.scheduler.devices import DeviceError, allocate
from planner.deploy.scheduler.neighbours import affinity_misfit, spread_misfit
from planner.deploy.scheduler.numa import misfit
from planner.deploy.scheduler.requests import Amounts, pod_requests, port_taken, shortages
from planner.deploy.scheduler.selectors import node_matches, untolerated

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The decision on one pod.

    Attributes
    ----------
    node
        Name of the node; ``None`` when no node takes the pod.
    devices
        Names of the devices that its claims get on that node, in the order of requests.
    reasons
        Why the nodes refuse, with the number of nodes each.
    """

    node: str | None
    devices: tuple[str, ...]
    reasons: Mapping[str, int]

    @property
    def scheduled(self) -> bool:
        """Whether a node takes the pod."""
        return self.node is not None

    @property
    def message(self) -> str:
        """The refusal in the scheduler's words; empty for a pod that is scheduled."""
        if self.scheduled:
            return ""
        parts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"0/{sum(self.reasons.values())} nodes are available: {parts}."


DEFAULT = "default-scheduler"


def schedule(pod: Object, cluster: Cluster, *, start: str = "", kubelet: bool = True) -> Verdict:
    """Return the decision on a pod that is not bound yet.

    Parameters
    ----------
    start
        First name that a node may have, for who knows that all earlier ones refuse.
    kubelet
        Whether to ask the kubelet as well, which turns away a pod that it cannot align to one NUMA domain
        after the default scheduler, which does not look at NUMA, has sent it there.

    Nodes are tried in order of their names; the first that all filters accept is taken, so that a decision
    does not depend on scores. Filters run in the order of the real scheduler, node by node.
    """
    if pod["spec"].get("schedulingGates"):
        return Verdict(None, (), {"waiting for scheduling gates": len(cluster.nodes)})
    needs = pod_requests(pod["spec"])
    aligned = kubelet or pod["spec"].get("schedulerName", DEFAULT) != DEFAULT
    reasons: dict[str, int] = {}
    names = cluster.candidates(pod["spec"].get("nodeSelector") or {})
    names = names[bisect_left(names, start) :] if start else names
    if len(names) < len(cluster.nodes):
        reasons["node(s) didn't match Pod's node affinity/selector"] = len(cluster.nodes) - len(names)
    for name in names:
        found = _refusals(pod, needs, name, cluster, aligned=aligned)
        if found:
            _count(reasons, *found)
            continue
        try:
            devices = allocate(pod, name, cluster)
        except DeviceError as error:
            _count(reasons, str(error))
            continue
        if devices is None:
            _count(reasons, "cannot allocate all claims")
            continue
        return Verdict(name, devices, {})
    return Verdict(None, (), reasons)


def _count(reasons: dict[str, int], *found: str) -> None:
    for reason in found:
        reasons[reason] = reasons.get(reason, 0) + 1


def _refusals(pod: Object, needs: Amounts, name: str, cluster: Cluster, *, aligned: bool) -> list[str]:
    """Return why a node refuses, of the first filter that does; empty when none does."""
    node, spec = cluster.nodes[name], pod["spec"]
    if not node_matches(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    taint = untolerated(spec, node)
    if taint is not None:
        return ["node(s) had untolerated taint(s)"]
    if port_taken(spec, cluster.pods_on(name)):
        return ["node(s) didn't have free ports for the requested pod ports"]
    status = node.get("status") or {}
    used = cluster.used(name)
    lacking = list(shortages(needs, status.get("allocatable") or {}, used, len(cluster.pods_on(name))))
    if lacking:
        return ["Too many pods" if one == "pods" else f"Insufficient {one}" for one in lacking]
    topology = cluster.topologies.get(name) if aligned else None
    found = None if topology is None else misfit(pod, topology)
    found = found or spread_misfit(pod, node, cluster) or affinity_misfit(pod, node, cluster)
    return [] if found is None else [found]
