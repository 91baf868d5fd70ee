"""Load a stored plan together with the inputs it was made from, and refuse one whose inputs changed."""

from __future__ import annotations

from pathlib import Path

from planner.costs import load_calibration
from planner.errors import DigestMismatchError, PlanError
from planner.placement import Plan, TrainingPlan, check, connected_groups, make_problem
from planner.schema import digest, load
from planner.study.solving import Study
from planner.topology import Topology, load_topology
from planner.workload import load_workload


def load_study(plan_path: Path, *, topology: str | None = None, workload: str | None = None, force: bool = False) -> Study:
    """Return a plan with its inputs, found where the plan says or where the caller says.

    Parameters
    ----------
    force
        Accept inputs that changed since the plan was made.

    Raises
    ------
    DigestMismatchError
        If an input changed.
    PlanError
        If the plan does not say where an input is.
    """
    plan = load(plan_path, Plan)
    machine = load_topology(_where(plan, "topology", topology, plan_path))
    jobs = load_workload(_where(plan, "workload", workload, plan_path))
    calibration = load_calibration(_where(plan, "calibration", None, plan_path))
    found = {"topology": machine.digest, "workload": jobs.digest, "calibration": digest(calibration)}
    for name, content in found.items():
        expected = getattr(plan.inputs, name).digest
        if content != expected and not force:
            raise DigestMismatchError(name, expected, content)
    problems = {
        resolved.job.name: make_problem(resolved.job, resolved.model, machine, calibration, _gpus(machine, plan, resolved.job.name))
        for resolved in jobs.jobs
    }
    return Study(machine, jobs, calibration, problems, plan)


def _where(plan: Plan, name: str, given: str | None, plan_path: Path) -> str | Path:
    reference = given or getattr(plan.inputs, name).path
    if reference is None:
        raise PlanError(f"{plan_path} does not say where its {name} is; name it with --{name}")
    beside = plan_path.parent / reference
    return beside if beside.is_file() and not Path(reference).is_file() else reference


def _gpus(topology: Topology, plan: Plan, job: str) -> list[str]:
    """Return the GPUs that the job's problem was made of: its whole connected group, or its share of several."""
    placed = next((item for item in plan.jobs if item.name == job), None)
    if placed is None:
        raise PlanError(f"the plan has no job {job!r} of the workload")
    used = set(placed.ranks() if isinstance(placed, TrainingPlan) else placed.gpus())
    if len(plan.jobs) == 1:
        return next((group for group in connected_groups(topology) if used & set(group)), list(topology.gpus))
    return [gpu for gpu in topology.gpus if gpu in used]


def check_study(study: Study) -> list[str]:
    """Return every rule that the plan of a study breaks."""
    return check(study.problems, study.plan)

