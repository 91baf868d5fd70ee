"""Mistakes that show only beside other documents."""

from pathlib import Path

import pytest

from planner.errors import DocumentError
from planner.schema import Fault
from planner.schema.locate import raise_faults

TEXT = """\
schema: x/1
parts:
- {name: a}
- name: b
"""


def test_no_faults_raise_nothing(tmp_path: Path) -> None:
    """A document without mistakes is not even read again."""
    raise_faults(tmp_path / "absent.yaml", [])


def test_faults_are_one_error_in_order_of_position(tmp_path: Path) -> None:
    """Each fault gets the line and column of its value, doubled ones count once, in order."""
    path = tmp_path / "x.yaml"
    path.write_text(TEXT)
    late, early = Fault(("parts", 1, "name"), "unknown b", "try a"), Fault(("parts", 0, "name"), "unknown a")
    with pytest.raises(DocumentError) as caught:
        raise_faults(path, [late, early, late])
    assert str(caught.value).splitlines() == [
        f"{path}:3:10: parts.0.name: unknown a",
        f"{path}:4:9: parts.1.name: unknown b; try a",
    ]


def test_a_fault_at_an_absent_field_points_at_what_should_hold_it(tmp_path: Path) -> None:
    """The nearest value around the place is where a person has to look."""
    path = tmp_path / "x.yaml"
    path.write_text(TEXT)
    with pytest.raises(DocumentError) as caught:
        raise_faults(path, [Fault(("parts", 1, "size"), "missing")])
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.where) == (4, 3, "parts.1.size")
