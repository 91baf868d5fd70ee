"""One family of errors: a name to catch, a place to look, a way out, and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most like ``name``, or None when nothing is close enough to suggest."""
    by_folded: dict[str, str] = {}
    for choice in choices:
        if choice != name:
            by_folded.setdefault(choice.casefold(), choice)
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


class PlannerError(Exception):
    """Anything wrong that a person can mend; the command line prints it and exits with ``exit_code``."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a document: where it is, what it is, and what would mend it.

    Attributes
    ----------
    path
        File name as the user gave it.
    line, column
        Position in the file, counted from 1; 0 when the problem concerns the whole file.
    where
        Dotted path inside the document, such as ``links.1.bandwidth``; empty for the whole document.
    text
        What is wrong.
    hint
        What to do about it; empty when there is nothing to add.
    """

    path: str
    line: int
    column: int
    where: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}: {where}{self.text}{hint}"


class DocumentError(PlannerError):
    """A document cannot be used; ``problems`` lists everything wrong with it, in order of position."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownVersionError(DocumentError):
    """A document was written for a version of its schema that this program does not know."""


class UnitError(PlannerError, ValueError):
    """A quantity has no unit, the wrong unit, or a value that no quantity can have."""


class TopologyError(PlannerError):
    """A machine or cluster description contradicts itself."""


class WorkloadError(PlannerError):
    """A workload description contradicts itself."""


class CalibrationError(PlannerError):
    """Measured coefficients are missing, unusable, or belong to another device."""


class PlanError(PlannerError):
    """A plan breaks a rule of its problem."""


class StudyError(PlannerError):
    """Raised when a what-if study names something that its inputs do not have."""


class SimulationError(PlannerError):
    """A simulation cannot be run as described."""


class OutputExistsError(PlannerError):
    """The place for the results is taken."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        super().__init__(f"{path} already exists; use --force to replace it, or choose another place")


class DigestMismatchError(PlannerError):
    """An input is not the one that a plan was made from."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        self.what, self.expected, self.found = what, expected, found
        super().__init__(
            f"the {what} has changed since the plan was made (expected {expected[:19]}, found {found[:19]}); "
            "solve again, or pass --force to look at the plan as it is"
        )


class InfeasibleError(PlannerError):
    """No plan can exist.

    Attributes
    ----------
    conflicts
        A smallest set of constraints that cannot hold together.
    remedy
        The nearest change that would fit; empty when none is known.
    """

    exit_code = 3

    def __init__(self, text: str, conflicts: Iterable[str] = (), remedy: str = "") -> None:
        self.conflicts, self.remedy = tuple(conflicts), remedy
        parts = [text]
        if self.conflicts:
            parts.append("in conflict: " + ", ".join(self.conflicts))
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))


class NoPlanError(PlannerError):
    """The budget ended before any plan was found.

    Attributes
    ----------
    bound
        The best proven bound on the objective, in its unit; None when there is none.
    """

    exit_code = 4

    def __init__(self, text: str, bound: float | None = None) -> None:
        self.bound = bound
        super().__init__(text)


class GateError(PlannerError):
    """A gate failed: a plan, a simulation, a calibration or a live metric is out of its limits."""

    exit_code = 5
