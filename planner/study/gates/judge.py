"""The verdict of every check."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from planner.errors import GateError
from planner.study.gates.checks import Check, Gates
from planner.study.gates.evidence import Evidence
from planner.study.gates.metrics import METRICS, Reading, drift
from planner.study.gates.prometheus import Prometheus
from planner.units import show

State = Literal["passed", "failed", "missing", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """What one check found.

    Attributes
    ----------
    value, limit
        In SI units; ``None`` where there is none.
    text
        The figure, its limit and the reason, for a person.
    """

    name: str
    state: State
    value: float | None
    limit: float | None
    text: str

    @property
    def ok(self) -> bool:
        """Whether the gate may open as far as this check goes."""
        return self.state in ("passed", "skipped")


@dataclass(frozen=True)
class Verdict:
    """All outcomes, in the order of the checks."""

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(one.ok for one in self.outcomes)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """Checks that keep the gate closed."""
        return tuple(one for one in self.outcomes if not one.ok)


def judge(
    gates: Gates, evidence: Evidence, baseline: Evidence | None = None, server: Prometheus | None = None
) -> Verdict:
    """Return the verdict of all checks.

    A figure is compared with a baseline only where both plans are for the same machine: two machines differ
    for reasons that no roll-out is to blame for.
    """
    outcomes = [_mismatch(text) for text in evidence.mismatches()]
    comparable = True
    if baseline is not None and None not in (evidence.machine, baseline.machine):
        comparable = evidence.machine == baseline.machine
        if not comparable:
            outcomes.append(_mismatch("the baseline's plan is for another machine: their topologies differ"))
    for check in gates.checks:
        reference = baseline if comparable else None
        outcomes.append(_checked(check, gates.confidence, evidence, reference, server))
    return Verdict(gates.name, tuple(outcomes))


def _mismatch(text: str) -> Outcome:
    return Outcome("comparable", "failed", None, None, text)


def _checked(
    check: Check, confidence: float, evidence: Evidence, baseline: Evidence | None, server: Prometheus | None
) -> Outcome:
    readings = _readings(check, evidence, baseline, server)
    if not readings:
        state: State = "missing" if check.missing == "fail" else "skipped"
        return Outcome(check.name, state, None, None, f"{check.metric or check.query}: no such figure")
    breaches = [*_limits(check, readings)]
    tolerance = check.tolerance()
    if tolerance is not None and check.metric is not None:
        before = [] if baseline is None else baseline.readings(check.metric, check.job)
        if not before:
            state = "missing" if check.missing == "fail" else "skipped"
            return Outcome(
                check.name, state, _worst(check, readings).value, None, "the baseline lacks the figure"
            )
        breaches += _regressions(check, readings, before, tolerance, confidence)
    if breaches:
        value, limit, text = breaches[0]
        return Outcome(check.name, "failed", value, limit, text)
    worst = _worst(check, readings)
    return Outcome(
        check.name, "passed", worst.value, _limit(check), f"{_shown(check, worst.value)}{_of(worst)}"
    )


def _readings(
    check: Check, evidence: Evidence, baseline: Evidence | None, server: Prometheus | None
) -> list[Reading]:
    if check.query is not None:
        if server is None:
            raise GateError(f"check {check.name!r} asks a server; give its address with --prometheus")
        return [Reading(value) for value in server.query(check.query)]
    if check.metric == "calibration.drift":
        pair = [one.documents.get("calibration") if one else None for one in (evidence, baseline)]
        found = drift(pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None
        return [] if found is None else [found]
    return evidence.readings(check.metric or "", check.job)


def _upwards(check: Check) -> bool:
    if check.metric is not None:
        return METRICS[check.metric].worse == "up"
    return check.max is not None


def _worst(check: Check, readings: Sequence[Reading]) -> Reading:
    pick = max if _upwards(check) else min
    return pick(readings, key=lambda one: one.value)


def _limit(check: Check) -> float | None:
    high, low = check.limit(check.max), check.limit(check.min)
    return high if high is not None else low


def _limits(check: Check, readings: Sequence[Reading]) -> Iterator[tuple[float, float, str]]:
    high, low = check.limit(check.max), check.limit(check.min)
    for one in readings:
        if high is not None and one.value > high:
            yield one.value, high, f"{_shown(check, one.value)}{_of(one)} is above {_shown(check, high)}"
        if low is not None and one.value < low:
            yield one.value, low, f"{_shown(check, one.value)}{_of(one)} is below {_shown(check, low)}"


def _regressions(
    check: Check, after: Sequence[Reading], before: Sequence[Reading], tolerance: float, confidence: float
) -> Iterator[tuple[float, float, str]]:
    """Yield the figures that are worse than the tolerance beyond what their scatter explains.

    One-sided test of the difference of two normal estimates with known standard errors.
    """
    sign = 1.0 if _upwards(check) else -1.0
    quantile = NormalDist().inv_cdf(confidence)
    known = {one.job: one for one in before}
    for one in after:
        old = known.get(one.job)
        if old is None:
            continue
        allowed = old.value * (1.0 + sign * tolerance)
        error = math.hypot(one.deviation, old.deviation * (1.0 + sign * tolerance))
        if sign * (one.value - allowed) > quantile * error and one.value != allowed:
            change = one.value / old.value - 1.0 if old.value else math.inf
            text = (
                f"{_shown(check, one.value)}{_of(one)} against {_shown(check, old.value)} before: "
                f"{change:+.1%}, allowed {sign * tolerance:+.1%} at {confidence:.1%} confidence"
            )
            yield one.value, allowed, text


def _shown(check: Check, value: float) -> str:
    if check.dimension == "1":
        return f"{value:.4g}"
    return show(value, check.dimension)


def _of(reading: Reading) -> str:
    return f" ({reading.job})" if reading.job else ""
