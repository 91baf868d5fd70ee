"""Load a stored plan together with the inputs it was made from, and refuse one whose inputs changed."""

from __future__ import annotations

import os
from pathlib import Path

from planner.errors import DigestMismatchError, PlanError
from planner.placement import (
    JobPlan,
    Plan,
    TrainingPlan,
    check,
    groups_for,
    make_problem,
)
from planner.placement.mixed import AnyProblem
from planner.schema import load, presets
from planner.study.hosts import clashing_cores, stated_part
from planner.study.inputs import Documents, Sources, Study, load_documents
from planner.study.link_loads import misstated_links
from planner.study.mixed import mixed_problem
from planner.workload import ResolvedJob

KINDS = {"topology": "topologies", "workload": "workloads", "calibration": "calibrations"}


def load_study(
    plan_path: Path,
    *,
    topology: str | None = None,
    workload: str | None = None,
    calibration: str | None = None,
    force: bool = False,
) -> Study:
    """Return a plan with its inputs, found where the caller says or where the plan says.

    Parameters
    ----------
    plan_path
        The plan. Paths in it are relative to its folder.
    topology, workload, calibration
        Files or presets that stand for the inputs that the plan names.
    force
        Accept inputs that changed since the plan was made.

    Raises
    ------
    DigestMismatchError
        If an input changed.
    PlanError
        If an input is not where the plan says, or the plan does not fit its inputs.
    """
    plan = load(plan_path, Plan)
    given = {"topology": topology, "workload": workload, "calibration": calibration}
    where = {what: given[what] or _where(plan_path, plan, what) for what in KINDS}
    documents = load_documents(Sources(where["topology"], where["workload"], where["calibration"]))
    if not force:
        _refuse_changes(plan, documents)
    return study_of(documents, plan)


def _where(plan_path: Path, plan: Plan, what: str) -> str:
    """Return the file or preset of an input as the plan names it."""
    reference = getattr(plan.inputs, what).path
    if reference is None:
        raise PlanError(f"{plan_path} does not say where its {what} is; name it with --{what}")
    beside = Path(os.path.normpath(plan_path.parent / reference))
    if beside.is_file():
        return str(beside)
    if presets.exists(KINDS[what], reference):
        return str(reference)
    raise PlanError(f"{plan_path}: its {what} is no longer at {beside}; say where it is with --{what}")


def _refuse_changes(plan: Plan, documents: Documents) -> None:
    for what, content in documents.digests.items():
        expected = getattr(plan.inputs, what).digest
        if content != expected:
            raise DigestMismatchError(what, expected, content)


def _problem(documents: Documents, plan: Plan, resolved: ResolvedJob) -> AnyProblem:
    """Return the problem of one job: on the whole group of GPUs that it was solved on, or on its share."""
    placed = _placed(plan, resolved.job.name)
    topology, used = documents.topology, placed.gpus()
    unknown = [gpu for gpu in used if gpu not in set(topology.gpus)]
    if unknown:
        raise PlanError(f"the plan uses the GPU {unknown[0]!r}, which topology {topology.name!r} lacks")
    if isinstance(placed, TrainingPlan) and placed.micro_batches:
        mixed = mixed_problem(documents, resolved)
        if mixed is None:
            raise PlanError(f"{placed.name}: a plan on GPUs of several models for a job that cannot use them")
        return mixed
    if len(plan.jobs) == 1:
        groups = groups_for(resolved.job, topology)
        gpus = next((group for group in groups if used and set(used) <= set(group)), groups[0])
    else:
        gpus = [gpu for gpu in topology.gpus if gpu in set(used)]
        topology = stated_part(topology, plan, placed)
    return make_problem(resolved.job, resolved.model, topology, documents.calibration, gpus)


def _placed(plan: Plan, name: str) -> JobPlan:
    placed: JobPlan | None = next((job for job in plan.jobs if job.name == name), None)
    if placed is None:
        raise PlanError(f"the plan has no job {name!r} of the workload; it was made from another one")
    return placed


def check_study(study: Study) -> list[str]:
    """Return every rule that the plan of a study breaks, as sentences."""
    found = [*check(study.problems, study.plan), *clashing_cores(study.plan)]
    return found or list(misstated_links(study))


def study_of(documents: Documents, plan: Plan) -> Study:
    """Return a plan with inputs that are already loaded.

    Raises
    ------
    PlanError
        If the plan does not fit its inputs.
    """
    problems = {
        resolved.job.name: _problem(documents, plan, resolved) for resolved in documents.workload.jobs
    }
    return Study(documents.topology, documents.workload, documents.calibration, problems, plan)
