"""Fixed decisions: ``tp=8``, ``replicas=2`` or ``gpus=node-0/gpu-[0-3]`` restrict a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from planner.errors import InfeasibleError, PlannerError, nearest
from planner.placement.problem import TYPES
from planner.schema import expand
from planner.workload import Degrees, ServingJob, TrainingJob

PLACES = ("gpus", "nodes")
SERVING = ("tp", "pp", "ep", "adp", "replicas", "pools", *TYPES)
"""Degrees of a service."""
SERVING_ONLY = ("replicas", "adp", "pools", *TYPES)
SWITCHES = {"on": True, "true": True, "off": False, "false": False}
MOST_ATTEMPTS = 12
"""Most values tried in place of one that does not fit."""

FixableJob = TrainingJob | ServingJob
Job = TypeVar("Job", TrainingJob, ServingJob)
Attempt = Callable[[Sequence["Fix"]], bool]
"""Whether some plan exists, or may exist, under the given fixes."""


class FixError(PlannerError):
    """A fixed decision names a field or a value that the job does not have."""

    exit_code = 2


@dataclass(frozen=True)
class Fix:
    """A field and the values that it may take.

    Attributes
    ----------
    job
        Name of the job, ``None`` for every job that has the field.
    """

    field: str
    values: tuple[str, ...]
    job: str | None = None

    def __str__(self) -> str:
        prefix = f"{self.job}." if self.job else ""
        return f"--fix {prefix}{self.field}={','.join(self.values)}"

    @property
    def is_place(self) -> bool:
        """Whether the fix restricts where the job may run."""
        return self.field in PLACES

    def concerns(self, job: str) -> bool:
        """Whether the fix restricts the named job."""
        return self.job in (None, job)


def parse_fix(text: str) -> Fix:
    """Return the fix written ``FIELD=VALUE``, ``FIELD=VALUE,VALUE`` or ``JOB.FIELD=VALUE``.

    Raises
    ------
    FixError
        If the text has another form.
    """
    name, equals, value = text.partition("=")
    job, _, field = name.strip().rpartition(".")
    if not equals or not field or not value.strip():
        raise FixError(f"--fix {text!r}: write FIELD=VALUE, such as tp=8 or gpus=node-0/gpu[0-3]")
    values = (value.strip(),) if field in PLACES else tuple(item.strip() for item in value.split(","))
    return Fix(field, values, job or None)


def fields_of(job: FixableJob) -> list[str]:
    """Return the fields of a job that can be fixed."""
    if isinstance(job, ServingJob):
        return [*SERVING, *PLACES]
    return [name for name in Degrees.model_fields if name not in SERVING_ONLY] + [*PLACES]


def checked(fixes: Iterable[Fix], jobs: Sequence[FixableJob]) -> None:
    """Check that every fix names a job and a field that exist.

    Raises
    ------
    FixError
        If one does not; it names the nearest that does.
    """
    names = [job.name for job in jobs]
    for fix in fixes:
        if fix.job is not None and fix.job not in names:
            raise FixError(f"{fix}: there is no job {fix.job!r}; {_known(fix.job, names)}")
        known = dict.fromkeys(name for job in jobs if fix.concerns(job.name) for name in fields_of(job))
        if fix.field not in known:
            raise FixError(f"{fix}: there is no field {fix.field!r}; {_known(fix.field, list(known))}")


def _known(name: str, names: list[str]) -> str:
    close = nearest(name, names)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(names)}"


def fixed_job(job: Job, fixes: Iterable[Fix]) -> Job:
    """Return a job whose degrees are held to the fixed values.

    Raises
    ------
    FixError
        If a value is none of the field.
    InfeasibleError
        If the job's own degrees exclude every fixed value.
    """
    degrees = job.degrees
    for fix in fixes:
        if fix.is_place or not fix.concerns(job.name) or fix.field not in fields_of(job):
            continue
        wanted, allowed = _values(fix), getattr(degrees, fix.field)
        if allowed is None and fix.field in TYPES:
            allowed = [getattr(job, fix.field)]
        kept = wanted if allowed is None else [value for value in wanted if value in allowed]
        if not kept:
            own = f"degrees.{fix.field} of {job.name}: {allowed}"
            raise InfeasibleError(
                f"job {job.name!r}: {fix} lies outside the values that the workload allows",
                [str(fix), own], f"fix one of {', '.join(map(str, allowed))}, or widen the job's degrees",
            )  # fmt: skip
        degrees = degrees.model_copy(update={fix.field: kept})
    return job.model_copy(update={"degrees": degrees})


def _values(fix: Fix) -> list[Any]:
    raw = [SWITCHES.get(text.lower(), int(text) if text.isdecimal() else text) for text in fix.values]
    try:
        values: list[Any] = getattr(Degrees.model_validate({fix.field: raw}), fix.field)
    except ValidationError as error:
        raise FixError(f"{fix}: {error.errors()[0]['msg']}") from error
    if any(not isinstance(value, bool | str) and value < 1 for value in values):
        raise FixError(f"{fix}: a degree is at least 1")
    return values


def allowed_gpus(fixes: Iterable[Fix], job: str, gpus: Sequence[str]) -> list[str]:
    """Return the GPUs that a job may use, in order.

    Raises
    ------
    FixError
        If a fix names a GPU or node that is not there.
    """
    left = list(gpus)
    for fix in fixes:
        if fix.is_place and fix.concerns(job):
            named = set(_names(fix, gpus))
            left = [gpu for gpu in left if (gpu if fix.field == "gpus" else gpu.split("/", 1)[0]) in named]
    return left


def _names(fix: Fix, gpus: Sequence[str]) -> list[str]:
    known = set(gpus) if fix.field == "gpus" else {gpu.split("/", 1)[0] for gpu in gpus}
    try:
        names = [name for pattern in _patterns(fix.values[0]) for name in expand(pattern)]
    except ValueError as error:
        raise FixError(f"{fix}: {error}") from error
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        close = nearest(unknown, known)
        hint = f"; did you mean {close!r}?" if close else ""
        raise FixError(f"{fix}: there is no {unknown!r} in the topology{hint}")
    return names


def _patterns(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def explained(
    error: InfeasibleError, fixes: Sequence[Fix], attempt: Attempt, choices: Callable[[Fix], list[int]]
) -> InfeasibleError:
    """Return an error that names the smallest set of fixes in conflict, and the nearest one that fits.

    Parameters
    ----------
    choices
        Values that could stand in place of those of a fix.
    """
    if not fixes or not attempt(()):
        return error
    conflict = list(fixes)
    for fix in fixes:
        others = [other for other in conflict if other != fix]
        if not attempt(others):
            conflict = others
    remedies = [text for fix in conflict for text in _relaxed(fix, fixes, attempt, choices)]
    reason = sentence(error)
    together = " with ".join(map(str, conflict))
    return InfeasibleError(
        f"nothing fits under {together}, and something does without ({reason})",
        [*map(str, conflict), *(item for item in error.conflicts if not item.startswith("--fix"))],
        "nearest change, each alone: " + ", or ".join(remedies),
    )


def sentence(error: InfeasibleError) -> str:
    """Return what an error says first, without its conflicts and remedy."""
    return str(error).partition("; in conflict: ")[0]


def _relaxed(
    fix: Fix, fixes: Sequence[Fix], attempt: Attempt, choices: Callable[[Fix], list[int]]
) -> list[str]:
    """Return the nearest other value of a fix that fits, else whether leaving it out does."""
    others = [other for other in fixes if other != fix]
    if all(value.isdecimal() for value in fix.values) and fix.values:
        now = int(fix.values[0])
        near = sorted(choices(fix), key=lambda value: (max(value, now) / min(value, now), value))
        for value in [value for value in near if str(value) not in fix.values][:MOST_ATTEMPTS]:
            other = replace(fix, values=(str(value),))
            if attempt([*others, other]):
                return [str(other)]
    return [f"without {fix}"] if attempt(others) else []
