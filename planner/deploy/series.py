"""What is watched, as data: series with who exports them, and the rules on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from planner.schema import Document, Record, load

_FIGURE = re.compile(r"\{([a-z0-9]+)\}")


class Series(Record):
    """A time series."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    exporter: Literal["dcgm", "agent", "server"]
    unit: str
    help: str
    source: str


class Rule(Record):
    """A recording rule or an alert, with places for the figures of a plan."""

    record: str = ""
    alert: str = ""
    expr: str
    uses: str
    wait: str = Field(default="", alias="for")
    severity: str = ""
    summary: str = ""
    needs: str

    def filled(self, figures: Mapping[str, str]) -> dict[str, object] | None:
        """Return the rule as Prometheus reads it, ``None`` where the plan lacks the figure that it needs."""
        if self.needs not in figures:
            return None

        def fill(text: str) -> str:
            return _FIGURE.sub(lambda match: figures.get(match[1], match[0]), text)

        if self.record:
            return {"record": self.record, "expr": fill(self.expr)}
        return {
            "alert": self.alert,
            "expr": fill(self.expr),
            **({"for": self.wait} if self.wait else {}),
            "labels": {"severity": self.severity, "plan": figures["job"]},
            "annotations": {"summary": fill(self.summary)},
        }


class SeriesTable(Document):
    """The whole table."""

    kind: ClassVar[str] = "series"
    version: ClassVar[int] = 1
    series: list[Series]
    rules: list[Rule]


@cache
def series_table() -> SeriesTable:
    """Return the table that comes with the program."""
    return load(Path(__file__).with_name("series.yaml"), SeriesTable)
