"""Allocation of devices to claims: classes, selectors, counts, constraints between devices.

The search is the scheduler's: requests in order, devices in the order of pools and slices, depth first; the
first complete assignment is taken. Selectors are evaluated only for devices that the search comes to, so that
an error in one of them matters only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.deploy.scheduler.cel import CelSyntaxError, compiled
from planner.deploy.scheduler.cel_values import CelError, amount, version
from planner.deploy.scheduler.cluster import Cluster

Object = Mapping[str, Any]


class DeviceError(Exception):
    """A claim cannot be decided on a node: a selector has no value, or an object is missing."""


class _Domains(dict[str, Mapping[str, Any]]):
    """Attributes by domain; a domain without any is empty rather than missing."""

    def __missing__(self, name: str) -> Mapping[str, Any]:
        return {}


@dataclass
class _Device:
    """A device of a slice, its values as expressions see them, and what is known of its selectors."""

    driver: str
    pool: str
    name: str
    attributes: Mapping[str, Any]
    scope: Mapping[str, Any]
    known: dict[str, bool] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.driver, self.pool, self.name


_KINDS: Mapping[str, Callable[[Any], Any]] = {"string": str, "bool": bool, "int": int, "version": version}


def _device(entry: Object, spec: Object) -> _Device:
    driver = spec["driver"]
    basic = entry.get("basic") or entry
    flat: dict[str, Any] = {}
    attributes, capacity = _Domains(), _Domains()
    for key, value in (basic.get("attributes") or {}).items():
        (kind, plain), *_ = value.items()
        domain, _, name = key.rpartition("/")
        flat[f"{domain or driver}/{name}"] = found = _KINDS[kind](plain)
        attributes.setdefault(domain or driver, {})[name] = found  # type: ignore[index]
    for key, value in (basic.get("capacity") or {}).items():
        domain, _, name = key.rpartition("/")
        capacity.setdefault(domain or driver, {})[name] = amount(  # type: ignore[index]
            str(value["value"] if isinstance(value, Mapping) else value)
        )
    scope = {"device": {"driver": driver, "attributes": attributes, "capacity": capacity}}
    return _Device(driver, spec["pool"]["name"], entry["name"], flat, scope)


def _devices(node: str, cluster: Cluster) -> list[_Device]:
    """Return the devices of a node in the order in which the scheduler looks at them."""
    slices = [*cluster.slices_of.get(node, []), *cluster.slices_of.get("", [])]
    newest: dict[tuple[str, str], int] = {}
    for one in slices:
        key, generation = (
            (one["spec"]["driver"], one["spec"]["pool"]["name"]),
            one["spec"]["pool"]["generation"],
        )
        newest[key] = max(newest.get(key, generation), generation)
    return [
        _device(entry, one["spec"])
        for one in slices
        if one["spec"]["pool"]["generation"] == newest[one["spec"]["driver"], one["spec"]["pool"]["name"]]
        for entry in one["spec"].get("devices") or ()
        if not _tainted(entry)
    ]


def _tainted(entry: Object) -> bool:
    return any(one.get("effect") in ("NoSchedule", "NoExecute") for one in entry.get("taints") or ())


@dataclass(frozen=True)
class _Request:
    """One request of a claim: which selectors its devices must pass, and how many it needs (None: all)."""

    name: str
    selectors: tuple[str, ...]
    count: int | None


@dataclass(frozen=True)
class _Constraint:
    """Devices of some requests (all, when empty) share, or all differ in, an attribute."""

    requests: frozenset[str]
    attribute: str
    distinct: bool

    def applies(self, request: str) -> bool:
        return not self.requests or request in self.requests or request.split("/")[0] in self.requests

    def allows(self, device: _Device, chosen: Sequence[tuple[str, _Device]]) -> bool:
        value = device.attributes.get(self.attribute)
        if value is None:
            return False
        others = [other.attributes[self.attribute] for name, other in chosen if self.applies(name)]
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
    devices = [one for one in _devices(node, cluster) if one.identity not in cluster.allocated]
    found: list[str] = []
    for claim in claims:
        held = ((claim.get("status") or {}).get("allocation") or {}).get("devices")
        if held:
            if any(
                one["pool"] not in {device.pool for device in _devices(node, cluster)}
                for one in held["results"]
            ):
                return None
            found += [one["device"] for one in held["results"]]
            continue
        chosen = _solve(claim["spec"]["devices"], devices, cluster)
        if chosen is None:
            return None
        found += [device.name for device in chosen]
        gone = {device.identity for device in chosen}
        devices = [one for one in devices if one.identity not in gone]
    return tuple(found)


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


def _solve(spec: Object, devices: list[_Device], cluster: Cluster) -> list[_Device] | None:
    """Return the first complete assignment; alternatives of a request (``firstAvailable``) in their order."""
    constraints = [
        _Constraint(
            frozenset(one.get("requests") or ()),
            one.get("matchAttribute") or one.get("distinctAttribute") or "",
            "distinctAttribute" in one,
        )
        for one in spec.get("constraints") or ()
    ]
    for requests in _alternatives(spec.get("requests") or (), cluster):
        found = _search(requests, (0, 0, 0), devices, [], constraints)
        if found is not None:
            return found
    return None


def _alternatives(requests: Sequence[Object], cluster: Cluster) -> Iterator[list[_Request]]:
    if not requests:
        yield []
        return
    first, rest = requests[0], requests[1:]
    options = [
        _request(first["name"] if len(kinds) == 1 else f"{first['name']}/{one['name']}", one, cluster)
        for kinds in [first.get("firstAvailable") or [first.get("exactly") or first]]
        for one in kinds
    ]
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
        name, tuple(one["cel"]["expression"] for one in selectors), None if every else body.get("count") or 1
    )


def _search(
    requests: list[_Request],
    place: tuple[int, int, int],
    devices: list[_Device],
    chosen: list[tuple[str, _Device]],
    constraints: list[_Constraint],
) -> list[_Device] | None:
    """Fill requests from a place on: number of the request, devices it has, first device to look at.

    Devices of one request are interchangeable, so that only rising combinations are tried: the first of them
    is the first of all orders.
    """
    number, have, start = place
    if number == len(requests):
        return [device for _, device in chosen]
    request = requests[number]
    if request.count is None:
        return _take_all(requests, number, devices, chosen, constraints)
    if have == request.count:
        return _search(requests, (number + 1, 0, 0), devices, chosen, constraints)
    for index in range(start, len(devices)):
        device = devices[index]
        if any(device is other for _, other in chosen) or not _passes(device, request):
            continue
        if _allowed(device, request, chosen, constraints):
            following = (number, have + 1, index + 1)
            found = _search(requests, following, devices, [*chosen, (request.name, device)], constraints)
            if found is not None:
                return found
    return None


def _take_all(
    requests: list[_Request],
    place: int,
    devices: list[_Device],
    chosen: list[tuple[str, _Device]],
    constraints: list[_Constraint],
) -> list[_Device] | None:
    """Take every device that passes; without any, or where one breaks a constraint, the request fails."""
    request = requests[place]
    passing = [device for device in devices if _passes(device, request)]
    for device in passing:
        taken = any(device is other for _, other in chosen)
        if taken or not _allowed(device, request, chosen, constraints):
            return None
        chosen = [*chosen, (request.name, device)]
    return _search(requests, (place + 1, 0, 0), devices, chosen, constraints) if passing else None


def _passes(device: _Device, request: _Request) -> bool:
    """Whether a device passes every selector of a request, the class's first."""
    return all(_true(text, device) for text in request.selectors)


def _true(text: str, device: _Device) -> bool:
    if text not in device.known:
        try:
            device.known[text] = compiled(text)(device.scope) is True
        except (CelError, CelSyntaxError) as error:
            raise DeviceError(f"CEL runtime error: {error}") from None
    return device.known[text]


def _allowed(
    device: _Device,
    request: _Request,
    chosen: Sequence[tuple[str, _Device]],
    constraints: Sequence[_Constraint],
) -> bool:
    return all(one.allows(device, chosen) for one in constraints if one.applies(request.name))
