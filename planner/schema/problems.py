"""From pydantic's errors to problems with positions, one for each mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.errors import Problem, nearest
from planner.schema.records import FaultError
from planner.schema.shapes import Follower, Member
from planner.schema.tree import Spot, Step
from planner.schema.wording import describe, either

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails


@dataclass(frozen=True)
class _Finding:
    """One complaint: its place among the document's keys, and its words.

    Attributes
    ----------
    meant
        Of a misspelt field, the field that was probably meant.
    member
        The form of the value that complains, where several are possible.
    """

    steps: tuple[Step, ...]
    text: str
    hint: str
    kind: str
    meant: str | None = None
    member: Member | None = None


def problems_of(error: ValidationError, model: type[BaseModel], spot: Spot, name: str) -> list[Problem]:
    """Return the problems behind a validation error, in order of position.

    Parameters
    ----------
    error
        What pydantic raised for a document.
    model
        The model that the document was validated against.
    spot
        The places of the document's values.
    name
        File name for messages.
    """
    follower = Follower(model.__pydantic_core_schema__)
    details = error.errors(include_url=False)
    findings = [finding for detail in details for finding in _findings(detail, follower)]
    problems = dict.fromkeys(_located(finding, spot, name) for finding in _one_each(_best_form(findings)))
    return sorted(problems, key=lambda problem: (problem.line, problem.column, problem.where))


def _findings(detail: ErrorDetails, follower: Follower) -> Iterator[_Finding]:
    """Yield the complaints of one of pydantic's errors, several where a model reports several faults."""
    trail, kind, context = follower.follow(detail["loc"]), detail["type"], detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, FaultError):
        for fault in cause.faults:
            yield _Finding((*trail.steps, *fault.loc), fault.text, fault.hint, kind, member=trail.member)
    elif kind == "extra_forbidden":
        meant = nearest(str(trail.steps[-1]), trail.fields)
        hint = f"did you mean {meant!r}?" if meant else f"known here: {', '.join(trail.fields)}"
        yield _Finding(trail.steps, "unknown field", hint, kind, meant, trail.member)
    else:
        tag = (str(context["discriminator"]).strip("'"),) if kind.startswith("union_tag") else ()
        text, hint = describe(kind, detail["input"], context, detail["msg"])
        yield _Finding(trail.steps + tag, text, hint, kind, member=trail.member)


def _best_form(findings: Sequence[_Finding]) -> Iterator[_Finding]:
    """Keep the complaints of one form of each value that may have several.

    A form that found its mistakes inside the value came nearer than one that refused it outright. Where all
    forms refused it outright, their complaints become one.
    """
    forms: dict[tuple[Step, ...], dict[Member, list[_Finding]]] = {}
    for finding in findings:
        if finding.member is None:
            yield finding
        else:
            forms.setdefault(finding.member.place, {}).setdefault(finding.member, []).append(finding)
    for place, members in forms.items():
        deep = [group for group in members.values() if any(finding.steps != place for finding in group)]
        if deep:
            yield from min(deep, key=len)
            continue
        everyone = [finding for group in members.values() for finding in group]
        text = either([finding.text for finding in everyone])
        hint = next((finding.hint for finding in everyone if finding.hint), "")
        yield _Finding(place, text, hint, everyone[0].kind)


def _one_each(findings: Iterator[_Finding]) -> Iterator[_Finding]:
    """Leave out fields that are missing only because they are misspelt."""
    everyone = list(findings)
    misspelt = {(*finding.steps[:-1], finding.meant) for finding in everyone if finding.meant}
    yield from (finding for finding in everyone if finding.kind != "missing" or finding.steps not in misspelt)


def _located(finding: _Finding, spot: Spot, name: str) -> Problem:
    steps = written(spot, finding.steps)
    line, column = position(spot, steps, at_key=finding.kind == "extra_forbidden")
    return Problem(name, line, column, ".".join(map(str, steps)), finding.text, finding.hint)


def _inside(spot: Spot, step: Step) -> Spot | None:
    children = spot.children or {}
    return children.get(step) or children.get(str(step))


def written(spot: Spot, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return ``steps`` without those that would lead into a scalar, which stands for a whole record."""
    for number, step in enumerate(steps):
        if spot.children is None:
            return steps[:number]
        inside = _inside(spot, step)
        if inside is None:
            break
        spot = inside
    return steps


def position(spot: Spot, steps: Sequence[Step], *, at_key: bool = False) -> tuple[int, int]:
    """Return line and column of the value (or key) at ``steps``, or of the nearest value around it."""
    place = (spot.line, spot.column)
    for step in steps:
        inside = _inside(spot, step)
        if inside is None:
            return place
        key, spot = spot.keys.get(str(step)), inside
        place = key if at_key and key else (spot.line, spot.column)
    return place
