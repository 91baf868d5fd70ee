"""What a study shows: where the decision changes, which parameter matters most, what nobody dominates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from planner.study.whatif.document import StudyDocument, Value
from planner.study.whatif.outcomes import Outcome
from planner.study.whatif.paths import split_quantity
from planner.study.whatif.scenarios import shown


@dataclass(frozen=True)
class Change:
    """Two neighbouring values of a parameter, all others equal, between which the decision changes.

    Attributes
    ----------
    others
        The values of the other parameters.
    """

    parameter: str
    low: str
    high: str
    before: str
    after: str
    others: dict[str, str]


@dataclass(frozen=True)
class Swing:
    """How far a metric moves when one parameter runs through its values and the others stay at their first.

    Attributes
    ----------
    at_low, at_high
        Least and greatest value of the metric.
    low, high
        The values of the parameter there.
    """

    parameter: str
    base: float
    at_low: float
    at_high: float
    low: str
    high: str


def changes(study: StudyDocument, outcomes: Sequence[Outcome]) -> list[Change]:
    """Return every change of decision between neighbouring values, in order of the study."""
    found = []
    for title in _varied(study):
        for line in _lines(title, outcomes):
            for first, second in pairwise(line):
                before, after = _differences(first, second)
                if before != after:
                    others = {name: value for name, value in first.labels.items() if name != title}
                    found.append(
                        Change(title, first.labels[title], second.labels[title], before, after, others)
                    )
    return found


def _varied(study: StudyDocument) -> list[str]:
    """Return the parameters along which neighbours can be compared: all of a grid, the first of a zip."""
    titles = [parameter.title for parameter in study.vary]
    return titles if study.combine == "cross" else titles[:1]


def _lines(title: str, outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Return the outcomes that differ in one parameter only, in order of the study."""
    alone = len(outcomes[0].labels) == 1 if outcomes else True
    lines: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        rest = tuple(value for name, value in outcome.labels.items() if name != title)
        lines.setdefault(() if alone else rest, []).append(outcome)
    return list(lines.values())


def _differences(first: Outcome, second: Outcome) -> tuple[str, str]:
    """Return the decisions in which two outcomes differ, as text; their states where one has no plan."""
    if not first.decisions or not second.decisions:
        return tuple(o.status if not o.decisions else "a plan" for o in (first, second))  # type: ignore[return-value]
    names = [
        name
        for name in dict.fromkeys([*first.decisions, *second.decisions])
        if first.decisions.get(name) != second.decisions.get(name)
    ]
    before, after = (
        ", ".join(f"{name} {outcome.decisions.get(name, '-')}" for name in names)
        for outcome in (first, second)
    )
    return before, after


def swings(study: StudyDocument, outcomes: Sequence[Outcome], metric: str) -> list[Swing]:
    """Return the swing of a metric for every parameter, widest first."""
    first = {parameter.title: None for parameter in study.vary}
    if not outcomes:
        return []
    first_values = outcomes[0].labels
    found = []
    for title in first:
        line = [
            outcome
            for outcome in outcomes
            if metric in outcome.metrics
            and all(value == first_values[name] for name, value in outcome.labels.items() if name != title)
        ]
        if len(line) < 2 or metric not in outcomes[0].metrics:
            continue
        least = min(line, key=lambda outcome: outcome.metrics[metric])
        most = max(line, key=lambda outcome: outcome.metrics[metric])
        found.append(
            Swing(
                title,
                outcomes[0].metrics[metric],
                least.metrics[metric],
                most.metrics[metric],
                least.labels[title],
                most.labels[title],
            )
        )
    return sorted(found, key=lambda swing: swing.at_low - swing.at_high)


@dataclass(frozen=True)
class Crossing:
    """Where two lines of a metric over the first parameter cross: one is less below, the other above.

    Attributes
    ----------
    low, high
        Neighbouring values of the parameter.
    below, above
        Which line has the lesser metric at ``low`` and at ``high``: the values of the other parameters.
    at
        Estimate of the crossing between ``low`` and ``high``, as if the lines were straight, in their unit.
    value
        The metric there.
    """

    parameter: str
    metric: str
    low: str
    high: str
    below: str
    above: str
    at: float
    value: float


def crossings(study: StudyDocument, outcomes: Sequence[Outcome], metric: str) -> list[Crossing]:
    """Return where one alternative overtakes another in a metric, along a first parameter of numbers."""
    title = study.vary[0].title
    if study.combine == "zip" or len(study.vary) < 2:
        return []
    lines = [[one for one in line if metric in one.metrics] for line in _lines(title, outcomes)]
    found = []
    for first, second in combinations(lines, 2):
        right = {one.labels[title]: one for one in second}
        shared = [(one, right[one.labels[title]]) for one in first if one.labels[title] in right]
        for (a, b), (c, d) in pairwise(shared):
            before, after = (left.metrics[metric] - other.metrics[metric] for left, other in ((a, b), (c, d)))
            if before * after < 0.0 and (place := _between(a.labels[title], c.labels[title], before, after)):
                share = before / (before - after)
                value = a.metrics[metric] + share * (c.metrics[metric] - a.metrics[metric])
                below, above = (_others(one, title) for one in ((a, b) if before < 0.0 else (b, a)))
                found.append(
                    Crossing(title, metric, a.labels[title], c.labels[title], below, above, place, value)
                )
    return found


def _between(low: str, high: str, before: float, after: float) -> float | None:
    """Return where a straight difference is zero between two quantities, ``None`` where they are none."""
    try:
        (start, unit), (stop, other) = split_quantity(low), split_quantity(high)
    except ValueError:
        return None
    return start + (stop - start) * before / (before - after) if unit == other else None


def _others(outcome: Outcome, title: str) -> str:
    return ", ".join(value for name, value in outcome.labels.items() if name != title)


def pareto_front(outcomes: Sequence[Outcome], first: str, second: str) -> list[Outcome]:
    """Return the outcomes that no other one beats in both metrics, by the first; less is better."""
    known = [outcome for outcome in outcomes if first in outcome.metrics and second in outcome.metrics]
    ordered = sorted(known, key=lambda outcome: (outcome.metrics[first], outcome.metrics[second]))
    front: list[Outcome] = []
    for outcome in ordered:
        if not front or outcome.metrics[second] < front[-1].metrics[second]:
            front.append(outcome)
    return front


def refinements(study: StudyDocument, outcomes: Sequence[Outcome]) -> list[dict[str, Value]]:
    """Return the middles of the intervals of numbers at which the decision changes, for another round."""
    found: list[dict[str, Value]] = []
    for change in changes(study, outcomes) if study.combine == "cross" else []:
        try:
            (low, unit), (high, other) = split_quantity(change.low), split_quantity(change.high)
        except ValueError:
            continue
        if unit == other and low != high:
            middle: Value = f"{(low + high) / 2:.12g} {unit}" if unit else float(f"{(low + high) / 2:.12g}")
            found.append({**change.others, change.parameter: middle})
    return found


def in_order(study: StudyDocument, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes in order of their parameters: numbers by size, other values as the study lists them."""
    listed = {parameter.title: list(map(shown, parameter.settings())) for parameter in study.vary}

    def place(outcome: Outcome) -> tuple[tuple[float, int], ...]:
        return tuple(_rank(value, listed[title]) for title, value in outcome.labels.items())

    distinct = {tuple(outcome.labels.items()): outcome for outcome in outcomes}
    return sorted(distinct.values(), key=place)


def _rank(value: str, listed: Sequence[str]) -> tuple[float, int]:
    try:
        return split_quantity(value)[0], 0
    except ValueError:
        return 0.0, listed.index(value)
