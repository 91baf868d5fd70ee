"""The reference of documents names every field, and the unit of every quantity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from planner.schema import Document, json_schema
from planner.study.schemas import KINDS
from tools.document_reference import Page, meanings, write_reference


def fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every field of a document and of its parts that are no figures."""
    parts = {name: part for name, part in schema.get("$defs", {}).items() if not name.endswith("Figure")}
    for part in (schema, *parts.values()):
        yield from part.get("properties", {}).items()


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_listed_with_its_unit(kind: type[Document]) -> None:
    """No field of the models is left out, and a quantity has its SI unit in the row."""
    schema = json_schema(kind)
    text = Page(schema).markdown(kind.header())
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert sorted(row[0].strip("| `") for row in rows) == sorted(name for name, _ in fields(schema))
    units = {(row[0].strip("| `"), row[2].strip()) for row in rows}
    for name, field in fields(schema):
        if field.get("x-unit", "1") != "1":
            assert (name, field["x-unit"]) in units


def test_meanings_come_from_the_docstring() -> None:
    """Attributes of numpydoc are read, several under one text each."""
    head, said = meanings("A thing.\n\nAttributes\n----------\na, b\n    Both\n    of them.\nc\n    It.\n")
    assert (head, said) == ("A thing.", {"a": "Both of them.", "b": "Both of them.", "c": "It."})


def test_pages_of_kinds_that_are_gone_go_too(tmp_path: Path) -> None:
    """A second call leaves the pages alone and removes what no model is behind."""
    made = write_reference(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in made}
    (tmp_path / "gone.md").write_text("x", encoding="utf-8")
    assert write_reference(tmp_path) == made
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.md")} == before
