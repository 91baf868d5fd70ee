"""Reading YAML into plain data that remembers where everything stood.

The events of PyYAML's C parser become dicts, lists and scalars beside a tree of `Spot`. What could hide a
mistake or exhaust the machine is refused: duplicate keys, aliases, tags, great depth, several documents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from planner.errors import DocumentError, Problem
from planner.schema.scalars import resolve

DEEPEST = 64
"""Mappings and lists inside one another, at most."""
_MOST_PROBLEMS = 200

Step: TypeAlias = str | int


@dataclass(slots=True)
class Spot:
    """Where a value stands, counted from 1, with the spots of what is inside it.

    Attributes
    ----------
    children
        Spot of each value of a mapping or list, by key or index; None of a scalar.
    keys
        Line and column of each key of a mapping.
    """

    line: int
    column: int
    children: dict[Step, Spot] | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _OpenMapping:
    """A mapping whose end has not been read yet."""

    spot: Spot
    children: dict[Step, Spot]
    data: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    """The key that waits for its value; None when a key comes next."""

    def add(self, value: Any, spot: Spot) -> None:
        if self.key is not None:
            self.data[self.key] = value
            self.children[self.key] = spot
            self.key = None

    def step(self) -> list[str]:
        return [] if self.key is None else [self.key]


@dataclass(slots=True)
class _OpenList:
    """A list whose end has not been read yet."""

    spot: Spot
    children: dict[Step, Spot]
    data: list[Any] = field(default_factory=list)

    def add(self, value: Any, spot: Spot) -> None:
        self.children[len(self.data)] = spot
        self.data.append(value)

    def step(self) -> list[str]:
        return [str(len(self.data))]


class _Builder:
    """Takes the parser's events one by one; ``data`` and ``spot`` are the result."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data: Any = None
        self.spot: Spot | None = None
        self.problems: list[Problem] = []
        self._open: list[_OpenMapping | _OpenList] = []

    def feed(self, event: Any) -> None:
        """Take one event."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._start(event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._close()
        elif kind is yaml.AliasEvent:
            self._complain(event, f"alias *{event.anchor} is not supported", "write the value out")
            self._add("" if self._wants_key() else None, _spot(event))
        elif kind is yaml.DocumentStartEvent and self.spot is not None:
            self._complain(event, "a second document starts here", "keep one document per file")
            raise DocumentError(self.problems)

    def _wants_key(self) -> bool:
        top = self._open[-1] if self._open else None
        return isinstance(top, _OpenMapping) and top.key is None

    def _scalar(self, event: Any) -> None:
        self._refuse_decoration(event)
        value = event.value
        if event.implicit[0] and not self._wants_key():
            try:
                value = resolve(value)
            except ValueError as error:
                self._complain(event, str(error))
        elif value == "<<" and event.implicit[0]:
            self._complain(event, "merge keys are not supported", "write the fields out")
        self._add(value, _spot(event))

    def _start(self, event: Any) -> None:
        self._refuse_decoration(event)
        if self._wants_key() or len(self._open) >= DEEPEST:
            text = "a key must be plain text" if self._wants_key() else f"nested deeper than {DEEPEST} levels"
            self._complain(event, text)
            raise DocumentError(self.problems)
        spot, children = _spot(event), dict[Step, Spot]()
        spot.children = children
        is_mapping = type(event) is yaml.MappingStartEvent
        self._open.append(_OpenMapping(spot, children) if is_mapping else _OpenList(spot, children))

    def _close(self) -> None:
        closed = self._open.pop()
        self._add(closed.data, closed.spot)

    def _add(self, value: Any, spot: Spot) -> None:
        """Put a finished value, or a key, where it belongs."""
        top = self._open[-1] if self._open else None
        if top is None:
            self.data, self.spot = value, spot
        elif isinstance(top, _OpenMapping) and top.key is None:
            top.key = value
            if value in top.spot.keys:
                hint = f"it is first given on line {top.spot.keys[value][0]}"
                self._complain(spot, f"duplicate key {value!r}", hint)
            else:
                top.spot.keys[value] = (spot.line, spot.column)
        else:
            top.add(value, spot)

    def _refuse_decoration(self, event: Any) -> None:
        if event.anchor is not None:
            self._complain(event, f"anchor &{event.anchor} is not supported", "remove it")
        if event.tag is not None and event.tag != "!":
            self._complain(event, f"tag {event.tag} is not supported", "remove it")

    def _complain(self, culprit: Any, text: str, hint: str = "") -> None:
        place = culprit if isinstance(culprit, Spot) else _spot(culprit)
        where = ".".join(step for container in self._open for step in container.step())
        self.problems.append(Problem(self.name, place.line, place.column, where, text, hint))
        if len(self.problems) >= _MOST_PROBLEMS:
            raise DocumentError(self.problems)


def _spot(event: Any) -> Spot:
    mark = event.start_mark
    return Spot(mark.line + 1, mark.column + 1)


def read_tree(text: str, name: str) -> tuple[Any, Spot]:
    """Return the data of a YAML text and the place of every value in it.

    Parameters
    ----------
    text
        The document.
    name
        File name for messages.

    Raises
    ------
    DocumentError
        If the text is not YAML, is empty, or uses what is refused here; lists everything found.
    """
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_syntax_problem(error, text, name))
    except (yaml.reader.ReaderError, UnicodeEncodeError):
        builder.problems.append(_character_problem(text, name))
    if builder.problems:
        raise DocumentError(builder.problems)
    if builder.spot is None:
        hint = 'start with "schema: KIND/VERSION"'
        raise DocumentError([Problem(name, 0, 0, "", "the document is empty", hint)])
    return builder.data, builder.spot


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    lines = text.splitlines()
    culprit = lines[line - 1] if 0 < line <= len(lines) else ""
    hint = "indent with spaces, not tabs" if "\t" in culprit else ""
    return Problem(name, line, column, "", f"not valid YAML: {error.problem or error.context}", hint)


def _character_problem(document: str, name: str) -> Problem:
    """Return the problem of the first character that YAML does not allow."""
    for number, line in enumerate(document.split("\n"), start=1):
        for column, character in enumerate(line, start=1):
            if yaml.reader.Reader.NON_PRINTABLE.match(character):
                text = f"character {character!r} is not allowed"
                return Problem(name, number, column, "", text, "remove it")
    return Problem(name, 0, 0, "", "holds a character that is not allowed")
