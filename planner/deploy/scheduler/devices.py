"""Allocation of devices to claims: classes, selectors, counts, constraints between devices.

The search is the scheduler's: requests in order, devices in the order of pools and slices, depth first; the
first complete assignment is taken. Selectors are evaluated only for devices that the search comes to, so that
an error in one of them matters only then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from planner.deploy.scheduler.cel import CelSyntaxError, compiled
from planner.deploy.scheduler.cel_values import CelError
from planner.deploy.scheduler.cluster import Cluster
from planner.deploy.scheduler.selectors import term_matches, tolerates
from planner.deploy.scheduler.slices import Device, devices_of

Object = Mapping[str, Any]


class DeviceError(Exception):
    """A claim cannot be decided on a node: a selector has no value, or an object is missing."""


class _Request(NamedTuple):
    """One request of a claim: which selectors its devices must pass, and how many it needs (None: all)."""

    name: str
    selectors: tuple[str, ...]
    needed: int | None
    tolerations: tuple[Object, ...] = ()
    admin: bool = False

    def bears(self, device: Device) -> bool:
        """Whether the request tolerates every taint of a device that keeps it from being taken."""
        return all(
            any(tolerates(one, taint) for one in self.tolerations)
            for taint in device.entry.get("taints") or ()
            if taint.get("effect") in ("NoSchedule", "NoExecute")
        )


class _Constraint(NamedTuple):
    """Devices of some requests (all, when empty) share, or all differ in, an attribute."""

    requests: frozenset[str]
    attribute: str
    distinct: bool

    def applies(self, request: str) -> bool:
        return not self.requests or request in self.requests or request.split("/")[0] in self.requests

    def allows(self, device: Device, chosen: Sequence[tuple[str, Device]]) -> bool:
        value = device.attribute(self.attribute)
        if value is None:
            return False
        others = [other.attribute(self.attribute) for name, other in chosen if self.applies(name)]
        return value not in others if self.distinct else all(value == one for one in others)


def allocate(pod: Object, node: str, cluster: Cluster) -> tuple[str, ...] | None:
    """Return the devices that a pod's claims get on a node, ``None`` where they cannot all be met.

    Raises
    ------
    DeviceError
        If a claim or class is missing or a selector has no value.
    """
    claims = list(_claims(pod, cluster))
    if not claims:
        return ()
    devices = devices_of(node, cluster)
    for device in devices:
        device.busy = device.identity in cluster.allocated
    found: list[str] = []
    for claim in claims:
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            results = (allocation.get("devices") or {}).get("results") or ()
            if not _within_reach(allocation, results, devices, cluster.nodes[node]):
                return None
            found += [one["device"] for one in results]
            continue
        chosen = _solve(claim["spec"]["devices"], devices, cluster)
        if chosen is None:
            return None
        for device in chosen:
            device.busy = True
            found.append(device.name)
    return tuple(found)


def _within_reach(
    allocation: Object, results: Sequence[Object], devices: Sequence[Device], node: Object
) -> bool:
    """Whether a claim that has its devices already can be used on a node."""
    chosen = allocation.get("nodeSelector")
    if chosen is not None:
        return any(term_matches(term, node) for term in chosen.get("nodeSelectorTerms") or ())
    pools = {device.pool for device in devices}
    return all(one["pool"] in pools for one in results)


def _claims(pod: Object, cluster: Cluster) -> Iterator[Object]:
    namespace = pod["metadata"].get("namespace") or "default"
    for entry in pod["spec"].get("resourceClaims") or ():
        name, template = entry.get("resourceClaimName"), entry.get("resourceClaimTemplateName")
        if name is not None:
            if (namespace, name) not in cluster.claims:
                raise DeviceError(f'resourceclaim "{name}" not found')
            yield cluster.claims[namespace, name]
        elif template is not None:
            if (namespace, template) not in cluster.templates:
                raise DeviceError(f'resourceclaimtemplate "{template}" not found')
            yield cluster.templates[namespace, template]["spec"]


def _solve(spec: Object, devices: list[Device], cluster: Cluster) -> list[Device] | None:
    """Return the first complete assignment; alternatives of a request (``firstAvailable``) in their order."""
    constraints = [
        _Constraint(
            frozenset(one.get("requests") or ()),
            one.get("matchAttribute") or one.get("distinctAttribute") or "",
            "distinctAttribute" in one,
        )
        for one in spec.get("constraints") or ()
    ]
    asked = spec.get("requests") or ()
    if not any(one.get("firstAvailable") for one in asked):
        plain = [_request(one["name"], one.get("exactly") or one, cluster) for one in asked]
        return _search(plain, (0, 0, 0), devices, [], constraints)
    for requests in _alternatives(asked, cluster):
        found = _search(requests, (0, 0, 0), devices, [], constraints)
        if found is not None:
            return found
    return None


def _alternatives(requests: Sequence[Object], cluster: Cluster) -> Iterator[list[_Request]]:
    if not requests:
        yield []
        return
    first, rest = requests[0], requests[1:]
    subs = first.get("firstAvailable")
    options = (
        [_request(f"{first['name']}/{one['name']}", one, cluster) for one in subs]
        if subs
        else [_request(first["name"], first.get("exactly") or first, cluster)]
    )
    for option in options:
        for following in _alternatives(rest, cluster):
            yield [option, *following]


def _request(name: str, body: Object, cluster: Cluster) -> _Request:
    class_name = body["deviceClassName"]
    if class_name not in cluster.classes:
        raise DeviceError(f"device class {class_name} does not exist")
    kind = cluster.classes[class_name].get("spec") or {}
    selectors = [*(kind.get("selectors") or ()), *(body.get("selectors") or ())]
    every = body.get("allocationMode") == "All"
    return _Request(
        name,
        tuple(one["cel"]["expression"] for one in selectors),
        None if every else body.get("count") or 1,
        tuple(body.get("tolerations") or ()),
        bool(body.get("adminAccess")),
    )


def _search(
    requests: list[_Request],
    place: tuple[int, int, int],
    devices: list[Device],
    chosen: list[tuple[str, Device]],
    constraints: list[_Constraint],
) -> list[Device] | None:
    """Fill requests from a place on: number of the request, devices it has, first device to look at.

    Devices of one request are interchangeable, so that only rising combinations are tried: the first of them
    is the first of all orders.
    """
    number, have, start = place
    if number == len(requests):
        return [device for _, device in chosen]
    request = requests[number]
    if request.needed is None:
        return _take_all(requests, number, devices, chosen, constraints)
    if have == request.needed:
        return _search(requests, (number + 1, 0, 0), devices, chosen, constraints)
    for index in range(start, len(devices)):
        device = devices[index]
        if (device.busy and not request.admin) or not _passes(device, request) or _taken(device, chosen):
            continue
        if not constraints or _allowed(device, request, chosen, constraints):
            following = (number, have + 1, index + 1)
            found = _search(requests, following, devices, [*chosen, (request.name, device)], constraints)
            if found is not None:
                return found
    return None


def _take_all(
    requests: list[_Request],
    place: int,
    devices: list[Device],
    chosen: list[tuple[str, Device]],
    constraints: list[_Constraint],
) -> list[Device] | None:
    """Take every device that passes; without any, or where one breaks a constraint, the request fails."""
    request = requests[place]
    passing = [device for device in devices if _passes(device, request)]
    for device in passing:
        held = device.busy and not request.admin
        if held or _taken(device, chosen) or not _allowed(device, request, chosen, constraints):
            return None
        chosen = [*chosen, (request.name, device)]
    return _search(requests, (place + 1, 0, 0), devices, chosen, constraints) if passing else None


def _passes(device: Device, request: _Request) -> bool:
    """Whether a device passes every selector of a request, the class's first."""
    known = device.known
    for text in request.selectors:  # evaluated once for each device, however often the search comes back
        found = known.get(text)
        if not (_true(text, device) if found is None else found):
            return False
    return "taints" not in device.entry or request.bears(device)


def _true(text: str, device: Device) -> bool:
    try:
        found = device.known[text] = compiled(text)(device.scope) is True
    except (CelError, CelSyntaxError) as error:
        raise DeviceError(f"CEL runtime error: {error}") from None
    return found


def _taken(device: Device, chosen: Sequence[tuple[str, Device]]) -> bool:
    return any(device is other for _, other in chosen) if chosen else False


def _allowed(
    device: Device,
    request: _Request,
    chosen: Sequence[tuple[str, Device]],
    constraints: Sequence[_Constraint],
) -> bool:
    return all(one.allows(device, chosen) for one in constraints if one.applies(request.name))
