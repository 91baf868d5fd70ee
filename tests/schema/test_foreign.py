"""Documents of other programs: plain data within bounds, with lines."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import DocumentError, PlannerError
from planner.schema.foreign import read_foreign_json, read_foreign_yaml


def test_scalars_stay_the_text_that_was_written() -> None:
    """Names that YAML would turn into numbers and booleans keep their spelling; nulls are None."""
    found = read_foreign_yaml("a: no\nb: 0012\nc: 1e3\nd: null\ne: 'null'\nf:\n", "x.yaml").data
    assert found == {"a": "no", "b": "0012", "c": "1e3", "d": None, "e": "null", "f": None}


def test_every_value_knows_its_line() -> None:
    """The line of a value is found by the steps to it; unknown steps give that of what is around them."""
    document = read_foreign_yaml("switches:\n- name: one\n- name: two\n", "x.yaml")
    assert document.line("switches", 1, "name") == 3
    assert document.line("switches", 7) == document.line("switches") == 2


def test_anchors_share_values() -> None:
    """An alias stands for the value of its anchor."""
    assert read_foreign_yaml("a: &x [1, 2]\nb: *x\n", "x.yaml").data == {"a": ["1", "2"], "b": ["1", "2"]}


def test_expansion_bombs_are_refused() -> None:
    """Aliases count as what they stand for, so that nested ones cannot exhaust the machine."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="larger or deeper"):
        read_foreign_yaml("\n".join(lines), "bomb.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "x.yaml:2:1: duplicate key"),
        ("a: [1\n", "not valid YAML"),
        ("", "empty"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("a: !other x\n", "tag"),
        ("a: *b\n", "stands for nothing"),
        ("<<: {a: 1}\n", "merge keys"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("[" * 100 + "]" * 100, "nested deeper"),
        ("? [a]\n: b\n", "plain text"),
        ("a: \x07\n", "character"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    """What could hide a mistake, or run code, is refused with its place."""
    with pytest.raises(DocumentError, match=message):
        read_foreign_yaml(text, "x.yaml")


def test_json_keeps_numbers_and_refuses_double_keys() -> None:
    """JSON is read with its types; double keys and deep nesting are refused."""
    assert read_foreign_json('\ufeff{"a": [1, 2.5, true, null]}', "x.json") == {"a": [1, 2.5, True, None]}
    for text in ('{"a": 1, "a": 2}', "{", "[" * 100_000, "9" * 5000):
        with pytest.raises(DocumentError):
            read_foreign_json(text, "x.json")


@given(st.text(st.sampled_from("ab:[]{}&*-?!<>|#\n \t'\"0\x00\u2028"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but the typed error."""
    for read in (read_foreign_yaml, read_foreign_json):
        with contextlib.suppress(PlannerError):
            read(text, "x")
