"""Document ``verification/1``: what a plan predicts beside what was measured, item by item."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from planner.schema import Document, Name, Record, Seconds

TOLERANCE = 0.2
"""Median error up to which predictions hold where nobody says."""


class Verified(Record):
    """One item of a plan.

    Attributes
    ----------
    pace
        How many times longer works of the host took than when the calibration was measured, which the error
        takes off; see :mod:`planner.calibrate.run.pace`.
    spread
        Median absolute deviation of the repetitions over their median.
    extrapolated
        Sizes that lie outside what the calibration was measured with.
    note
        How far what ran is less than the plan: layers that were left out, another data type.
    """

    item: str
    kind: str
    predicted: Seconds
    measured: Seconds
    pace: float = Field(default=1.0, gt=0)
    spread: float = Field(ge=0)
    samples: int = Field(ge=1)
    extrapolated: list[str] = Field(default_factory=list)
    note: str = ""

    @property
    def error(self) -> float:
        """Predicted over measured at the calibration's pace, less 1: positive where the run is quicker."""
        return self.predicted * self.pace / self.measured - 1.0


class Unverified(Record):
    """Part of a plan that was not run, and why."""

    item: str
    reason: str


class Verification(Document):
    """Document ``verification/1``.

    Attributes
    ----------
    plan, topology
        Digests of the plan and of its machine.
    processes
        Ranks that took part.
    seconds
        Time that it took, s.
    """

    kind: ClassVar[str] = "verification"
    version: ClassVar[int] = 1
    name: Name
    plan: str
    topology: str
    calibration: str
    device: str
    product: str = ""
    host: str = ""
    driver: str = ""
    date: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    processes: int = Field(default=1, ge=1)
    seconds: float = 0.0
    tolerance: float = Field(default=TOLERANCE, gt=0)
    rows: list[Verified] = Field(default_factory=list)
    unverified: list[Unverified] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @property
    def median_error(self) -> float | None:
        """Median of the errors' sizes, ``None`` where nothing was measured."""
        return float(np.median([abs(row.error) for row in self.rows])) if self.rows else None

    @property
    def verdict(self) -> Literal["holds", "off", "nothing measured"]:
        """Whether the median error is within the tolerance."""
        error = self.median_error
        if error is None:
            return "nothing measured"
        return "holds" if error <= self.tolerance else "off"
