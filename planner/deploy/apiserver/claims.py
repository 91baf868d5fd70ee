"""Rules for devices: classes, claims and templates of claims; and for groups of pods that start together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.metadata import common
from planner.deploy.apiserver.syntax import (
    Problems,
    amount,
    at,
    dns_label,
    dns_subdomain,
    identifier,
    named,
    one_of,
    qualified_name,
    required,
    unique,
)
from planner.deploy.scheduler.cel import CelSyntaxError, compiled
from planner.deploy.scheduler.cel_values import CelError, version

Json = Mapping[str, Any]
MOST_ALTERNATIVES = 8
MOST_TOLERATIONS = 16
MOST_DEVICES = 128
MOST = 32
"""Requests, constraints, selectors and configurations that one claim may have."""
DEVICE_FIELDS = frozenset(["driver", "attributes", "capacity", "allowMultipleAllocations"])
LONGEST_TEXT = 64
_TAINTS = ("NoSchedule", "NoExecute", "None")
_DEVICE_FIELD = re.compile(r"(?<![\w.\"'])device\s*\.\s*([A-Za-z_]\w*)")
_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")


class _Unknown(dict[str, Any]):
    """Attributes of which nothing is known before a device is there."""


def selector_problem(text: str) -> str:
    """Return what is wrong with an expression that selects devices, as far as that shows without a device."""
    try:
        code = compiled(text)
    except CelSyntaxError as error:
        return f"compilation failed: {error}"
    for match in _DEVICE_FIELD.finditer(_TEXT.sub('""', text)):
        if match[1] not in DEVICE_FIELDS:
            return f"compilation failed: undefined field {match[1]!r}"
    scope = {
        "device": {
            "driver": "",
            "allowMultipleAllocations": False,
            "attributes": _Unknown(),
            "capacity": _Unknown(),
        }
    }
    try:
        value = code(scope)
    except CelError as error:
        return f"compilation failed: {error}" if str(error).startswith("undeclared") else ""
    return "" if isinstance(value, bool) else f"must evaluate to bool, not {type(value).__name__}"


def devices(value: Json, path: str) -> Problems:
    """Yield what is wrong with the devices that a claim asks for."""
    requests, constraints = value.get("requests") or [], value.get("constraints") or []
    for field in ("requests", "constraints", "config"):
        if len(value.get(field) or []) > MOST:
            yield f"{path}.{field}: must have at most {MOST} items"
    yield from unique(f"{path}.requests", [one.get("name") for one in requests])
    names: set[str] = set()
    for index, one in enumerate(requests):
        where, name = f"{path}.requests[{index}]", one.get("name") or ""
        yield from at(f"{where}.name", dns_label(name))
        names |= {name, *(f"{name}/{sub.get('name')}" for sub in one.get("firstAvailable") or [])}
        yield from _request(one, where)
    for index, one in enumerate(constraints):
        where = f"{path}.constraints[{index}]"
        yield from _known(one.get("requests") or [], names, f"{where}.requests")
        given = [field for field in ("matchAttribute", "distinctAttribute") if field in one]
        if len(given) != 1:
            yield f"{where}: exactly one of matchAttribute and distinctAttribute is required"
        for field in given:
            yield from at(f"{where}.{field}", _attribute(one[field]))
    for index, one in enumerate(value.get("config") or []):
        where = f"{path}.config[{index}]"
        yield from _known(one.get("requests") or [], names, f"{where}.requests")
        yield from _config(one, where)


def _attribute(text: str) -> str:
    domain, slash, name = text.rpartition("/")
    if not slash:
        return f"{text!r}: a fully qualified name must be a domain and a name separated by a slash"
    return dns_subdomain(domain) or identifier(name)


def _known(asked: Sequence[str], names: set[str], path: str) -> Problems:
    yield from unique(path, list(asked))
    for name in asked:
        if name not in names:
            yield f"{path}: {name!r} must be the name of a request in the claim"


def _request(one: Json, path: str) -> Problems:
    given = [field for field in ("exactly", "firstAvailable") if field in one]
    flat = "deviceClassName" in one  # as resource.k8s.io/v1beta1 has it
    if len(given) + flat != 1:
        yield f"{path}: exactly one of exactly and firstAvailable is required"
    if "exactly" in one or flat:
        yield from _body(one.get("exactly", one), f"{path}.exactly" if not flat else path)
    subs = one.get("firstAvailable") or []
    if len(subs) > MOST_ALTERNATIVES:
        yield f"{path}.firstAvailable: must have at most {MOST_ALTERNATIVES} items"
    if "firstAvailable" in one:
        yield from required(f"{path}.firstAvailable", subs)
    yield from unique(f"{path}.firstAvailable", [sub.get("name") for sub in subs])
    for index, sub in enumerate(subs):
        where = f"{path}.firstAvailable[{index}]"
        yield from at(f"{where}.name", dns_label(sub.get("name") or ""))
        yield from _body(sub, where)


def _body(body: Json, path: str) -> Problems:
    yield from named(f"{path}.deviceClassName", body.get("deviceClassName"), dns_subdomain)
    mode, count = body.get("allocationMode") or "ExactCount", body.get("count", 0)
    yield from one_of(f"{path}.allocationMode", mode, "All", "ExactCount")
    if mode == "All" and count:
        yield f"{path}.count: must not be specified when allocationMode is All"
    if mode == "ExactCount" and count < 0:
        yield f"{path}.count: must be greater than zero"
    yield from _selectors(body.get("selectors") or [], path)
    for name, value in ((body.get("capacity") or {}).get("requests") or {}).items():
        found = amount(value)
        yield from at(f"{path}.capacity.requests", identifier(name.rpartition("/")[2]))
        if found is None or found < 0:
            yield f"{path}.capacity.requests[{name}]: {value!r} must be a quantity of at least 0"
    if len(body.get("tolerations") or []) > MOST_TOLERATIONS:
        yield f"{path}.tolerations: must have at most {MOST_TOLERATIONS} items"
    for index, one in enumerate(body.get("tolerations") or []):
        if one.get("operator") == "Exists" and one.get("value"):
            yield f"{path}.tolerations[{index}].value: must be empty when operator is Exists"
        if not one.get("key") and one.get("operator") != "Exists":
            yield f"{path}.tolerations[{index}].operator: must be Exists when key is empty"
        yield from one_of(f"{path}.tolerations[{index}].operator", one.get("operator"), "Equal", "Exists")
        yield from one_of(
            f"{path}.tolerations[{index}].effect", one.get("effect"), "NoSchedule", "NoExecute", "None"
        )


def _selectors(values: Sequence[Json], path: str) -> Problems:
    if len(values) > MOST:
        yield f"{path}.selectors: must have at most {MOST} items"
    for index, one in enumerate(values):
        where = f"{path}.selectors[{index}]"
        if "cel" not in one:
            yield f"{where}.cel: Required value"
            continue
        text = one["cel"].get("expression") or ""
        yield from required(f"{where}.cel.expression", text)
        if text:
            yield from at(f"{where}.cel.expression", selector_problem(text))


def _config(one: Json, path: str) -> Problems:
    opaque = one.get("opaque")
    if opaque is None:
        yield f"{path}.opaque: Required value"
        return
    yield from named(f"{path}.opaque.driver", opaque.get("driver"), dns_subdomain)
    parameters = opaque.get("parameters")
    yield from required(f"{path}.opaque.parameters", parameters)
    if parameters is not None and not isinstance(parameters, Mapping):
        yield f"{path}.opaque.parameters: must be a valid JSON object"


def claim(document: Json) -> Problems:
    """Yield what is wrong with a ResourceClaim."""
    yield from devices((document.get("spec") or {}).get("devices") or {}, "spec.devices")


def claim_template(document: Json) -> Problems:
    """Yield what is wrong with a ResourceClaimTemplate."""
    spec: Json = document.get("spec") or {}
    yield from common(spec.get("metadata") or {}, "spec.metadata")
    yield from devices((spec.get("spec") or {}).get("devices") or {}, "spec.spec.devices")


def device_class(document: Json) -> Problems:
    """Yield what is wrong with a DeviceClass."""
    spec: Json = document.get("spec") or {}
    yield from _selectors(spec.get("selectors") or [], "spec")
    for index, one in enumerate(spec.get("config") or []):
        yield from _config(one, f"spec.config[{index}]")
    if "extendedResourceName" in spec:
        yield from at("spec.extendedResourceName", qualified_name(spec["extendedResourceName"]))


def resource_slice(document: Json) -> Problems:
    """Yield what is wrong with a ResourceSlice."""
    spec: Json = document.get("spec") or {}
    yield from named("spec.driver", spec.get("driver"), dns_subdomain)
    pool: Json = spec.get("pool") or {}
    yield from required("spec.pool.name", pool.get("name"))
    for part in (pool.get("name") or "").split("/"):
        yield from at("spec.pool.name", dns_subdomain(part) if part else "parts must not be empty")
    if pool.get("resourceSliceCount", 0) < 1:
        yield "spec.pool.resourceSliceCount: must be greater than zero"
    if pool.get("generation", 0) < 0:
        yield "spec.pool.generation: must be greater than or equal to zero"
    places = [
        bool(spec.get(one)) for one in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
    ]
    if sum(places) != 1:
        yield "spec: exactly one of nodeName, nodeSelector, allNodes and perDeviceNodeSelection is required"
    found = spec.get("devices") or []
    yield from unique("spec.devices", [one.get("name") for one in found])
    if len(found) > MOST_DEVICES:
        yield f"spec.devices: must have at most {MOST_DEVICES} items"
    for index, one in enumerate(found):
        yield from named(f"spec.devices[{index}].name", one.get("name"), dns_label)
        yield from _device(one.get("basic") or one, f"spec.devices[{index}]")


def _device(body: Json, path: str) -> Problems:
    """Yield what is wrong with the attributes and capacities of a device."""
    attributes, capacity = body.get("attributes") or {}, body.get("capacity") or {}
    if len(attributes) + len(capacity) > MOST:
        yield f"{path}: the total number of attributes and capacities must not exceed {MOST}"
    for key in (*attributes, *capacity):
        domain, slash, name = key.rpartition("/")
        wrong = identifier(name) or ("too long" if len(name) > MOST else "")
        yield from at(f"{path}[{key}]", wrong or (dns_subdomain(domain) if slash else ""))
    for key, value in attributes.items():
        if len([one for one in value.values() if one is not None]) != 1:
            yield f"{path}.attributes[{key}]: exactly one value must be specified"
        if len(value.get("string") or "") > LONGEST_TEXT:
            yield f"{path}.attributes[{key}].string: must be at most {LONGEST_TEXT} characters"
        if "version" in value and not _valid_version(value["version"]):
            yield f"{path}.attributes[{key}].version: must be a string compatible with semver.org 2.0.0"
    for index, taint in enumerate(body.get("taints") or []):
        yield from at(f"{path}.taints[{index}].key", qualified_name(taint.get("key") or ""))
        yield from one_of(f"{path}.taints[{index}].effect", taint.get("effect"), *_TAINTS)


def _valid_version(text: str) -> bool:
    try:
        version(text)
    except CelError:
        return False
    return True


def _policy(spec: Json, path: str) -> Problems:
    policy: Json = spec.get("schedulingPolicy") or {}
    if len([word for word in ("basic", "gang") if word in policy]) != 1:
        yield f"{path}.schedulingPolicy: exactly one of basic and gang is required"
    if "gang" in policy and policy["gang"].get("minCount", 0) < 1:
        yield f"{path}.schedulingPolicy.gang.minCount: must be greater than zero"
    for index, one in enumerate((spec.get("schedulingConstraints") or {}).get("topology") or []):
        yield from at(
            f"{path}.schedulingConstraints.topology[{index}].key", qualified_name(one.get("key") or "")
        )


def gang_workload(document: Json) -> Problems:
    """Yield what is wrong with a Workload of ``scheduling.k8s.io``."""
    templates = (document.get("spec") or {}).get("podGroupTemplates") or []
    yield from required("spec.podGroupTemplates", templates)
    yield from unique("spec.podGroupTemplates", [one.get("name") for one in templates])
    for index, one in enumerate(templates):
        yield from named(f"spec.podGroupTemplates[{index}].name", one.get("name"), dns_label)
        yield from _policy(one, f"spec.podGroupTemplates[{index}]")


def pod_group(document: Json) -> Problems:
    """Yield what is wrong with a PodGroup of ``scheduling.k8s.io``."""
    yield from _policy(document.get("spec") or {}, "spec")


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {
    "resource.k8s.io/ResourceClaim": claim, "resource.k8s.io/ResourceClaimTemplate": claim_template,
    "resource.k8s.io/DeviceClass": device_class, "resource.k8s.io/ResourceSlice": resource_slice,
    "scheduling.k8s.io/Workload": gang_workload, "scheduling.k8s.io/PodGroup": pod_group,
}  # fmt: skip
