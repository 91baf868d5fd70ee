"""Rules for the environment of a container: variables, and where their values come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.amounts import HUGE, NATIVE
from planner.deploy.apiserver.syntax import (
    Problems,
    amount,
    at,
    dns_subdomain,
    file_key,
    named,
    qualified_name,
    required,
    variable,
)

Json = Mapping[str, Any]
FIELDS = frozenset(
    ["metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
     "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"]
)  # fmt: skip
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_DIVISORS: Mapping[str, frozenset[str]] = {
    "cpu": frozenset(["1m", "1"]),
    "memory": frozenset(["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]),
}
"""Divisors that a reference to an amount of the container may have; those of memory serve for all bytes."""


def environment(one: Json, path: str, volumes: set[Any]) -> Problems:
    """Yield what is wrong with the variables of a container in a pod with some volumes."""
    for index, item in enumerate(one.get("env") or []):
        where, source = f"{path}.env[{index}]", item.get("valueFrom")
        yield from named(f"{where}.name", item.get("name"), variable)
        if source is None:
            continue
        if item.get("value"):
            yield f"{where}.valueFrom: may not be specified when value is not empty"
        given = [name for name in _SOURCES if name in source]
        if len(given) != 1:
            yield f"{where}.valueFrom: must specify exactly one of {', '.join(_SOURCES)}"
        for name in given:
            yield from source_problems(name, source[name], f"{where}.valueFrom.{name}")
            if name == "fileKeyRef" and source[name].get("volumeName") not in volumes:
                yield f"{where}.valueFrom.{name}.volumeName: Not found: {source[name].get('volumeName')!r}"
    yield from _from(one.get("envFrom") or [], f"{path}.envFrom")


def _from(values: Sequence[Json], path: str) -> Problems:
    for index, item in enumerate(values):
        where, given = (
            f"{path}[{index}]",
            [name for name in ("configMapRef", "secretRef") if name in item],
        )
        if len(given) != 1:
            yield f"{where}: must specify exactly one of configMapRef and secretRef"
        for name in given:
            yield from named(f"{where}.{name}.name", item[name].get("name"), dns_subdomain)
        if item.get("prefix"):
            yield from at(f"{where}.prefix", variable(item["prefix"]))


def source_problems(name: str, value: Json, path: str) -> Problems:
    """Yield what is wrong with one source of a value, by the name of its field."""
    if name == "fieldRef":
        field = value.get("fieldPath") or ""
        subscript = _SUBSCRIPT.fullmatch(field)
        if value.get("apiVersion", "v1") != "v1":
            yield f"{path}.apiVersion: Unsupported value {value['apiVersion']!r}"
        yield from required(f"{path}.fieldPath", field)
        if subscript:
            yield from at(f"{path}.fieldPath", qualified_name(subscript[2]))
        elif field and field not in FIELDS:
            yield f"{path}.fieldPath: Unsupported value {field!r}"
    elif name == "resourceFieldRef":
        yield from amount_of(value, path)
    elif name == "fileKeyRef":
        for field in ("volumeName", "path", "key"):
            yield from required(f"{path}.{field}", value.get(field))
    else:
        yield from named(f"{path}.name", value.get("name"), dns_subdomain)
        yield from named(f"{path}.key", value.get("key"), file_key)


def amount_of(value: Json, path: str) -> Problems:
    """Yield what is wrong with a reference to a request or limit of a container."""
    name = value.get("resource") or ""
    yield from required(f"{path}.resource", name)
    word, _, resource = name.partition(".")
    known = resource in NATIVE or (resource.startswith(HUGE) and amount(resource.removeprefix(HUGE)))
    if name and (word not in ("limits", "requests") or not known):
        yield f"{path}.resource: Unsupported value {name!r}"
    elif name:
        divisor = amount(value.get("divisor") or 0)
        legal = _DIVISORS["cpu" if resource == "cpu" else "memory"]
        if divisor and divisor not in [amount(one) for one in legal]:
            yield f"{path}.divisor: only {', '.join(sorted(legal))} are supported with {resource}"
