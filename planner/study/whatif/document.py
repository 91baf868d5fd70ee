"""Documents of kind ``study/1``: base inputs, the parameters to vary, how they combine, what to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from planner.schema import Document, Name, Record, Seconds, load
from planner.study.whatif.paths import split_quantity

Scalar = str | int | float | bool
RESERVED = frozenset({"status", "decision", "message"})
"""Columns of a result beside parameters and metrics."""
Value = Scalar | list[Scalar] | list[list[Scalar]]


class Range(Record):
    """Evenly spaced values, both ends included.

    Attributes
    ----------
    start, stop
        Numbers, or quantities of one unit (``50 GB/s``).
    steps
        Number of values.
    scale
        ``linear``, or ``log`` for a constant ratio.
    """

    start: str | float
    stop: str | float
    steps: int = Field(ge=2, le=10_000)
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _one_unit(self) -> Range:
        (low, first), (high, last) = split_quantity(self.start), split_quantity(self.stop)
        if first != last:
            raise ValueError(
                f"'start' is in {first or 'no unit'!r} and 'stop' in {last or 'no unit'!r}: use one"
            )
        if self.scale == "log" and min(low, high) <= 0:
            raise ValueError("a logarithmic range needs ends above zero")
        return self

    def values(self) -> list[Scalar]:
        """Return the values in the notation of the ends."""
        (low, unit), (high, _) = split_quantity(self.start), split_quantity(self.stop)
        spaced = (
            np.linspace(low, high, self.steps)
            if self.scale == "linear"
            else np.geomspace(low, high, self.steps)
        )
        numbers = [float(f"{value:.12g}") for value in spaced]
        return [f"{number:.12g} {unit}" for number in numbers] if unit else list(numbers)


class Parameter(Record):
    """One thing to vary.

    Attributes
    ----------
    parameter
        Dotted path: ``topology.machines[*].links[kind=nvlink].bandwidth``,
        ``workload.jobs[chat].traffic.rate``, ``topology.nodes[0].count``, ``topology.links_down``,
        ``topology.host``, or a whole input: ``topology``, ``workload``, ``calibration``.
    label
        Name in tables and figures; the path when absent.
    values, factors, range
        Exactly one: the values to set, factors of the value that stands in the document (a list, or a range
        of plain numbers), or a range of values.
    """

    parameter: str
    label: str | None = None
    values: list[Value] | None = Field(default=None, min_length=1)
    factors: Annotated[list[float], Field(min_length=1)] | Range | None = None
    range: Range | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Parameter:
        if sum(item is not None for item in (self.values, self.factors, self.range)) != 1:
            raise ValueError("give exactly one of 'values', 'factors' and 'range'")
        if isinstance(self.factors, Range) and split_quantity(self.factors.start)[1]:
            raise ValueError("factors are plain numbers, without a unit")
        return self

    @property
    def title(self) -> str:
        """Name in tables and figures."""
        return self.label or self.parameter

    def settings(self) -> list[Value]:
        """Return what the parameter takes on, in order; factors as text such as ``0.5 x``."""
        if self.factors is not None:
            factors = self.factors.values() if isinstance(self.factors, Range) else self.factors
            return [f"{float(factor):.12g} x" for factor in factors]
        return (
            list(self.values) if self.values is not None else list(self.range.values() if self.range else [])
        )


class Options(Record):
    """How each scenario is solved and simulated.

    Attributes
    ----------
    time_limit
        Time for the search, s.
    seed
        Seed of search and simulation, the same for every scenario so that they share random numbers.
    simulate
        Whether to simulate each plan.
    requests
        Requests that a simulation of a service draws.
    hold_limits
        Whether a service whose simulation breaks a limit is solved again without the strategy that broke it,
        as ``planner solve`` does, until the simulated limits hold; else the figures show what is broken.
    refine
        Halvings of each interval between neighbouring values at which the decision changes.
    """

    time_limit: Seconds = Field(default=30.0, gt=0)
    seed: int = Field(default=0, ge=0)
    simulate: bool = True
    requests: int = Field(default=2000, ge=1)
    hold_limits: bool = False
    refine: int = Field(default=0, ge=0, le=30)


class StudyDocument(Document):
    """Document ``study/1``."""

    kind: ClassVar[str] = "study"
    version: ClassVar[int] = 1
    name: Name
    description: str | None = None
    topology: str
    workload: str
    calibration: str = "default"
    vary: list[Parameter] = Field(min_length=1)
    combine: Literal["cross", "zip"] = "cross"
    options: Options = Field(default_factory=Options)
    metrics: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _sound(self) -> StudyDocument:
        titles = [parameter.title for parameter in self.vary]
        if len(set(titles)) < len(titles):
            raise ValueError("two parameters have the same label")
        taken = set(titles) & RESERVED
        if taken:
            raise ValueError(f"{min(taken)!r} is a column of every result; choose another label")
        lengths = {len(parameter.settings()) for parameter in self.vary}
        if self.combine == "zip" and len(lengths) > 1:
            raise ValueError(f"'zip' needs as many values for each parameter, not {sorted(lengths)}")
        return self


def load_whatif(path: Path) -> StudyDocument:
    """Return the study in a file.

    Raises
    ------
    DocumentError
        If the document is malformed.
    """
    return load(path, StudyDocument)
