"""Rules for affinity, tolerations and spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    at_least,
    dns_label,
    label_value,
    one_of,
    qualified_name,
    required,
    selector,
    unique,
)

Json = Mapping[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def affinity(value: Json, path: str) -> Problems:
    """Yield what is wrong with the affinity of a pod."""
    nodes: Json = value.get("nodeAffinity") or {}
    where = f"{path}.nodeAffinity"
    if REQUIRED in nodes:
        yield from node_selector(nodes[REQUIRED], f"{where}.{REQUIRED}")
    for index, one in enumerate(nodes.get(PREFERRED) or []):
        inner = f"{where}.{PREFERRED}[{index}]"
        yield from _weight(one, inner)
        yield from _term(one.get("preference") or {}, f"{inner}.preference", strict=False)
    for field in ("podAffinity", "podAntiAffinity"):
        pods: Json = value.get(field) or {}
        for index, one in enumerate(pods.get(REQUIRED) or []):
            yield from _pod_term(one, f"{path}.{field}.{REQUIRED}[{index}]")
        for index, one in enumerate(pods.get(PREFERRED) or []):
            inner = f"{path}.{field}.{PREFERRED}[{index}]"
            yield from _weight(one, inner)
            yield from _pod_term(one.get("podAffinityTerm") or {}, f"{inner}.podAffinityTerm")


def node_selector(value: Json, path: str) -> Problems:
    """Yield what is wrong with the terms that pick nodes."""
    terms = value.get("nodeSelectorTerms") or []
    if not terms:
        yield f"{path}.nodeSelectorTerms: Required value: must have at least one node selector term"
    for index, term in enumerate(terms):
        yield from _term(term, f"{path}.nodeSelectorTerms[{index}]")


def _weight(one: Json, path: str) -> Problems:
    if not 1 <= one.get("weight", 0) <= 100:
        yield f"{path}.weight: must be in the range 1-100"


def _term(term: Json, path: str, *, strict: bool = True) -> Problems:
    """Yield what is wrong with a term; values of a preference need not be those of labels."""
    for index, one in enumerate(term.get("matchExpressions") or []):
        where = f"{path}.matchExpressions[{index}]"
        yield from _expression(one, where, strict=strict)
        yield from at(f"{where}.key", qualified_name(one.get("key") or ""))
    for index, one in enumerate(term.get("matchFields") or []):
        where, values = f"{path}.matchFields[{index}]", one.get("values") or []
        if (
            one.get("operator") not in ("In", "NotIn")
            or len(values) != 1
            or one.get("key") != "metadata.name"
        ):
            yield f"{where}: only metadata.name In or NotIn one value is a valid field selector"


def _expression(one: Json, path: str, *, strict: bool) -> Problems:
    operator, values = one.get("operator") or "", one.get("values") or []
    if operator in ("In", "NotIn"):
        yield from required(f"{path}.values", values)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield f"{path}.values: Forbidden for {operator}"
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield f"{path}.values: must be specified single value for {operator}"
    else:
        yield f"{path}.operator: {operator!r} is not a valid selector operator"
    for value in values if strict else ():
        yield from at(f"{path}.values", label_value(value))


def _pod_term(term: Json, path: str) -> Problems:
    yield from selector(f"{path}.labelSelector", term.get("labelSelector"))
    yield from selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    key = term.get("topologyKey") or ""
    yield from at(f"{path}.topologyKey", qualified_name(key) if key else "Required value: can not be empty")
    for name in term.get("namespaces") or []:
        yield from at(f"{path}.namespaces", dns_label(name))
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        yield from _keys(term, field, path)
    for key in set(term.get("matchLabelKeys") or []) & set(term.get("mismatchLabelKeys") or []):
        yield f"{path}.matchLabelKeys: {key!r} exists in both matchLabelKeys and mismatchLabelKeys"


def _keys(one: Json, field: str, path: str) -> Problems:
    """Yield what is wrong with keys whose values the pod itself gives."""
    keys, chosen = one.get(field) or [], one.get("labelSelector")
    if keys and chosen is None:
        yield f"{path}.{field}: must not be specified when labelSelector is not set"
    for key in keys:
        yield from at(f"{path}.{field}", qualified_name(key))


def tolerations(values: Sequence[Json], path: str) -> Problems:
    """Yield what is wrong with tolerations."""
    for index, one in enumerate(values):
        where, key = f"{path}[{index}]", one.get("key") or ""
        operator, value = one.get("operator") or "Equal", one.get("value") or ""
        if key:
            yield from at(f"{where}.key", qualified_name(key))
        elif operator != "Exists":
            yield f"{where}.operator: must be Exists when key is empty"
        yield from one_of(f"{where}.operator", operator, "Equal", "Exists")
        if operator == "Exists" and value:
            yield f"{where}.value: must be empty when operator is Exists"
        yield from at(f"{where}.value", label_value(value))
        yield from one_of(f"{where}.effect", one.get("effect"), *EFFECTS)
        if "tolerationSeconds" in one and one.get("effect") != "NoExecute":
            yield f"{where}.effect: must be NoExecute when tolerationSeconds is set"


def spread(values: Sequence[Json], path: str) -> Problems:
    """Yield what is wrong with spread constraints."""
    yield from unique(path, [(one.get("topologyKey"), one.get("whenUnsatisfiable")) for one in values])
    for index, one in enumerate(values):
        where = f"{path}[{index}]"
        if one.get("maxSkew", 0) <= 0:
            yield f"{where}.maxSkew: must be greater than zero"
        yield from required(f"{where}.topologyKey", one.get("topologyKey"))
        unsatisfied = one.get("whenUnsatisfiable") or ""
        if unsatisfied not in ("DoNotSchedule", "ScheduleAnyway"):
            yield f"{where}.whenUnsatisfiable: Unsupported value {unsatisfied!r}"
        yield from at_least(where, one, 1, "minDomains")
        if "minDomains" in one and unsatisfied != "DoNotSchedule":
            yield f"{where}.minDomains: can only use it with whenUnsatisfiable=DoNotSchedule"
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            yield from one_of(f"{where}.{field}", one.get(field), "Ignore", "Honor")
        yield from selector(f"{where}.labelSelector", one.get("labelSelector"))
        yield from _keys(one, "matchLabelKeys", where)
        chosen: Json = one.get("labelSelector") or {}
        taken = {*(chosen.get("matchLabels") or {})}
        taken |= {each.get("key") for each in chosen.get("matchExpressions") or []}
        for key in taken & set(one.get("matchLabelKeys") or []):
            yield f"{where}.matchLabelKeys: {key!r} exists in both matchLabelKeys and labelSelector"
