"""Loading documents: read with positions, bring up to date, validate strictly, report everything at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from planner.errors import DocumentError, Problem, UnknownVersionError, nearest
from planner.schema.files import read_text as read_text
from planner.schema.migrations import can_migrate, migrate
from planner.schema.problems import position, problems_of
from planner.schema.quantities import BARE_NUMBERS
from planner.schema.records import DOCUMENT_CONTEXT, Document
from planner.schema.tree import Spot, read_tree

D = TypeVar("D", bound=Document)

ALLOWANCES = frozenset({BARE_NUMBERS})
_HEADER = re.compile(r"([a-z][a-z0-9_-]*)/([1-9][0-9]{0,5})")


def load(path: str | Path, kind: type[D], *, allow: Collection[str] = ()) -> D:
    """Return the document in a file.

    Parameters
    ----------
    path
        A YAML (or JSON) file.
    kind
        The model of the document that is expected.
    allow
        What is tolerated besides: ``"bare_numbers"`` takes numbers without a unit as SI, for documents that
        other programs wrote.

    Raises
    ------
    DocumentError
        If the file cannot be read or anything in it is wrong; lists every problem with its position.
    UnknownVersionError
        If the document is of a version that this program does not know.
    """
    return loads(read_text(path), kind, str(path), allow=allow)


def loads(text: str, kind: type[D], name: str = "<text>", *, allow: Collection[str] = ()) -> D:
    """Return the document in a text; ``name`` stands for the file in messages. See `load`."""
    source = _Source.read(text, name, expected=kind.header())
    if source.kind != kind.kind:
        raise source.wrong_kind([kind.kind])
    return _validate(source, kind, allow)


def load_any(
    path: str | Path, kinds: Mapping[str, type[Document]], *, allow: Collection[str] = ()
) -> Document:
    """Return the document in a file whose header names one of ``kinds``. See `load`."""
    expected = " or ".join(kind.header() for kind in kinds.values())
    source = _Source.read(read_text(path), str(path), expected)
    if source.kind not in kinds:
        raise source.wrong_kind(list(kinds))
    return _validate(source, kinds[source.kind], allow)


@dataclass(frozen=True)
class _Source:
    """A document that has been read but not yet validated."""

    name: str
    data: dict[str, Any]
    spot: Spot
    kind: str
    version: int

    @classmethod
    def read(cls, text: str, name: str, expected: str) -> _Source:
        """Read a text up to its header."""
        data, spot = read_tree(text.removeprefix("\ufeff"), name)
        line, column = position(spot, ("schema",))
        hint = f'start with "schema: {expected}"'
        if not isinstance(data, dict):
            raise DocumentError([Problem(name, line, column, "", "the document must be a mapping", hint)])
        if "schema" not in data:
            raise DocumentError([Problem(name, line, column, "schema", "missing field", hint)])
        header = data["schema"]
        match = _HEADER.fullmatch(header) if isinstance(header, str) else None
        if match is None:
            text = "must be of the form KIND/VERSION"
            raise DocumentError([Problem(name, line, column, "schema", text, f"expected {expected}")])
        return cls(name, data, spot, match[1], int(match[2]))

    def at_header(self, text: str, hint: str) -> Problem:
        """Return a problem of the header."""
        return Problem(self.name, *position(self.spot, ("schema",)), "schema", text, hint)

    def wrong_kind(self, known: list[str]) -> DocumentError:
        """Return the error of a document of another kind than ``known``."""
        close = nearest(self.kind, known)
        text = f"this is a {self.kind!r} document, but {' or '.join(map(repr, known))} is expected"
        return DocumentError([self.at_header(text, f"did you mean {close!r}?" if close else "")])


def _validate(source: _Source, kind: type[D], allow: Collection[str]) -> D:
    if unknown := set(allow) - ALLOWANCES:
        raise ValueError(f"unknown allowance {sorted(unknown)}; known: {sorted(ALLOWANCES)}")
    data = _up_to_date(source, kind)
    context = DOCUMENT_CONTEXT | dict.fromkeys(allow, True)
    try:
        return kind.model_validate(data, context=context, by_alias=True, by_name=False)
    except ValidationError as error:
        raise DocumentError(problems_of(error, kind, source.spot, source.name)) from error


def _up_to_date(source: _Source, kind: type[Document]) -> dict[str, Any]:
    """Return the data in the form of the current version."""
    if source.version == kind.version:
        return source.data
    if source.version > kind.version:
        text = f"version {source.version} of {kind.kind} is newer than this program knows"
        hint = f"it reads up to {kind.header()}; install a newer release"
        raise UnknownVersionError([source.at_header(text, hint)])
    if not can_migrate(kind.kind, source.version, kind.version):
        text = f"version {source.version} of {kind.kind} can no longer be read"
        raise UnknownVersionError([source.at_header(text, f"write {kind.header()}")])
    return migrate(source.data, kind.kind, source.version, kind.version)
