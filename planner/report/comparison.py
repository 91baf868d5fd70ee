"""Two plans side by side: what the second decides, reaches, holds and loads otherwise than the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from planner.placement.plan import JobPlan, Plan
from planner.report import wording
from planner.report.links import link_loads
from planner.report.settings import settings
from planner.report.summary import job_simulation
from planner.simulate.result import SimulationResult

INPUTS = ("topology", "workload", "calibration")


@dataclass(frozen=True)
class Side:
    """A plan of a comparison, its file, and what was simulated of it."""

    path: Path
    plan: Plan
    simulation: SimulationResult | None = None


@dataclass(frozen=True)
class Decided:
    """A decision of a job in both plans; empty where a plan has none of that name.

    Attributes
    ----------
    reason
        Why the second plan decided as it did, where it says.
    """

    job: str
    name: str
    before: str
    after: str
    reason: str = ""

    @property
    def changed(self) -> bool:
        """Whether the plans differ."""
        return self.before != self.after


@dataclass(frozen=True)
class Figure:
    """A figure of both plans; ``None`` where a plan, or its simulation, lacks it.

    Attributes
    ----------
    unit
        SI unit, ``share`` for a part of a whole, 0 to 1, ``1`` for a count or a rate.
    lower_is_better
        ``None`` where neither is.
    """

    job: str
    name: str
    before: float | None
    after: float | None
    unit: str
    lower_is_better: bool | None = True

    @property
    def change(self) -> float | None:
        """By how much the second is above the first, as a ratio of the first."""
        if self.before is None or self.after is None or not self.before:
            return None
        return self.after / self.before - 1.0


@dataclass(frozen=True)
class LinkChange:
    """Mean use of a directed link in both plans, 0 to 1; ``None`` where a plan does not know the link."""

    source: str
    target: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float:
        """Use in the second plan minus that in the first."""
        return (self.after or 0.0) - (self.before or 0.0)


@dataclass(frozen=True)
class Comparison:
    """What differs between two plans.

    Attributes
    ----------
    inputs
        By input, whether both plans were made from the same.
    links
        The links whose use differs, those that differ most first.
    """

    before: Side
    after: Side
    inputs: Mapping[str, bool]
    objective: Figure | None
    decisions: tuple[Decided, ...]
    figures: tuple[Figure, ...]
    links: tuple[LinkChange, ...]

    @property
    def jobs(self) -> list[tuple[str, JobPlan | None, JobPlan | None]]:
        """The jobs of both plans by name; a single job of each is the same job, whatever its name."""
        return _jobs(self.before.plan, self.after.plan)

    def json(self) -> dict[str, object]:
        """Return the comparison as plain data; times in s, sizes in bytes, shares from 0 to 1."""
        return {
            "before": _side_json(self.before),
            "after": _side_json(self.after),
            "same_inputs": dict(self.inputs),
            "objective": None if self.objective is None else _figure_json(self.objective),
            "decisions": [asdict(each) | {"changed": each.changed} for each in self.decisions],
            "figures": [_figure_json(each) for each in self.figures],
            "links": [asdict(each) | {"difference": each.difference} for each in self.links],
        }


def compare(before: Side, after: Side) -> Comparison:
    """Compare two plans, of the same inputs or of others."""
    jobs = _jobs(before.plan, after.plan)
    decisions = [each for name, old, new in jobs for each in _decisions(name, old, new, after.plan)]
    figures = [
        each
        for name, old, new in jobs
        for each in _figures(name, _measured(before, old), _measured(after, new))
    ]
    same = {
        name: getattr(before.plan.inputs, name).digest == getattr(after.plan.inputs, name).digest
        for name in INPUTS
    }
    return Comparison(
        before, after, same, _objective(before.plan, after.plan), tuple(decisions),
        (*_whole(before, after), *figures), tuple(_links(before, after)),
    )  # fmt: skip


def _jobs(before: Plan, after: Plan) -> list[tuple[str, JobPlan | None, JobPlan | None]]:
    if len(before.jobs) == len(after.jobs) == 1:
        return [(after.jobs[0].name, before.jobs[0], after.jobs[0])]
    old, new = ({job.name: job for job in plan.jobs} for plan in (before, after))
    return [(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])]


def _decisions(job: str, old: JobPlan | None, new: JobPlan | None, plan: Plan) -> Iterator[Decided]:
    before, after = (settings(each) if each is not None else {} for each in (old, new))
    reasons = {item.decision: item.reason for item in plan.why}
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name, ""), after.get(name, "")
        yield Decided(job, name, was, now, reasons.get(name, "") if was != now else "")


def _objective(before: Plan, after: Plan) -> Figure | None:
    """Return the objective of both plans, where it is the same quantity."""
    old, new = before.objective, after.objective
    if (old.name, old.unit) != (new.name, new.unit):
        return None
    return Figure("", wording.objective_name(new), old.value, new.value, new.unit)


def _whole(before: Side, after: Side) -> Iterator[Figure]:
    old, new = before.plan, after.plan
    if (old.objective.name, old.objective.unit) == (new.objective.name, new.objective.unit):
        yield Figure("", "proven bound", old.bound, new.bound, new.objective.unit, None)
    yield Figure("", "gap", old.gap, new.gap, "share")
    yield Figure("", "GPUs", _gpus(old), _gpus(new), "1", None)
    yield Figure("", "share on assumed numbers", old.assumed_share, new.assumed_share, "share")


def _gpus(plan: Plan) -> float:
    return float(len({gpu for job in plan.jobs for gpu in job.gpus()}))


@dataclass(frozen=True)
class _Measured:
    """A figure of one plan."""

    value: float
    unit: str
    lower: bool | None


def _figures(job: str, before: dict[str, _Measured], after: dict[str, _Measured]) -> Iterator[Figure]:
    for name, sample in {**before, **after}.items():
        was, now = (side[name].value if name in side else None for side in (before, after))
        yield Figure(job, name, was, now, sample.unit, sample.lower)


def _measured(side: Side, job: JobPlan | None) -> dict[str, _Measured]:
    """Return the predicted and simulated figures of a job by name."""
    values: dict[str, _Measured] = {}
    if job is None:
        return values
    result = job_simulation(side.simulation, job.name)
    for kind, record in (("predicted", job.prediction), ("simulated", result)):
        for field, (name, unit, lower) in _FIGURES.items():
            value = getattr(record, field, None)
            if isinstance(value, int | float):
                values[f"{name}, {kind}"] = _Measured(float(value), unit, lower)
    for metric, sample in result.latency.items() if result is not None else ():
        for percentile in ("mean", "p99"):
            name = f"{wording.METRICS.get(metric, metric)} {percentile}, simulated"
            values[name] = _Measured(getattr(sample, percentile), "s", True)
    if job.memory:
        fullest = max(stage.total for _, stage in wording.named_memory(job))
        values["memory of the fullest device"] = _Measured(fullest, "bytes", None)
    return values


_FIGURES: dict[str, tuple[str, str, bool | None]] = {
    "step_time": ("step time", "s", True),
    "tokens_per_second": ("tokens per second", "1", False),
    "throughput_tokens_per_second": ("tokens per second", "1", False),
    "samples_per_second": ("samples per second", "1", False),
    "model_flops_utilisation": ("model FLOP utilisation", "share", False),
    "bubble": ("pipeline bubble", "share", True),
    "ttft_mean": ("first token mean", "s", True),
    "ttft_p99": ("first token p99", "s", True),
    "tpot_mean": ("per output token mean", "s", True),
    "tpot_p99": ("per output token p99", "s", True),
    "latency_mean": ("end to end mean", "s", True),
    "latency_p99": ("end to end p99", "s", True),
    "batch": ("mean batch", "1", None),
    "utilisation": ("GPU utilisation", "share", None),
    "interval": ("time between samples", "s", True),
    "latency": ("time of one sample", "s", True),
    "embedding_time": ("embedding time", "s", True),
    "iteration_time": ("iteration", "s", True),
}
"""Fields of predictions and simulations: name, unit, whether lower is better."""


def _links(before: Side, after: Side) -> list[LinkChange]:
    old, new = (link_loads(side.plan, side.simulation) for side in (before, after))
    found = [
        LinkChange(*ends, old.get(ends), new.get(ends))
        for ends in dict.fromkeys([*old, *new])
        if old.get(ends) != new.get(ends)
    ]
    return sorted(found, key=lambda link: (-abs(link.difference), link.source, link.target))


def _side_json(side: Side) -> dict[str, object]:
    plan, goal = side.plan, side.plan.objective
    return {
        "file": str(side.path), "name": plan.name, "digest": plan.content_digest, "status": plan.status,
        "objective": {"name": goal.name, "value": goal.value, "unit": goal.unit},
        "bound": plan.bound, "gap": plan.gap, "simulated": side.simulation is not None,
    }  # fmt: skip


def _figure_json(figure: Figure) -> dict[str, object]:
    return {
        "job": figure.job, "name": figure.name, "before": figure.before, "after": figure.after,
        "unit": figure.unit, "change": figure.change,
    }  # fmt: skip
