"""A plan with its inputs and its simulation, as notebooks use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.api.frames import Rows, frame
from planner.errors import PlanError
from planner.placement import Plan
from planner.report import bundle_files, explanation, plan_summary, plots, write_folder
from planner.report.bundle import PLAN
from planner.report.summary import job_simulation
from planner.report.tables_html import summary_html
from planner.simulate import JobSimulation, SimulationResult, simulate_plan
from planner.study import Documents, Sources, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Result:
    """A plan with its inputs and, where it was simulated, what the simulation saw.

    Attributes
    ----------
    study
        The plan, its inputs, and the problem of each job.
    simulation
        ``None`` where nothing was simulated.
    sources
        Where the inputs came from.
    """

    study: Study
    simulation: SimulationResult | None
    sources: Sources

    @property
    def plan(self) -> Plan:
        """The plan, document ``plan/1``."""
        return self.study.plan

    def __repr__(self) -> str:
        objective = self.plan.objective
        found = f"{self.plan.status}, {objective.name} {objective.value:.6g} {objective.unit}"
        return f"<Result {self.plan.name}: {found}>"

    def simulated(self, *, seed: int = 0, requests: int = 4000) -> Result:
        """Return the same plan, simulated anew with this many requests per service."""
        found = simulate_plan(self.study.problems, self.plan, seed=seed, requests=requests)
        return replace(self, simulation=found)

    def explain(self) -> str:
        """Return why the plan is as it is, as text: decisions, what lost, what limits."""
        said = explanation(self.plan, self.study.workload.document, self.study.topology, self.simulation)
        lines = [said.title, said.sentence]
        for table in said.tables:
            lines += ["", table.title]
            lines += ["  " + " | ".join(cell for cell in row if cell) for row in table.rows]
            lines += [f"  {note}" for note in table.notes]
        return "\n".join([*lines, "", *said.notes])

    def _repr_html_(self) -> str:
        return summary_html(plan_summary(self.plan, self.simulation))

    def to_frame(self, what: str = "links") -> Any:
        """Return a part of the result as a pandas ``DataFrame``, in SI units.

        Parameters
        ----------
        what
            ``links``, ``memory``, ``decisions``, ``baselines``, ``percentiles`` or ``timeline``.

        Raises
        ------
        PlanError
            If there is no such part.
        StudyError
            If pandas is not installed.
        """
        if what not in _FRAMES:
            raise PlanError(f"there is no table {what!r}; there are {', '.join(_FRAMES)}")
        return frame(_FRAMES[what](self))

    def plot_memory(self, ax: Axes) -> None:
        """Draw the memory of each device by part."""
        plots.plot_memory(ax, self.plan)

    def plot_links(self, ax: Axes, most: int = 12) -> None:
        """Draw the use of the busiest links."""
        plots.plot_links(ax, self.plan, self.simulation, most)

    def plot_latency(self, ax: Axes, job: str | None = None, limit: float | None = None) -> None:
        """Draw the distribution of a service's latency; ``limit`` is in s."""
        plots.plot_latency(ax, self._job(job), limit)

    def plot_split(self, ax: Axes, job: str | None = None) -> None:
        """Draw where the mean latency of a service goes."""
        plots.plot_split(ax, self._job(job))

    def plot_timeline(self, ax: Axes, job: str | None = None) -> None:
        """Draw what each stage does over time."""
        plots.plot_timeline(ax, self._job(job))

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write what ``planner solve`` writes: plan, simulation, report, manifests; return the plan's path.

        Raises
        ------
        OutputExistsError
            If the folder holds something and ``force`` is off.
        """
        where = Path(folder)
        known = self.study
        documents = Documents(known.topology, known.workload, known.calibration)
        inputs = documents.references(replace(self.sources, folder=where))
        plan = self.plan.model_copy(update={"inputs": inputs})
        simulation = self.simulation
        if simulation is not None:
            simulation = simulation.model_copy(update={"plan_digest": plan.content_digest})
        files = bundle_files(replace(known, plan=plan), simulation, where / PLAN)
        write_folder(where, files, force=force)
        return where / PLAN

    def _job(self, name: str | None) -> JobSimulation:
        if self.simulation is None:
            raise PlanError("the plan was not simulated; use simulated()")
        found = job_simulation(self.simulation, name or self.plan.jobs[0].name)
        if found is None:
            have = ", ".join(job.name for job in self.simulation.jobs)
            raise PlanError(f"the plan has no job {name!r}; it has {have}")
        return found


def _links(result: Result) -> Rows:
    if result.simulation is not None and result.simulation.links:
        return [link.model_dump(exclude={"series"}) for link in result.simulation.links]
    return [link.model_dump() for link in result.plan.links]


def _memory(result: Result) -> Rows:
    return [
        {"job": job.name, "stage": stage.stage, "part": part, "bytes": size, "capacity": stage.capacity}
        for job in result.plan.jobs
        for stage in job.memory
        for part, size in stage.parts.items()
    ]


def _percentiles(result: Result) -> Rows:
    jobs = result.simulation.jobs if result.simulation is not None else []
    return [
        {"job": job.name, "metric": name, **sample.model_dump()}
        for job in jobs
        for name, sample in job.latency.items()
    ]


def _timeline(result: Result) -> Rows:
    jobs = result.simulation.jobs if result.simulation is not None else []
    return [{"job": job.name, **span.model_dump()} for job in jobs for span in job.timeline]


_FRAMES: dict[str, Callable[[Result], Rows]] = {
    "links": _links,
    "memory": _memory,
    "decisions": lambda result: [item.model_dump() for item in result.plan.why],
    "baselines": lambda result: [item.model_dump() for item in result.plan.baselines],
    "percentiles": _percentiles,
    "timeline": _timeline,
}
