"""What a pod asks for, and whether a node has it left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from planner.deploy.scheduler.quantities import quantity

Object = Mapping[str, Any]
Amounts = dict[str, Fraction | int]
ANY = "0.0.0.0"
"""Address of the host that stands for all of them."""


def container_requests(container: Object) -> Amounts:
    """Return the requests of a container; a limit without a request counts as one."""
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    stated = requests if requests.keys() >= limits.keys() else {**limits, **requests}
    return {name: quantity(value) for name, value in stated.items()}


def pod_requests(spec: Object) -> Amounts:
    """Return what a pod needs at its peak.

    Containers together with the sidecars (init containers that restart always), or one init container with
    the sidecars started before it, whichever is more; overhead and pod-level requests on top.
    """
    starting = spec.get("initContainers")
    if not starting and not spec.get("overhead") and not spec.get("resources"):
        total: Amounts = {}
        for container in spec.get("containers") or ():
            _add(total, container_requests(container))
        return total
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in starting or ():
        needs = container_requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, needs)
            _raise(peak, sidecars)
        else:
            together = dict(sidecars)
            _add(together, needs)
            _raise(peak, together)
    running = dict(sidecars)
    for container in spec.get("containers") or ():
        _add(running, container_requests(container))
    _raise(running, peak)
    running |= container_requests(spec)  # requests of the pod as a whole replace the sum
    _add(running, {name: quantity(value) for name, value in (spec.get("overhead") or {}).items()})
    return running


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: Amounts, least: Amounts) -> None:
    for name, value in least.items():
        total[name] = max(total.get(name, 0), value)


def quality(pod: Object) -> str:
    """Return the quality-of-service class: the one that the API server noted, else that of the resources."""
    noted = (pod.get("status") or {}).get("qosClass")
    return str(noted) if noted else _quality(pod["spec"])


def _quality(spec: Object) -> str:
    stated = False
    guaranteed = True
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        stated |= any(name in limits or name in requests for name in ("cpu", "memory"))
        for name in ("cpu", "memory"):
            limit = limits.get(name)
            if limit is None or quantity(requests.get(name, limit)) != quantity(limit):
                guaranteed = False
    return "BestEffort" if not stated else "Guaranteed" if guaranteed else "Burstable"


def _host_ports(spec: Object) -> set[tuple[int, str, str]]:
    """Return port, protocol and address of the ports of the host that a pod's containers take."""
    return {
        (number, port.get("protocol", "TCP"), port.get("hostIP") or ANY)
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if (number := port.get("hostPort") or (spec.get("hostNetwork") and port["containerPort"]))
    }


def port_taken(spec: Object, pods: Sequence[Object]) -> bool:
    """Whether a pod wants a port of the host that another one has; every address includes each one."""
    wanted = _host_ports(spec)
    return bool(wanted) and any(
        one[:2] == other[:2] and (one[2] == other[2] or ANY in (one[2], other[2]))
        for pod in pods
        for other in _host_ports(pod["spec"])
        for one in wanted
    )


def shortages(needs: Amounts, allocatable: Object, used: Amounts, pods: int) -> Iterator[str]:
    """Yield the resources that a node lacks, each once, pods first, then by name."""
    limit = allocatable.get("pods")
    if limit is not None and pods + 1 > quantity(limit):
        yield "pods"
    for name in sorted(needs):
        if needs[name] > 0 and needs[name] > quantity(allocatable.get(name, 0)) - used.get(name, 0):
            yield name
