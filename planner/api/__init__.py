"""The library for notebooks and scripts: ``import planner.api as planner``.

Examples
--------
>>> import planner.api as planner
>>> result = planner.solve("hgx-h200", "llama3-70b-serving")  # doctest: +SKIP
>>> result.plan.objective.value  # doctest: +SKIP
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planner.api.results import Result
from planner.api.studies import Advice, Sweep
from planner.errors import StudyError
from planner.report.bundle import SIMULATION
from planner.schema import load
from planner.schema import presets as shipped
from planner.simulate import SimulationResult
from planner.solve import Budget
from planner.study import Sources, load_study, solve_files
from planner.study import recommend as recommending
from planner.study.recommend import By, Question, load_block
from planner.study.whatif import Options, Runner, StudyDocument, load_whatif, make_scenarios
from planner.study.whatif.running import local, serial

__all__ = ["Advice", "Result", "Sweep", "load_plan", "presets", "recommend", "solve", "whatif"]


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
    with _runner(folder, processes) as runner:
        return Sweep(document, runner.run(scenarios))


def recommend(
    workload: str | Path,
    blocks: Sequence[str | Path] | Mapping[str | Path, float],
    *,
    by: By = "gpus",
    loads: Sequence[float] = (1.0,),
    within: float | None = None,
    max_nodes: int = 8,
    mix: bool = False,
    requests: int = 4000,
    time_limit: float = 30.0,
    seed: int = 0,
    calibration: str | Path = "default",
    folder: str | Path | None = None,
    processes: int = 1,
) -> Advice:
    """Find the smallest cluster of given blocks that holds the limits of a workload, for each load.

    Parameters
    ----------
    blocks
        Machines or clusters to build from, files or presets; with their prices, USD/h, where a mapping.
    by
        What is to be least: ``gpus``, ``nodes`` or ``cost``.
    loads
        Factors of the traffic that the workload states; several give the capacity curve.
    within
        Limit on the step of jobs that are no services, s.
    mix
        Whether clusters of several kinds of blocks are looked at too.
    time_limit
        Time for the search of one cluster, s.
    folder
        Where plans and figures are kept for the next call; nothing is kept when absent.
    processes
        Processes to run on; one runs in this process.

    Raises
    ------
    PlannerError
        If an input is wrong or states no limits. A load that no cluster holds is an outcome, not an error.
    """
    prices = blocks if isinstance(blocks, Mapping) else dict.fromkeys(blocks)
    chosen = tuple(load_block(str(block), None, price, max_nodes) for block, price in prices.items())
    options = Options(time_limit=time_limit, seed=seed, requests=requests, hold_limits=True)
    question = Question(
        str(workload), chosen, by, tuple(loads), within, max_nodes, mix, calibration=str(calibration),
        options=options,
    )  # fmt: skip
    with _runner(folder, processes) as runner:
        return Advice(recommending.recommend(question, runner))


@contextmanager
def _runner(folder: str | Path | None, processes: int) -> Iterator[Runner]:
    """Yield a runner that keeps its results in a folder, or nowhere for longer than it runs."""
    execute = serial if processes == 1 else local(processes)
    if folder is not None:
        yield Runner(Path(folder), execute)
        return
    with tempfile.TemporaryDirectory(prefix="planner-") as passing:
        yield Runner(Path(passing), execute)


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
