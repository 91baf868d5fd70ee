"""Dotted paths into documents: find the fields that one names, set them, scale them.

A step is a field, or a field with a selector in brackets that picks entries of a list: ``[2]`` by number,
``[numa0]`` by name, ``[kind=nvlink]`` by a field, ``[*]`` all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from planner.errors import StudyError, nearest

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)(?:\[([^\[\]]+(?:\[[^\[\]]*\][^\[\]]*)*)\])?")
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")
ASSUMED = "what-if"
"""Source of the figures that a study states."""


@dataclass(frozen=True)
class Step:
    """A field, and which entries of it where it is a list (``None``: the field itself)."""

    field: str
    selector: str | None = None


def parse_path(text: str) -> tuple[Step, ...]:
    """Return the steps of a dotted path.

    Raises
    ------
    StudyError
        If it is not of the form ``field.field[selector].field``.
    """
    steps, position = [], 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            break
        steps.append(Step(match[1], match[2]))
        position = match.end()
        if position == len(text):
            return tuple(steps)
        if text[position] != ".":
            break
        position += 1
    raise StudyError(f"{text!r} is not a path such as 'topology.machines[0].links[kind=nvlink].bandwidth'")


def split_quantity(value: str | float) -> tuple[float, str]:
    """Return the number and the unit of a value as written.

    Raises
    ------
    ValueError
        If it does not start with a number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), ""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a number with a unit")
    return float(match[1]), match[2]


def set_field(data: dict[str, Any], path: str, value: Any) -> None:
    """Set the fields that a path names; a figure keeps nothing of its old source.

    Raises
    ------
    StudyError
        If the path leads nowhere.
    """
    for holder, key in list(_targets(data, path)):
        holder[key] = value


def scale_field(data: dict[str, Any], path: str, factor: float) -> None:
    """Multiply the fields that a path names.

    Raises
    ------
    StudyError
        If the path leads nowhere, or to something that is not a number.
    """
    for holder, key in list(_targets(data, path)):
        if isinstance(holder, dict) and key not in holder:
            raise StudyError(
                f"{path}: {key!r} is not stated, so that a factor has nothing to scale; set a value"
            )
        holder[key] = _scaled(holder[key], factor, path)


def _scaled(value: Any, factor: float, path: str) -> Any:
    if isinstance(value, dict) and "value" in value:
        return {"value": _scaled(value["value"], factor, path), "provenance": "assumed", "source": ASSUMED}
    if isinstance(value, dict) and value:
        return {key: _scaled(item, factor, path) for key, item in value.items()}
    try:
        number, unit = split_quantity(value)
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    product = float(f"{number * factor:.12g}")
    if unit:
        return f"{product:.12g} {unit}"
    return int(product) if isinstance(value, int) and product.is_integer() else product


def _targets(data: dict[str, Any], path: str) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of every field that a path names."""
    holders: list[Any] = [data]
    *inner, last = parse_path(path)
    for step in inner:
        holders = [item for holder in holders for item in _entered(holder, step, path)]
    for holder in holders:
        if isinstance(holder, list):
            raise StudyError(
                f"{path}: say which entries before {last.field!r}: [0], [name], [kind=...] or [*]"
            )
        if not isinstance(holder, dict):
            raise StudyError(f"{path}: {last.field!r} is looked for in something that has no fields")
        if last.selector is None:
            yield holder, last.field
        else:
            entries = _field(holder, last.field, path)
            yield from ((entries, place) for place in _places(entries, last, path))


def _entered(holder: Any, step: Step, path: str) -> Iterator[Any]:
    entries = _field(holder, step.field, path)
    if step.selector is None:
        yield entries
    else:
        yield from (entries[place] for place in _places(entries, step, path))


def _field(holder: Any, field: str, path: str) -> Any:
    if isinstance(holder, list):
        raise StudyError(f"{path}: say which entries before {field!r}: [0], [name], [kind=...] or [*]")
    if not isinstance(holder, dict) or field not in holder:
        known = list(holder) if isinstance(holder, dict) else []
        close = nearest(field, known)
        hint = f"did you mean {close!r}?" if close else f"there is {', '.join(map(repr, known))}"
        raise StudyError(f"{path}: there is no field {field!r}; {hint}")
    return holder[field]


def _places(entries: Any, step: Step, path: str) -> list[Any]:
    """Return the keys of the entries that a selector picks."""
    selector = str(step.selector)
    if isinstance(entries, dict):
        found: list[Any] = [key for key in entries if selector in ("*", key)]
    elif isinstance(entries, list):
        found = [place for place, entry in enumerate(entries) if _picked(selector, place, entry)]
    else:
        raise StudyError(f"{path}: {step.field!r} is not a list")
    if not found:
        names = [
            str(entry.get("name", place)) for place, entry in enumerate(entries) if isinstance(entry, dict)
        ]
        close = nearest(selector, names)
        hint = f"did you mean {close!r}?" if close else f"there is {', '.join(map(repr, names[:12]))}"
        raise StudyError(f"{path}: no entry of {step.field!r} is [{selector}]; {hint}")
    return found


def _picked(selector: str, place: int, entry: Any) -> bool:
    if selector == "*" or selector == str(place):
        return True
    field, equals, value = selector.partition("=")
    if equals and isinstance(entry, dict):
        return str(entry.get(field)) == value
    return isinstance(entry, dict) and selector in (entry.get("name"), entry.get("machine"))
