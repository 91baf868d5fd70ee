from __future__ import annotations

import pytest

from planner.schema.wording import describe, either, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "empty"), (True, "true"), ({}, "a mapping"), ([], "a list"), ("x", "'x'"), (1.5, "1.5")],
)
def test_values_are_named_as_a_document_writes_them(value: object, text: str) -> None:
    """Python's own spelling stays inside."""
    assert shown(value) == text


def test_long_values_are_shortened() -> None:
    """A message stays a line."""
    assert len(shown("x" * 1000)) == 80


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["must be text, not 5", "must be a list, not 5"], "must be text or a list, not 5"),
        (["must be text, not 5", "must be text, not 5"], "must be text, not 5"),
        (["number 5 has no unit", "must be 'auto', not 5"], "number 5 has no unit, or must be 'auto', not 5"),
    ],
)
def test_complaints_of_several_forms_become_one(texts: list[str], text: str) -> None:
    """What they share is said once."""
    assert either(texts) == text


def test_an_unusual_complaint_keeps_its_message() -> None:
    """What is not translated is still told."""
    assert describe("odd", 5, {}, "Something odd") == ("Something odd", "")
    assert describe("multiple_of", 5, {}, "Input should be a multiple of 2") == (
        "must be a multiple of 2, not 5",
        "",
    )
