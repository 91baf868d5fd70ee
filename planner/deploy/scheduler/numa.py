"""Filter of NodeResourceTopologyMatch: whether one NUMA zone of a node holds what must be aligned.

Only the policy ``single-numa-node`` filters. Zones are tried in order of their number; in container scope
each container takes its share from the first zone that fits before the next one is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.deploy.scheduler.quantities import quantity
from planner.deploy.scheduler.requests import Amounts, container_requests, pod_requests, quality

Object = Mapping[str, Any]
_ZONE = re.compile(r"node-(\d+)")
_OLD_POLICIES = {
    "SingleNUMANodeContainerLevel": ("single-numa-node", "container"),
    "SingleNUMANodePodLevel": ("single-numa-node", "pod"),
}
_HOST_LEVEL = ("ephemeral-storage", "storage")


def policy_of(topology: Object) -> tuple[str, str]:
    """Return the topology manager's policy and scope of a node, the scope ``container`` unless stated."""
    for old in topology.get("topologyPolicies") or ():
        if old in _OLD_POLICIES:
            return _OLD_POLICIES[old]
    stated = {one["name"]: one["value"] for one in topology.get("attributes") or ()}
    return stated.get("topologyManagerPolicy", "none"), stated.get("topologyManagerScope", "container")


def misfit(pod: Object, topology: Object) -> str | None:
    """Return what cannot be aligned on a node, ``None`` where everything can or nothing must."""
    policy, scope = policy_of(topology)
    if policy != "single-numa-node":
        return None
    spec, quality_class = pod["spec"], quality(pod)
    if quality_class == "BestEffort" and not _has_devices(spec):
        return None
    zones = _zones(topology)
    if scope == "pod":
        fits = _first_fit(pod_requests(spec), zones, quality_class) is not None
        return None if fits else "cannot align pod"
    for container in spec.get("initContainers") or ():
        if _first_fit(container_requests(container), zones, quality_class) is None:
            return "cannot align init container"
    for container in spec.get("containers") or ():
        needs = container_requests(container)
        zone = _first_fit(needs, zones, quality_class)
        if zone is None:
            return "cannot align container"
        for name, value in needs.items():
            if name in zone:
                zone[name] -= value
    return None


def take(pod: Object, topology: Object) -> None:
    """Take what a pod gets off the zones of its node, as the topology updater reports it afterwards.

    Only what a Guaranteed pod has to itself counts; each container, or the pod as a whole by the scope, takes
    from the first zone that holds it, without one the zones share it in order.
    """
    quality_class = quality(pod)
    if quality_class != "Guaranteed":
        return
    zones = [zone for zone in topology.get("zones") or () if zone.get("type") == "Node"]
    if policy_of(topology)[1] == "pod":
        parts = [pod_requests(pod["spec"])]
    else:
        parts = [container_requests(one) for one in pod["spec"].get("containers") or ()]
    for needs in parts:
        free = _zones(topology)
        home = _first_fit(needs, free, quality_class)
        order = [home] if home is not None else free
        for name, value in needs.items():
            for amounts in order:
                part = min(value, amounts.get(name, 0))
                rows = zones[[one is amounts for one in free].index(True)].get("resources") or ()
                for row in rows:
                    if row["name"] == name:
                        row["available"] = _plain(amounts[name] - part)
                value -= part


def _plain(value: Any) -> str:
    whole = value * 1000
    return str(int(value)) if value == int(value) else f"{int(whole)}m"


def _has_devices(spec: Object) -> bool:
    return any("/" in name for name in pod_requests(spec))


def _zones(topology: Object) -> list[Amounts]:
    """Return what every zone has available, by number."""
    found: dict[int, Amounts] = {}
    for zone in topology.get("zones") or ():
        match = _ZONE.fullmatch(zone["name"])
        if zone.get("type") == "Node" and match:
            found[int(match[1])] = {
                one["name"]: quantity(one["available"]) for one in zone.get("resources") or ()
            }
    return [found[number] for number in sorted(found)]


def _first_fit(needs: Amounts, zones: list[Amounts], quality_class: str) -> Amounts | None:
    """Return the first zone that holds every resource which some zone reports."""
    asked = [(name, value) for name, value in needs.items() if value > 0]
    for zone in zones:
        if all(_holds(name, value, zone, zones, quality_class) for name, value in asked):
            return zone
    return None


def _holds(name: str, value: Any, zone: Amounts, zones: list[Amounts], quality_class: str) -> bool:
    native = "/" not in name
    if name in zone:
        return (native and quality_class != "Guaranteed") or bool(zone[name] >= value)
    # What no zone reports belongs to the node as a whole.
    return (not native or name in _HOST_LEVEL) and not any(name in one for one in zones)
