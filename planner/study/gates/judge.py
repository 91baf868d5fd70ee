"""The verdict of every check."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from planner.errors import GateError
from planner.study.gates.canary import Canary
from planner.study.gates.checks import Check, Gates
from planner.study.gates.drift import drift
from planner.study.gates.evidence import Evidence
from planner.study.gates.metrics import Reading
from planner.study.gates.prometheus import Prometheus
from planner.units import show

State = Literal["passed", "failed", "missing", "skipped"]
SHOWN = 16
"""Digits of a digest that are shown."""


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

    A figure is compared with a baseline only where both plans are for the same machine, and a canary with
    the version before it only where both run on nodes of one topology: two machines differ for reasons that
    no roll-out is to blame for.
    """
    outcomes = [_mismatch(text) for text in evidence.mismatches()]
    machines = {one.machine for one in (evidence, baseline) if one is not None} - {None}
    if len(machines) > 1:
        outcomes.append(_mismatch("the baseline is of another machine: their topologies differ"))
        baseline = None
    alike = True
    if gates.canary is not None:
        outcomes.append(_same_topology(gates.canary, _asked(server, "the canary")))
        alike = outcomes[-1].ok
    look = _Look(gates, evidence, baseline, server, alike)
    return Verdict(gates.name, (*outcomes, *(_checked(check, look) for check in gates.checks)))


@dataclass(frozen=True)
class _Look:
    """Where figures come from.

    Attributes
    ----------
    alike
        Whether a canary may be compared.
    """

    gates: Gates
    evidence: Evidence
    baseline: Evidence | None
    server: Prometheus | None
    alike: bool

    def after(self, check: Check) -> list[Reading]:
        """Return the values of a check's figure."""
        if check.query is not None:
            return [
                Reading(value) for value in _asked(self.server, f"check {check.name!r}").query(check.query)
            ]
        if check.live is not None:
            return check.live.readings(_asked(self.server, f"check {check.name!r}"), self.gates.scope(check))
        if check.metric == "calibration.drift":
            pair = [
                one.documents.get("calibration") if one else None for one in (self.evidence, self.baseline)
            ]
            found = drift(pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None
            return [] if found is None else [found]
        return self.evidence.readings(check.metric or "", check.job)

    def before(self, check: Check) -> list[Reading]:
        """Return the values that a check's figure is compared with."""
        if check.live is not None:
            scope = self.gates.scope(check, before=True)
            asked = _asked(self.server, f"check {check.name!r}")
            return check.live.readings(asked, scope) if self.alike else []
        return [] if self.baseline is None else self.baseline.readings(check.metric or "", check.job)


def _asked(server: Prometheus | None, who: str) -> Prometheus:
    if server is None:
        raise GateError(f"{who} asks a server; give its address with --prometheus")
    return server


def _same_topology(canary: Canary, server: Prometheus) -> Outcome:
    """Return whether a canary runs on nodes of the one topology that the version before it runs on."""
    name, (new, old) = "same topology", canary.topologies(server)
    if not new or not old:
        who = "the canary" if not new else "the version before it"
        text = f"no agent says on what {who} runs; without that the two cannot be compared"
        return Outcome(name, "missing", None, None, text)
    if new != old:
        shown = [", ".join(sorted(digest[:SHOWN] for digest in one)) for one in (new, old)]
        text = f"the canary runs on {shown[0]}, the version before it on {shown[1]}"
        return Outcome(name, "failed", None, None, text)
    return Outcome(name, "passed", None, None, ", ".join(sorted(digest[:SHOWN] for digest in new)))


def _mismatch(text: str) -> Outcome:
    return Outcome("comparable", "failed", None, None, text)


def _checked(check: Check, look: _Look) -> Outcome:
    readings = look.after(check)
    if not readings:
        state: State = "missing" if check.missing == "fail" else "skipped"
        return Outcome(check.name, state, None, None, f"{check.metric or check.query}: no such figure")
    breaches = [*_limits(check, readings)]
    tolerance = check.tolerance()
    if tolerance is not None and check.metric is not None:
        before = look.before(check)
        if not before:
            state = "missing" if check.missing == "fail" else "skipped"
            worst = _worst(check, readings).value
            return Outcome(check.name, state, worst, None, "the baseline lacks the figure")
        breaches += _regressions(check, readings, before, tolerance, look.gates.confidence)
    if breaches:
        value, limit, text = breaches[0]
        return Outcome(check.name, "failed", value, limit, text)
    worst_one = _worst(check, readings)
    return Outcome(
        check.name, "passed", worst_one.value, _limit(check),
        f"{_shown(check, worst_one.value)}{_of(worst_one)}",
    )  # fmt: skip


def _worst(check: Check, readings: Sequence[Reading]) -> Reading:
    pick = max if check.upwards else min
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
    sign = 1.0 if check.upwards else -1.0
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
