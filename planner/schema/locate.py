"""Mistakes that show only beside other documents, reported at their place in the file like all others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from planner.errors import DocumentError, Problem
from planner.schema.loader import read_text
from planner.schema.problems import position
from planner.schema.records import Fault
from planner.schema.tree import read_tree


def raise_faults(path: str | Path, faults: Iterable[Fault]) -> None:
    """Raise one error for all faults of a document that loaded well by itself; do nothing without any.

    Parameters
    ----------
    path
        The file that the document came from.
    faults
        Mistakes such as names that refer to nothing, with their places in the document.

    Raises
    ------
    DocumentError
        If there is at least one fault; its problems are in order of position.
    """
    found = list(faults)
    if not found:
        return
    _, spot = read_tree(read_text(path).removeprefix("\ufeff"), str(path))
    problems = []
    for fault in found:
        line, column = position(spot, fault.loc)
        problems.append(
            Problem(str(path), line, column, ".".join(map(str, fault.loc)), fault.text, fault.hint)
        )
    raise DocumentError(sorted(dict.fromkeys(problems), key=lambda p: (p.line, p.column, p.where)))
