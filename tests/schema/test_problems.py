from __future__ import annotations

from planner.schema.problems import position, written
from planner.schema.tree import read_tree


def test_positions_fall_back_to_what_is_around() -> None:
    """A place that the document does not have is looked for in its parent."""
    _, spot = read_tree("a:\n  b: 1\n  c: [x, y]\n", "f")
    assert position(spot, ("a", "b")) == (2, 6)
    assert position(spot, ("a", "b"), at_key=True) == (2, 3)
    assert position(spot, ("a", "c", 1)) == (3, 10)
    assert position(spot, ("a", "c", 7)) == (3, 6)
    assert position(spot, ("a", "missing")) == (2, 3)
    assert position(spot, ("z",)) == (1, 1)


def test_numbers_as_keys_are_found() -> None:
    """A table by batch size has text keys in the document and whole numbers in Python."""
    _, spot = read_tree("{8: x}", "f")
    assert position(spot, (8,)) == (1, 5)


def test_steps_into_a_scalar_are_not_written() -> None:
    """A text may stand for a whole record, whose fields the document then does not have."""
    _, spot = read_tree("a: 5 GB\nb: {}\n", "f")
    assert written(spot, ("a", "value")) == ("a",)
    assert written(spot, ("b", "value")) == ("b", "value")
    assert written(spot, ("a",)) == ("a",)
