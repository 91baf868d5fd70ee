"""Documents of other programs: YAML and JSON read as plain data, within bounds, with the line of every value.

Unlike our own documents these may share parts through anchors. Every scalar stays the text that was written,
so that a switch named ``no`` or a node named ``0012`` keeps its name; only an empty one or a null is None.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from planner.errors import DocumentError, Problem
from planner.schema.tree import DEEPEST, Spot, Step

LARGEST_TEXT = 64 * 1024 * 1024
"""Bytes of the largest file of another program that is read as text."""
MOST_VALUES = 2_000_000
"""Values in one document, those shared by aliases counted wherever they are used."""
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class Foreign:
    """Plain data with the places of its values.

    Attributes
    ----------
    data
        Dicts with text keys, lists, text and None.
    """

    data: Any
    spot: Spot

    def line(self, *steps: Step) -> int:
        """Return the line of the value at ``steps``, or of the nearest value around it."""
        spot = self.spot
        for step in steps:
            inside = (spot.children or {}).get(step)
            if inside is None:
                break
            spot = inside
        return spot.line


def read_foreign_text(path: Path, refuse: Callable[[str], Exception]) -> str:
    """Return the text of a file that another program wrote: UTF-8, or UTF-16 with its mark.

    Raises
    ------
    Exception
        What ``refuse`` makes of the reason: there is no such file, it is too large, or it is no text.
    """
    if not path.is_file():
        raise refuse("no such file")
    if path.stat().st_size > LARGEST_TEXT:
        raise refuse(f"larger than {LARGEST_TEXT} bytes, as no such file is")
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise refuse(f"no text: {error.reason} at byte {error.start}") from None


def read_foreign_yaml(text: str, name: str) -> Foreign:
    """Return the data of a YAML text that another program wrote.

    Parameters
    ----------
    text
        One YAML document; JSON is one as well.
    name
        File name for messages.

    Raises
    ------
    DocumentError
        If the text is not YAML, is empty, gives a key twice, holds tags of a language, or is larger or deeper
        than any real document, aliases counted as what they stand for.
    """
    builder = _Builder(name)
    try:
        for event in yaml.parse(text.removeprefix("\ufeff"), Loader=yaml.CSafeLoader):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _error(name, line, column, f"not valid YAML: {error.problem or error.context}") from error
    except (yaml.reader.ReaderError, UnicodeEncodeError) as error:
        raise _error(name, 0, 0, "holds a character that is not allowed") from error
    if builder.root is None:
        raise _error(name, 0, 0, "the document is empty")
    return Foreign(builder.root.data, builder.root.spot)


def read_foreign_json(text: str, name: str) -> Any:
    """Return the data of a JSON text that another program wrote, with numbers and booleans as such.

    Raises
    ------
    DocumentError
        If the text is not JSON, gives a key twice, or nests deeper than any real document.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _error(name, 0, 0, f"duplicate key {twice!r}")
        return found

    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _error(name, error.lineno, error.colno, f"not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise _error(name, 0, 0, "nested too deep") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise _error(name, 0, 0, f"not valid JSON: {error}") from error


def _error(name: str, line: int, column: int, text: str) -> DocumentError:
    return DocumentError([Problem(name, line, column, "", text)])


@dataclass(slots=True)
class _Value:
    """A value that has been read, and how many values it stands for."""

    data: Any
    spot: Spot
    weight: int = 1
    depth: int = 1
    anchor: str | None = None
    key: str | None = None
    """Of an open mapping, the key that waits for its value."""
    awaits_key: bool = field(default=False)


class _Builder:
    """Takes the parser's events one by one; ``root`` is the result."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: _Value | None = None
        self._open: list[_Value] = []
        self._anchors: dict[str, _Value] = {}

    def feed(self, event: Any) -> None:
        """Take one event."""
        kind, line, column = type(event), event.start_mark.line + 1, event.start_mark.column + 1
        if kind is yaml.ScalarEvent:
            self._refuse_tag(event, line, column)
            text = None if event.implicit[0] and event.value in _NULLS else event.value
            self._finish(_Value(text, Spot(line, column), anchor=event.anchor))
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._start(event, line, column)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._finish(self._open.pop())
        elif kind is yaml.AliasEvent:
            known = self._anchors.get(event.anchor)
            if known is None:
                raise _error(self.name, line, column, f"alias *{event.anchor} stands for nothing before it")
            self._finish(_Value(known.data, known.spot, known.weight, known.depth))
        elif kind is yaml.DocumentStartEvent and self.root is not None:
            raise _error(self.name, line, column, "a second document starts here")

    def _start(self, event: Any, line: int, column: int) -> None:
        self._refuse_tag(event, line, column)
        if len(self._open) >= DEEPEST:
            raise _error(self.name, line, column, f"nested deeper than {DEEPEST} levels")
        if self._open and self._open[-1].awaits_key:
            raise _error(self.name, line, column, "a key must be plain text")
        mapping = type(event) is yaml.MappingStartEvent
        data: Any = {} if mapping else []
        spot = Spot(line, column, children={})
        self._open.append(_Value(data, spot, anchor=event.anchor, awaits_key=mapping))

    def _finish(self, value: _Value) -> None:
        """Put a finished value, or a key, where it belongs."""
        if value.anchor is not None:
            self._anchors[value.anchor] = value
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        top.weight += value.weight
        top.depth = max(top.depth, value.depth + 1)
        place = (value.spot.line, value.spot.column)
        if top.weight > MOST_VALUES or len(self._open) + value.depth > 2 * DEEPEST:
            raise _error(self.name, *place, "larger or deeper than any real document")
        children: dict[Step, Spot] = top.spot.children if top.spot.children is not None else {}
        if isinstance(top.data, list):
            children[len(top.data)] = value.spot
            top.data.append(value.data)
        elif top.awaits_key:
            self._take_key(top, value, place)
        elif top.key is not None:
            children[top.key] = value.spot
            top.data[top.key] = value.data
            top.awaits_key = True

    def _take_key(self, top: _Value, value: _Value, place: tuple[int, int]) -> None:
        if isinstance(value.data, dict | list):
            raise _error(self.name, *place, "a key must be plain text")
        top.key, top.awaits_key = value.data or "", False
        if top.key == "<<":
            raise _error(self.name, *place, "merge keys are not supported")
        if top.key in top.data:
            raise _error(self.name, *place, f"duplicate key {top.key!r}")

    def _refuse_tag(self, event: Any, line: int, column: int) -> None:
        tag = event.tag
        if tag is not None and tag != "!" and not tag.startswith("tag:yaml.org,2002:"):
            raise _error(self.name, line, column, f"tag {tag} is not supported")
        if tag is not None and tag.startswith("tag:yaml.org,2002:python"):
            raise _error(self.name, line, column, f"tag {tag} is not supported")
