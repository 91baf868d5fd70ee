"""Pydantic's complaints in the words of somebody who writes a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.errors import nearest

_KINDS = {
    "text": ("string_type",),
    "a whole number": ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
    "a number": ("float_type", "float_parsing"),
    "a finite number": ("finite_number",),
    "true or false": ("bool_type", "bool_parsing"),
    "a list": ("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"),
    "a mapping": ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
    "left out": ("none_required",),
}
_DUE = {kind: due for due, kinds in _KINDS.items() for kind in kinds}


def describe(kind: str, value: Any, context: Mapping[str, Any], message: str) -> tuple[str, str]:
    """Return what is wrong and what to do about it.

    Parameters
    ----------
    kind, value, context, message
        Type, input, context and message of one of pydantic's errors.
    """
    if kind in ("missing", "union_tag_not_found"):
        return "missing field", ""
    if kind in _DUE:
        return f"must be {_DUE[kind]}, not {shown(value)}", _quotes(kind, value)
    if kind in ("literal_error", "enum"):
        return _choice(value, str(context["expected"]))
    if kind == "union_tag_invalid":
        return _choice(context["tag"], str(context["expected_tags"]))
    if kind in ("value_error", "assertion_error"):
        return str(context["error"]), ""
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} is not allowed here", f"it must match {context['pattern']}"
    rule = message.removeprefix("Input should ").removeprefix("Value should ")
    return (f"must {rule}, not {shown(value)}" if rule != message else message), ""


def _quotes(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return "put it in quotes"
    looks_like_number = isinstance(value, str) and value.strip("+-").replace(".", "", 1).isdigit()
    return "remove the quotes" if looks_like_number and _DUE[kind].endswith("number") else ""


def _choice(value: Any, expected: str) -> tuple[str, str]:
    choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
    close = nearest(str(value), choices)
    rule = f"one of {', '.join(choices)}" if len(choices) > 1 else repr(choices[0])
    return f"must be {rule}, not {shown(value)}", f"did you mean {close!r}?" if close else ""


def either(texts: Sequence[str]) -> str:
    """Return one text for the complaints of all forms that a value may have."""
    rules = {text: text.removeprefix("must be ").partition(", not ")[0] for text in dict.fromkeys(texts)}
    endings = {text.partition(", not ")[2] for text in rules}
    if len(rules) == 1 or len(endings) > 1 or not all(text.startswith("must be ") for text in rules):
        return ", or ".join(rules)
    return f"must be {' or '.join(rules.values())}, not {endings.pop()}"


def shown(value: Any) -> str:
    """Return a short text for a value of a document."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
