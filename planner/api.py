"""The library for notebooks and scripts: ``import planner.api as planner``.

Examples
--------
>>> import planner.api as planner
>>> result = planner.solve("hgx-h200", "llama3-70b-serving")  # doctest: +SKIP
>>> result.plan.objective.value  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.errors import PlanError, StudyError
from planner.placement import Plan
from planner.report import bundle_files, explanation, plan_summary, plots, write_folder
from planner.report.bundle import PLAN, SIMULATION
from planner.report.summary import job_simulation
from planner.report.tables_html import rows_html, summary_html
from planner.report.whatif import default_metric, plot_heat, plot_line, plot_pareto, plot_tornado, rows_of
from planner.schema import load
from planner.schema import presets as shipped
from planner.simulate import JobSimulation, SimulationResult, simulate_plan
from planner.solve import Budget
from planner.study import Documents, Sources, Study, load_study, solve_files
from planner.study.whatif import Outcome, Runner, StudyDocument, load_whatif, make_scenarios
from planner.study.whatif.running import local, serial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Result", "Sweep", "load_plan", "presets", "solve", "whatif"]

Rows = list[dict[str, Any]]


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
        return _frame(_FRAMES[what](self))

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


@dataclass(frozen=True, repr=False)
class Sweep:
    """A what-if study and the outcome of each of its scenarios, in order."""

    study: StudyDocument
    outcomes: Sequence[Outcome]

    def __repr__(self) -> str:
        return f"<Sweep {self.study.name}: {len(self.outcomes)} scenarios>"

    def to_frame(self) -> Any:
        """Return one row per scenario as a pandas ``DataFrame``.

        Raises
        ------
        StudyError
            If pandas is not installed.
        """
        return _frame(rows_of(self.outcomes))

    def _repr_html_(self) -> str:
        rows = rows_of(self.outcomes)
        metric = default_metric(self.study, self.outcomes) if any(o.metrics for o in self.outcomes) else None
        columns = tuple(
            dict.fromkeys(
                [*(p.title for p in self.study.vary), "status", *filter(None, [metric]), "decision"]
            )
        )
        shown = tuple(tuple(_cell(row[column]) for column in columns) for row in rows)
        return rows_html(self.study.name, columns, shown)

    def plot_line(self, ax: Axes, metric: str | None = None) -> None:
        """Draw a metric over the first parameter."""
        plot_line(ax, self.study, self.outcomes, metric or self._metric)

    def plot_heat(self, ax: Axes, metric: str | None = None) -> None:
        """Draw a metric over the first two parameters.

        Raises
        ------
        StudyError
            If the study varies one thing alone.
        """
        if len(self.study.vary) < 2:
            raise StudyError("a heat map needs two parameters; the study varies one")
        plot_heat(ax, self.study, self.outcomes, metric or self._metric)

    def plot_tornado(self, ax: Axes, metric: str | None = None) -> None:
        """Draw how far each parameter alone moves a metric."""
        plot_tornado(ax, self.study, self.outcomes, metric or self._metric)

    def plot_pareto(self, ax: Axes, first: str, second: str) -> None:
        """Draw two metrics against one another with the front of what nothing beats in both."""
        plot_pareto(ax, self.outcomes, first, second)

    @property
    def _metric(self) -> str:
        return default_metric(self.study, self.outcomes)


def solve(
    topology: str | Path,
    workload: str | Path,
    *,
    calibration: str | Path = "default",
    time_limit: float = 60.0,
    seed: int = 0,
    simulate: bool = True,
    requests: int = 2000,
) -> Result:
    """Place a workload on a topology, check the plan and simulate it: each input is a file or a preset.

    Parameters
    ----------
    time_limit
        Time for the search, s.
    seed
        Seed of search and simulation.
    requests
        Requests per service that the simulation draws.

    Raises
    ------
    PlannerError
        Any of its kinds: malformed inputs, no feasible plan, no plan in time.
    """
    sources = Sources(topology, workload, calibration)
    study = solve_files(sources, Budget(seconds=time_limit, seed=seed))
    result = Result(study, None, sources)
    return result.simulated(seed=seed, requests=requests) if simulate else result


def load_plan(path: str | Path, *, force: bool = False) -> Result:
    """Return a stored plan with its inputs, and the simulation that lies beside it if it is of this plan.

    Parameters
    ----------
    force
        Accept inputs that changed since the plan was made.

    Raises
    ------
    PlannerError
        If the plan is malformed, or its inputs are missing or changed.
    """
    where = Path(path)
    study = load_study(where, force=force)
    beside = where.parent / SIMULATION
    simulation = load(beside, SimulationResult) if beside.is_file() else None
    if simulation is not None and simulation.plan_digest != study.plan.content_digest:
        simulation = None
    used = study.plan.inputs
    found = [
        _found(where.parent, reference.path or reference.name)
        for reference in (used.topology, used.workload, used.calibration)
    ]
    return Result(study, simulation, Sources(found[0], found[1], found[2]))


def whatif(
    study: str | Path | Mapping[str, Any], *, folder: str | Path | None = None, processes: int = 1
) -> Sweep:
    """Solve and simulate every scenario of a what-if study.

    Parameters
    ----------
    study
        A file, or the fields of document ``study/1``; files that these name are relative to where you are.
    folder
        Where results are kept for the next call; nothing is kept when absent.
    processes
        Processes to run on; one runs in this process.

    Raises
    ------
    PlannerError
        If the study is malformed or leads nowhere. A scenario that fails is an outcome, not an error.
    """
    document, base = _study(study)
    scenarios = make_scenarios(document, base)
    execute = serial if processes == 1 else local(processes)
    if folder is not None:
        return Sweep(document, Runner(Path(folder), execute).run(scenarios))
    with tempfile.TemporaryDirectory(prefix="planner-") as passing:
        return Sweep(document, Runner(Path(passing), execute).run(scenarios))


def presets() -> dict[str, list[str]]:
    """Return the names of the shipped topologies, workloads and calibrations."""
    return {kind: shipped.names(kind) for kind in ("topologies", "workloads", "calibrations")}


def _study(study: str | Path | Mapping[str, Any]) -> tuple[StudyDocument, Path]:
    if not isinstance(study, Mapping):
        return load_whatif(Path(study)), Path(study).parent
    from pydantic import ValidationError

    try:
        return StudyDocument.model_validate(dict(study)), Path()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StudyError(f"the study is malformed: {wrong}") from None


def _found(folder: Path, reference: str) -> str:
    beside = folder / reference
    return str(beside) if beside.is_file() else reference


def _frame(rows: Rows | list[dict[str, object]]) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise StudyError("tables need pandas: pip install 'planner[notebooks]'") from None
    return pandas.DataFrame(rows)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


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
