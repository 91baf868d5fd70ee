"""Rules for autoscalers: what they scale, the metrics that they follow, and how fast they may."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.deploy.apiserver.syntax import (
    Problems,
    amount,
    at,
    at_least,
    named,
    one_of,
    path_segment,
    required,
)

Json = Mapping[str, Any]
_SOURCES: Mapping[str, str] = {
    "Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods", "Object": "object",
    "External": "external",
}  # fmt: skip
_TARGETS = ("value", "averageValue", "averageUtilization")
LONGEST_WINDOW = 3600
"""Seconds that an autoscaler may look back at most."""
LONGEST_PERIOD = 1800
"""Seconds that a policy of scaling may cover at most."""


def autoscaler(document: Json) -> Problems:
    """Yield what is wrong with a HorizontalPodAutoscaler."""
    spec: Json = document.get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        yield "spec.minReplicas: must be greater than or equal to 1"
    if most < 1 or most < least:
        yield "spec.maxReplicas: must be at least 1 and at least minReplicas"
    yield from _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    for index, one in enumerate(spec.get("metrics") or []):
        yield from _metric(one, f"spec.metrics[{index}]")
    for way, rules in (spec.get("behavior") or {}).items():
        yield from _speed(rules, f"spec.behavior.{way}")


def _reference(value: Json, path: str) -> Problems:
    for field in ("kind", "name"):
        yield from named(f"{path}.{field}", value.get(field), path_segment)


def _metric(one: Json, path: str) -> Problems:
    kind = str(one.get("type") or "")
    yield from required(f"{path}.type", kind)
    yield from one_of(f"{path}.type", kind, *_SOURCES)
    if kind not in _SOURCES:
        return
    given = [field for field in _SOURCES.values() if field in one]
    if _SOURCES[kind] not in given:
        yield f"{path}.{_SOURCES[kind]}: must populate information for the given metric source"
        return
    for field in given:
        if field != _SOURCES[kind]:
            yield f"{path}.{field}: Forbidden: must populate the given metric source only"
    yield from _source(kind, one[_SOURCES[kind]], f"{path}.{_SOURCES[kind]}")


def _source(kind: str, value: Json, path: str) -> Problems:
    """Yield what is wrong with a metric of a kind, and with the target that is set for it."""
    if kind in ("Resource", "ContainerResource"):
        yield from required(f"{path}.name", value.get("name"))
        if kind == "ContainerResource":
            yield from required(f"{path}.container", value.get("container"))
    else:
        yield from named(f"{path}.metric.name", (value.get("metric") or {}).get("name"), path_segment)
    if kind == "Object":
        yield from _reference(value.get("describedObject") or {}, f"{path}.describedObject")
    target: Json = value.get("target") or {}
    yield from _target(target, f"{path}.target")
    legal: Mapping[str, tuple[str, ...]] = {"Pods": ("averageValue",), "Object": ("value", "averageValue"),
                                            "External": ("value", "averageValue")}  # fmt: skip
    fields = [one for one in legal.get(kind, ("averageUtilization", "averageValue")) if one in target]
    if not fields:
        yield f"{path}.target: Required value: no target of a {kind} metric is given"
    elif len(fields) > 1 and kind != "Object":
        yield f"{path}.target: Forbidden: may not set both {' and '.join(fields)}"


def _target(target: Json, path: str) -> Problems:
    yield from required(f"{path}.type", target.get("type"))
    yield from one_of(f"{path}.type", target.get("type"), "Utilization", "Value", "AverageValue")
    for field in _TARGETS:
        number = amount(target[field]) if field in target else None
        if number is not None and number <= 0:
            yield f"{path}.{field}: must be positive"


def _speed(rules: Json, path: str) -> Problems:
    yield from at_least(path, rules, 0, "stabilizationWindowSeconds", most=LONGEST_WINDOW)
    yield from one_of(f"{path}.selectPolicy", rules.get("selectPolicy"), "Max", "Min", "Disabled")
    tolerance = amount(rules["tolerance"]) if "tolerance" in rules else None
    yield from at(f"{path}.tolerance", "must not be negative" if tolerance and tolerance < 0 else "")
    if rules.get("policies") == []:
        yield f"{path}.policies: Required value: must specify at least one Policy, or leave the field out"
    for index, one in enumerate(rules.get("policies") or []):
        where = f"{path}.policies[{index}]"
        yield from required(f"{where}.type", one.get("type"))
        yield from one_of(f"{where}.type", one.get("type"), "Pods", "Percent")
        yield from at_least(where, {"value": 0, **one}, 1, "value")
        yield from at_least(where, {"periodSeconds": 0, **one}, 1, "periodSeconds", most=LONGEST_PERIOD)


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {"autoscaling/HorizontalPodAutoscaler": autoscaler}
