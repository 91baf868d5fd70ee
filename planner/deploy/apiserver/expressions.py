"""Rules that a custom kind states about itself (``x-kubernetes-validations``), on defaulted values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from planner.deploy.scheduler.cel import CelSyntaxError, compiled
from planner.deploy.scheduler.cel_values import Absent, CelError

Json = Mapping[str, Any]
_OLD = re.compile(r"\boldSelf\b")


def defaulted(value: Any, schema: Json) -> Any:
    """Return a value with the defaults of its schema; a null gives way to the default."""
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        found = dict(value)
        for key, inner in properties.items():
            if found.get(key) is None and "default" in inner:
                found[key] = inner["default"]
        return {
            key: defaulted(item, properties.get(key) or (rest if isinstance(rest, Mapping) else {}))
            for key, item in found.items()
        }
    if isinstance(value, list):
        return [defaulted(item, schema.get("items", {})) for item in value]
    return value


def rule_problems(value: Any, schema: Json, path: str = "") -> Iterator[str]:
    """Yield the rules of a schema that a new value breaks.

    Rules about a change (``oldSelf``) hold for what is new, but for those that take the old value as
    optional. A rule without a value is broken, as the API server has it; one that is beyond the evaluator is
    passed over.
    """
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _OLD.search(rule["rule"]) or rule.get("optionalOldSelf"):
            yield from _broken(value, rule, path)
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            inner = properties.get(key) or (rest if isinstance(rest, Mapping) else None)
            if inner:
                yield from rule_problems(item, inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from rule_problems(item, schema.get("items", {}), f"{path}[{index}]")


def _broken(value: Any, rule: Json, path: str) -> Iterator[str]:
    text = rule["rule"].strip()
    try:
        code = compiled(text)
    except CelSyntaxError:
        return
    try:
        holds = code({"self": value, "oldSelf": Absent()})
    except CelError as error:
        yield f"{path}: {error} in the rule {text!r}"
        return
    if holds is not True:
        yield f"{path}: {rule.get('message') or f'breaks the rule {text!r}'}"
