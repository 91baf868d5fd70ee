"""Devices that a node reaches: those of its slices, with their values as expressions see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.deploy.scheduler.cel_values import CelError, Reached, amount, version
from planner.deploy.scheduler.cluster import Cluster
from planner.deploy.scheduler.selectors import term_matches

Object = Mapping[str, Any]


class _Values(Mapping[str, Any]):
    """Attributes or capacities of one domain of a device, read when an expression asks for them."""

    __slots__ = ("_own", "_prefix", "_raw", "_read")

    def __init__(self, raw: Object, domain: str, driver: str, read: Callable[[Any], Any]) -> None:
        self._raw, self._prefix, self._read = raw, f"{domain}/", read
        self._own = domain == driver  # names without a domain are those of the driver

    def __getitem__(self, name: str) -> Any:
        if self._own and name in self._raw:
            return self._read(self._raw[name])
        return self._read(self._raw[self._prefix + name])

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._raw or (self._own and name in self._raw)

    def __iter__(self) -> Iterator[str]:
        for key in self._raw:
            if key.startswith(self._prefix):
                yield key.removeprefix(self._prefix)
            elif self._own and "/" not in key:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Domains(Mapping[str, _Values]):
    """Values by domain; a domain without any is empty rather than missing."""

    __slots__ = ("_driver", "_raw", "_read")

    def __init__(self, raw: Object, driver: str, read: Callable[[Any], Any]) -> None:
        self._raw, self._driver, self._read = raw, driver, read

    def __getitem__(self, domain: str) -> _Values:
        return _Values(self._raw, domain, self._driver, self._read)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.rpartition("/")[0] or self._driver for key in self._raw))

    def __contains__(self, domain: object) -> bool:
        return domain in list(self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _attribute(value: Object) -> Any:
    for kind, plain in value.items():
        read = _KINDS.get(kind)
        return plain if read is None else read(plain)
    return None


def _capacity(value: Any) -> Any:
    return amount(str(value["value"] if isinstance(value, Mapping) else value))


_READ: Mapping[str, Callable[[Any], Any]] = {"attributes": _attribute, "capacity": _capacity}
_KINDS: Mapping[str, Callable[[Any], Any]] = {"int": int, "version": version}


class Device(Reached, Mapping[str, Any]):
    """A device of a slice, as expressions see it, and what is known of its selectors."""

    __slots__ = ("busy", "driver", "entry", "identity", "known", "name", "pool")

    def __init__(self, entry: Object, driver: str, pool: str) -> None:
        self.driver, self.pool, self.name = driver, pool, entry["name"]
        self.entry: Object = entry.get("basic") or entry
        self.identity = driver, pool, self.name
        self.known: dict[str, bool] = {}
        self.busy = False

    @property
    def scope(self) -> Mapping[str, Any]:
        """Variables of a selector."""
        return {"device": self}

    def __getitem__(self, name: str) -> Any:
        if name == "driver":
            return self.driver
        if name == "allowMultipleAllocations":
            return bool(self.entry.get(name))
        return _Domains(self.entry.get(name) or {}, self.driver, _READ[name])

    def __iter__(self) -> Iterator[str]:
        return iter(("driver", "allowMultipleAllocations", *_READ))

    def __len__(self) -> int:
        return 2 + len(_READ)

    def __hash__(self) -> int:
        return hash(self.identity)

    def reach(self, first: Any, second: Any, third: Any) -> Any:
        """Return an attribute or a capacity by its domain and name."""
        read = _READ.get(first)
        if read is None:
            raise CelError(f"no such overload: {second!r} of {first}")
        raw = self.entry.get(first) or {}
        if second == self.driver and third in raw:  # names without a domain are those of the driver
            return read(raw[third])
        try:
            return read(raw[f"{second}/{third}"])
        except KeyError:
            raise CelError(f"no such key: {third}") from None

    def attribute(self, name: str) -> Any:
        """Return the value of an attribute by its full name, ``None`` where the device has none."""
        raw = self.entry.get("attributes") or {}
        domain, _, short = name.rpartition("/")
        value = raw.get(name) or (raw.get(short) if domain == self.driver else None)
        return None if value is None else _attribute(value)


def devices_of(node: str, cluster: Cluster) -> list[Device]:
    """Return the devices of a node in the order in which the scheduler looks at them."""
    there, shared = cluster.nodes[node], cluster.slices_of.get("", [])
    slices = [
        *cluster.slices_of.get(node, []),
        *(one for one in shared if one["spec"].get("perDeviceNodeSelection") or _reaches(one["spec"], there)),
    ]
    if len(slices) == 1:
        spec = slices[0]["spec"]
        if not spec.get("perDeviceNodeSelection"):
            driver, pool = spec["driver"], spec["pool"]["name"]
            return [Device(entry, driver, pool) for entry in spec.get("devices") or ()]
    newest: dict[tuple[str, str], int] = {}
    for one in slices:
        key, generation = (
            (one["spec"]["driver"], one["spec"]["pool"]["name"]),
            one["spec"]["pool"]["generation"],
        )
        newest[key] = max(newest.get(key, generation), generation)
    return [
        Device(entry, one["spec"]["driver"], one["spec"]["pool"]["name"])
        for one in slices
        if one["spec"]["pool"]["generation"] == newest[one["spec"]["driver"], one["spec"]["pool"]["name"]]
        for entry in one["spec"].get("devices") or ()
        if not one["spec"].get("perDeviceNodeSelection") or _reaches(entry.get("basic") or entry, there)
    ]


def _reaches(place: Object, node: Object) -> bool:
    """Whether what says where it is (by name, by selector, or everywhere) is within reach of a node."""
    if place.get("allNodes"):
        return True
    chosen = place.get("nodeSelector")
    if chosen is not None:
        return any(term_matches(term, node) for term in chosen.get("nodeSelectorTerms") or ())
    return bool(place.get("nodeName") == node["metadata"]["name"])
