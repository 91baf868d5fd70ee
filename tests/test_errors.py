from __future__ import annotations

import pytest

from planner import errors
from planner.errors import DocumentError, PlannerError, Problem, nearest


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlannerError("x"), 1),
        (errors.DocumentError([]), 1),
        (errors.UnknownVersionError([]), 1),
        (errors.UnitError("x"), 1),
        (errors.TopologyError("x"), 1),
        (errors.WorkloadError("x"), 1),
        (errors.CalibrationError("x"), 1),
        (errors.PlanError("x"), 1),
        (errors.SimulationError("x"), 1),
        (errors.OutputExistsError("out"), 1),
        (errors.DigestMismatchError("topology", "sha256:a", "sha256:b"), 1),
        (errors.InfeasibleError("x"), 3),
        (errors.NoPlanError("x"), 4),
        (errors.GateError("x"), 5),
    ],
)
def test_every_error_is_caught_by_its_family_and_has_its_exit_code(error: PlannerError, code: int) -> None:
    """The command line needs to catch one class only, and reads the exit code from it."""
    assert isinstance(error, PlannerError)
    assert error.exit_code == code


def test_a_problem_prints_as_one_line_that_editors_can_follow() -> None:
    """The line starts with file:line:column and ends with the way out."""
    problem = Problem("rack.yaml", 5, 3, "links.1.bandwith", "unknown field", "did you mean 'bandwidth'?")
    assert str(problem) == "rack.yaml:5:3: links.1.bandwith: unknown field; did you mean 'bandwidth'?"


def test_a_problem_of_the_whole_file_has_no_position() -> None:
    """Line 0 stands for no line and is not printed."""
    assert str(Problem("rack.yaml", 0, 0, "", "the document is empty")) == "rack.yaml: the document is empty"


def test_a_document_error_lists_all_its_problems() -> None:
    """Each problem is one line of the text and one entry of the list."""
    problems = [Problem("a.yaml", 1, 1, "x", "wrong"), Problem("a.yaml", 2, 1, "y", "wrong too")]
    error = DocumentError(problems)
    assert error.problems == problems
    assert str(error).splitlines() == ["a.yaml:1:1: x: wrong", "a.yaml:2:1: y: wrong too"]


def test_infeasible_names_the_conflict_and_the_remedy() -> None:
    """Both are attributes for programs and words for people."""
    error = errors.InfeasibleError("no plan can exist", ("memory of gpu0", "tp = 1"), "raise tp to 2")
    assert error.conflicts == ("memory of gpu0", "tp = 1")
    assert error.remedy == "raise tp to 2"
    assert str(error) == "no plan can exist; in conflict: memory of gpu0, tp = 1; raise tp to 2"


def test_no_plan_carries_the_proven_bound() -> None:
    """A bound is kept when there is one."""
    assert errors.NoPlanError("out of time", bound=1.5).bound == 1.5
    assert errors.NoPlanError("out of time").bound is None


def test_existing_output_and_changed_inputs_say_what_to_do() -> None:
    """The way out is in the message."""
    assert "--force" in str(errors.OutputExistsError("out"))
    text = str(errors.DigestMismatchError("topology", "sha256:a", "sha256:b"))
    assert "sha256:a" in text
    assert "solve again" in text


@pytest.mark.parametrize(
    ("name", "choices", "expected"),
    [
        ("bandwith", ["bandwidth", "latency"], "bandwidth"),
        ("Latency", ["bandwidth", "latency"], "latency"),
        ("zzz", ["bandwidth", "latency"], None),
        ("x", [], None),
        ("latency", ["latency"], None),
    ],
)
def test_nearest_suggests_only_what_is_close(name: str, choices: list[str], expected: str | None) -> None:
    """A suggestion differs from the name, ignores case, and is not far-fetched."""
    assert nearest(name, choices) == expected
