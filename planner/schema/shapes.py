"""Following pydantic's error locations through a model.

A location mixes keys of the document with names of union members. Walking the model's core schema beside it
tells them apart, so that only keys and indices of the document remain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from planner.schema.tree import Step

Shape: TypeAlias = Mapping[str, Any]

_UNIONS = ("union", "tagged-union")
_FIELDS = ("model-fields", "dataclass-args", "typed-dict")
_INNER = {"lax-or-strict": "lax_schema", "json-or-python": "python_schema"}


@dataclass(frozen=True)
class Member:
    """One form of a value that may have several.

    Attributes
    ----------
    place
        Steps to the value.
    label
        Pydantic's name of the form.
    """

    place: tuple[Step, ...]
    label: Step


@dataclass(frozen=True)
class Trail:
    """Where an error location leads.

    Attributes
    ----------
    steps
        Keys and indices of the document.
    fields
        Names of the fields that are known where the last step was taken.
    member
        The innermost union member on the way; None if there was none.
    """

    steps: tuple[Step, ...]
    fields: tuple[str, ...]
    member: Member | None


class Follower:
    """Follows the error locations of one model."""

    def __init__(self, core_schema: Shape) -> None:
        self._definitions: dict[str, Shape] = {}
        self._root = core_schema

    def follow(self, loc: Sequence[Step]) -> Trail:
        """Return the trail of an error location."""
        steps: list[Step] = []
        fields: tuple[str, ...] = ()
        member: Member | None = None
        shapes = [self._root]
        for item in loc:
            shapes = [leaf for shape in shapes for leaf in self._leaves(shape)]
            unions = [shape for shape in shapes if shape["type"] in _UNIONS]
            if unions:
                member = Member(tuple(steps), item)
                shapes = [choice for shape in unions for choice in _members(shape, item)]
            elif item != "[key]":
                fields = tuple(name for shape in shapes for name, _ in _fields(shape))
                shapes = [child for shape in shapes for child in _children(shape, item)]
                steps.append(item)
        return Trail(tuple(steps), fields, member)

    def _leaves(self, shape: Shape) -> Iterator[Shape]:
        """Yield the shapes under wrappers that add nothing to a location."""
        kind = shape["type"]
        if kind == "definitions":
            self._definitions.update({entry["ref"]: entry for entry in shape["definitions"]})
        if kind == "definition-ref":
            yield from self._leaves(self._definitions[shape["schema_ref"]])
        elif kind == "chain":
            for part in shape["steps"]:
                yield from self._leaves(part)
        elif kind in _INNER:
            yield from self._leaves(shape[_INNER[kind]])
        elif kind not in _FIELDS and isinstance(shape.get("schema"), Mapping):
            yield from self._leaves(shape["schema"])
        else:
            yield shape


def _members(union: Shape, label: Step) -> list[Shape]:
    """Return the members of a union that a label may mean, all of them when it tells nothing."""
    if union["type"] == "tagged-union":
        return [choice for tag, choice in union["choices"].items() if tag == label]
    choices = [choice[0] if isinstance(choice, tuple) else choice for choice in union["choices"]]
    head = str(label).split("[", maxsplit=1)[0]
    return [choice for choice in choices if _label(choice) == head] or choices


def _label(shape: Shape) -> str:
    return str(shape["cls"].__name__) if "cls" in shape else str(shape["type"])


def _fields(shape: Shape) -> Iterator[tuple[str, Shape]]:
    """Yield the names, as documents write them, and the shapes of a record's fields."""
    if shape["type"] == "dataclass-args":
        yield from ((entry["name"], entry["schema"]) for entry in shape["fields"])
    elif shape["type"] in _FIELDS:
        for name, entry in shape["fields"].items():
            alias = entry.get("validation_alias")
            yield (alias if isinstance(alias, str) else name), entry["schema"]


def _children(shape: Shape, item: Step) -> Iterator[Shape]:
    """Yield the shape of what is at ``item`` inside a record, mapping or list."""
    if shape["type"] in _FIELDS:
        yield from (child for name, child in _fields(shape) if name == item)
    elif shape["type"] == "tuple" and isinstance(item, int):
        items = shape["items_schema"]
        last = shape.get("variadic_item_index", len(items) - 1)
        yield from items[min(item, last) :][:1]
    elif shape["type"] == "dict" and "values_schema" in shape:
        yield shape["values_schema"]
    elif isinstance(shape.get("items_schema"), Mapping):
        yield shape["items_schema"]
