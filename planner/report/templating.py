"""Templates of the HTML pages: everything that is no markup yet is escaped, and what XML forbids replaced."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from planner.report.summary import Table
from planner.report.svg import clean

_LONG_CELL = 40


def template(name: str) -> Template:
    """Return a template of ``templates/`` by its file name."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("planner.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: clean(value) if type(value) is str else value,
    )  # fmt: skip
    environment.tests["wordy"] = wordy
    return environment


def wordy(table: Table) -> bool:
    """Whether a table has sentences in its cells, so that a narrow screen shows its rows as cards."""
    return len(table.columns) > 2 and any(len(cell) > _LONG_CELL for row in table.rows for cell in row)
