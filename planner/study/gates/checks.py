"""Document ``gates/1``: what is checked, against which limit, and how far it may fall behind a baseline."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from planner.errors import UnitError, nearest
from planner.schema import Document, Name, Record, Seconds
from planner.study.gates.canary import Canary
from planner.study.gates.live import LIVE, LiveMetric, Scope
from planner.study.gates.metrics import METRICS
from planner.units import parse


class Check(Record):
    """One figure and its limits.

    Attributes
    ----------
    metric
        A figure of a document, such as ``simulation.latency.p99``; see :data:`METRICS`.
    job
        Job that the figure belongs to; without it the worst of all jobs counts.
    query
        A PromQL expression instead of a metric; the worst sample of its answer counts.
    select
        Label matchers of PromQL, such as ``namespace="prod"``, for a live metric (``live.*``).
    max, min
        Limits, with their unit.
    worse_by
        How much worse than the baseline the figure may be, a ratio.
    missing
        What an absent figure means.
    """

    name: str = Field(min_length=1)
    metric: str | None = None
    job: Name | None = None
    query: str | None = None
    select: str | None = None
    max: str | float | None = None
    min: str | float | None = None
    worse_by: str | float | None = None
    missing: Literal["fail", "skip"] = "fail"

    @model_validator(mode="after")
    def _complete(self) -> Check:
        if (self.metric is None) == (self.query is None):
            raise ValueError("a check has either a 'metric' or a 'query'")
        if self.max is None and self.min is None and self.worse_by is None:
            raise ValueError("a check needs a limit: 'max', 'min' or 'worse_by'")
        known = (*METRICS, *LIVE)
        if self.metric is not None and self.metric not in known:
            close = nearest(self.metric, known)
            raise ValueError(
                f"no metric {self.metric!r}; " + (f"nearest is {close!r}" if close else ", ".join(known))
            )
        if self.live is None and self.select is not None:
            raise ValueError("'select' goes with a live metric; a query has its matchers in itself")
        if self.live is not None and self.job is not None:
            raise ValueError("a live metric has no 'job'; say with 'select' which series count")
        if self.query is not None and self.worse_by is not None:
            raise ValueError("a query has no baseline; write the comparison into the query, or use 'max'")
        for limit in (self.max, self.min):
            self.limit(limit)
        self.tolerance()
        return self

    @property
    def live(self) -> LiveMetric | None:
        """The live metric that the check names, if it does."""
        return LIVE.get(self.metric or "")

    @property
    def dimension(self) -> str:
        """Dimension of the figure."""
        if self.live is not None:
            return self.live.dimension
        return METRICS[self.metric].dimension if self.metric else "1"

    @property
    def upwards(self) -> bool:
        """Whether a larger figure is worse; of a query that has an upper limit."""
        if self.live is not None:
            return self.live.worse == "up"
        return METRICS[self.metric].worse == "up" if self.metric else self.max is not None

    def limit(self, value: str | float | None) -> float | None:
        """Return a limit in SI units.

        Raises
        ------
        ValueError
            If it is no quantity of the metric's dimension.
        """
        if value is None or (self.query is not None and not isinstance(value, str)):
            return value
        try:
            return parse(value, self.dimension)
        except UnitError as error:
            raise ValueError(str(error)) from None

    def tolerance(self) -> float | None:
        """Return how much worse than the baseline the figure may be, a ratio."""
        if self.worse_by is None:
            return None
        try:
            return parse(self.worse_by, "1")
        except UnitError as error:
            raise ValueError(str(error)) from None


class Gates(Document):
    """Document ``gates/1``.

    Attributes
    ----------
    confidence
        Confidence of comparisons with a baseline: a figure that merely scatters fails with one minus it.
    select, window
        Label matchers of every live metric, and the time that it looks back, s.
    canary
        Pods of a new version and of the one before it: live metrics are those of the new, with ``worse_by``
        compared with the old.
    """

    kind: ClassVar[str] = "gates"
    version: ClassVar[int] = 1
    name: Name
    description: str | None = None
    confidence: float = Field(default=0.975, gt=0.5, lt=1.0)
    select: str | None = None
    window: Seconds = 600.0
    canary: Canary | None = None
    checks: list[Check] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Gates:
        seen: set[str] = set()
        for check in self.checks:
            if check.name in seen:
                raise ValueError(f"two checks are called {check.name!r}")
            seen.add(check.name)
            if check.live is not None and check.worse_by is not None and self.canary is None:
                raise ValueError(f"check {check.name!r} compares live figures; say with what: 'canary'")
        return self

    def scope(self, check: Check, *, before: bool = False) -> Scope:
        """Return which series a live check looks at, those of the version before it if asked."""
        version = None if self.canary is None else self.canary.against if before else self.canary.pods
        matchers = tuple(one for one in (self.select, check.select, version) if one)
        return Scope(matchers, self.window)


TOLERANCE = 0.02
"""How much worse than the baseline a figure may be where nobody says: 2 %."""
TYPICAL_ERROR = 0.2
"""Largest median error of a verified plan where nobody says."""
DRIFT = 0.1
"""Largest change of a calibration against its baseline where nobody says: copies and kernels hold 10 %."""
GAP = 0.05
"""Largest optimality gap where nobody says."""


def default_gates(kinds: set[str], *, baseline: bool, live: bool = False) -> Gates:
    """Return the gates for the documents at hand where the user gives none.

    A plan: its gap, and room in memory. A simulation: the limits of its jobs. A verification: its median
    error. A server: no error on NVLink, no link missing. With a baseline: every figure of time and
    throughput no more than 2 % worse, no coefficient of a calibration changed by more than 10 %.
    """
    checks: list[dict[str, Any]] = []
    if "plan" in kinds:
        checks += [
            {"name": "optimality gap", "metric": "plan.gap", "max": GAP},
            {"name": "memory head room", "metric": "plan.memory_headroom", "min": 0},
        ]
    if "simulation" in kinds:
        checks.append(
            {"name": "simulated limits", "metric": "simulation.slo_missed", "max": 0, "missing": "skip"}
        )
    if "verification" in kinds:
        error = {"metric": "verification.median_error", "max": TYPICAL_ERROR}
        checks.append({"name": "prediction error", **error})
    if live:
        checks += [
            {"name": "NVLink errors", "metric": "live.nvlink.errors", "max": 0},
            {"name": "missing links", "metric": "live.links.missing", "max": 0},
        ]
    if baseline and "calibration" in kinds:
        checks.append({"name": "drift of the calibration", "metric": "calibration.drift", "max": DRIFT})
    if baseline:
        for name, metric in METRICS.items():
            if name.split(".")[0] in kinds and metric.compared:
                one = {"name": name, "metric": name, "worse_by": TOLERANCE, "missing": "skip"}
                checks.append(one)
    return Gates.model_validate({"schema": "gates/1", "name": "default", "checks": checks})
