"""Rules for requests and limits of resources, and for the claims of a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.syntax import Problems, amount, at, milli, qualified_name, required, unique

Json = Mapping[str, Any]
NATIVE = frozenset(["cpu", "memory", "ephemeral-storage"])
HUGE = "hugepages-"


def resources(amounts: Json, claims: Sequence[Json], path: str) -> Problems:
    """Yield what is wrong with the resources of a container in a pod with some claims."""
    limits, requests = amounts.get("limits") or {}, amounts.get("requests") or {}
    for word, given in (("limits", limits), ("requests", requests)):
        for name, value in given.items():
            yield from at(f"{path}.{word}", resource_name(name))
            yield from at(f"{path}.{word}[{name}]", quantity_problem(name, value))
    for name, value in requests.items():
        limit = limits.get(name)
        if limit is None:
            if exact(name):
                yield f"{path}.limits: Required value: Limit must be set for non overcommitable resources"
        elif _above(name, value, limit):
            yield f"{path}.requests: {value} must be less than or equal to {name} limit of {limit}"
        elif exact(name) and amount(value) != amount(limit):
            yield f"{path}.requests: {value} must be equal to {name} limit of {limit}"
    if any(name.startswith(HUGE) for name in {**limits, **requests}) and not (
        {"cpu", "memory"} & set({**limits, **requests})
    ):
        yield f"{path}: HugePages require cpu or memory"
    yield from _claims(amounts.get("claims") or [], [one.get("name") for one in claims], f"{path}.claims")


def _claims(own: Sequence[Json], known: Sequence[Any], path: str) -> Problems:
    yield from unique(path, [(one.get("name"), one.get("request")) for one in own])
    for index, one in enumerate(own):
        yield from required(f"{path}[{index}]", one.get("name"))
        if one.get("name") and one["name"] not in known:
            yield f"{path}[{index}]: Not found: {one['name']!r} is no name in pod.spec.resourceClaims"


def resource_name(name: str) -> str:
    """Return what is wrong with the name of a resource of a container."""
    wrong = qualified_name(name)
    if wrong or "/" in name or name in NATIVE or name.startswith(HUGE):
        return wrong
    return f"{name!r} must be a standard resource for containers, or qualified as in vendor.com/{name}"


def exact(name: str) -> bool:
    """Return whether a resource cannot be promised beyond what is there: requests equal limits."""
    domain = name.partition("/")[0] if "/" in name else ""
    return name.startswith(HUGE) or bool(domain and not f".{domain}".endswith(".kubernetes.io"))


def quantity_problem(name: str, value: str | float) -> str:
    """Return what is wrong with an amount of a resource."""
    found = amount(value)
    if found is None:
        return f"{value!r} is no quantity"
    if found < 0:
        return f"{value} must be greater than or equal to 0"
    whole = exact(name) and not name.startswith(HUGE)
    if whole and found.denominator != 1:
        return f"{value}: must be an integer"
    size = amount(name.removeprefix(HUGE)) if name.startswith(HUGE) else None
    if size and found % size:
        return f"{value}: must be a multiple of the page size"
    return ""


def _above(name: str, value: str | float, limit: str | float) -> bool:
    asked, most = amount(value), amount(limit)
    if asked is None or most is None:
        return False
    return milli(asked) > milli(most) if name == "cpu" else asked > most
