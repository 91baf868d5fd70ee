"""Selectors of nodes and of labels, taints and tolerations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from planner.errors import PlannerError

Labels = Mapping[str, str]
Object = Mapping[str, Any]


def _greater(value: str | None, values: Sequence[str]) -> bool:
    return _both(value, values, lambda left, right: left > right)


def _less(value: str | None, values: Sequence[str]) -> bool:
    return _both(value, values, lambda left, right: left < right)


def _both(value: str | None, values: Sequence[str], compare: Callable[[int, int], bool]) -> bool:
    """Compare as whole numbers; anything else matches nothing."""
    if value is None or len(values) != 1:
        return False
    try:
        return compare(int(value), int(values[0]))
    except ValueError:
        return False


_OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
    "Gt": _greater,
    "Lt": _less,
}


def expression_matches(expression: Object, labels: Labels) -> bool:
    """Whether labels satisfy one expression.

    Raises
    ------
    PlannerError
        If the operator is unknown.
    """
    compare = _OPERATORS.get(expression["operator"])
    if compare is None:
        raise PlannerError(
            f"unknown operator {expression['operator']!r}; these are known: {', '.join(_OPERATORS)}"
        )
    return compare(labels.get(expression["key"]), expression.get("values") or ())


def selects(selector: Object | None, labels: Labels) -> bool:
    """Whether a label selector selects labels; none selects nothing, an empty one everything."""
    if selector is None:
        return False
    exact = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        expression_matches(one, labels) for one in selector.get("matchExpressions") or ()
    )


def node_matches(spec: Object, node: Object) -> bool:
    """Whether a node satisfies the pod's ``nodeSelector`` and its required node affinity."""
    metadata = node["metadata"]
    labels: Labels = metadata.get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(term_matches(term, node) for term in required["nodeSelectorTerms"])


def term_matches(term: Object, node: Object) -> bool:
    """Whether a term of a node selector matches; one without any expression matches no node."""
    metadata = node["metadata"]
    labels, fields = metadata.get("labels") or {}, {"metadata.name": metadata["name"]}
    expressions, by_field = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not by_field:
        return False
    return all(expression_matches(one, labels) for one in expressions) and all(
        expression_matches(one, fields) for one in by_field
    )


def untolerated(spec: Object, node: Object) -> Object | None:
    """Return the first taint of a node that keeps the pod away, ``None`` where it may go."""
    tolerations = spec.get("tolerations") or ()
    node_spec = node.get("spec") or {}
    taints = list(node_spec.get("taints") or ())
    if node_spec.get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    for taint in taints:
        if taint["effect"] in ("NoSchedule", "NoExecute") and not any(
            tolerates(one, taint) for one in tolerations
        ):
            return taint  # type: ignore[no-any-return]
    return None


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a toleration covers a taint; without a key it must be ``Exists`` and covers every key."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    value = taint.get("value") or ""
    if operator in ("Gt", "Lt"):
        return expression_matches(
            {"key": "value", "operator": operator, "values": [toleration.get("value") or ""]},
            {"value": value},
        )
    return bool(toleration.get("key")) and (toleration.get("value") or "") == value
