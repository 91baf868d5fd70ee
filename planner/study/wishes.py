"""What a user asks of a solve beyond its inputs: a plan to start from, decisions that are fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.errors import InfeasibleError, PlannerError
from planner.placement import (
    JobPlan,
    Plan,
    Problem,
    ServingProblem,
    TrainingProblem,
    connected_groups,
    make_problem,
)
from planner.solve import Budget
from planner.solve.attempts import may_fit
from planner.solve.cuts import AnyCut
from planner.solve.cuts import sentence as cut_sentence
from planner.solve.degrees import degree_choices, divisors, powers_of_two
from planner.solve.fixes import Fix, FixError, allowed_gpus, checked, explained, fixed_job, sentence
from planner.study.inputs import Documents
from planner.workload import ResolvedJob, ServingJob, TrainingJob

ATTEMPT_SECONDS = 5.0
"""Time to find out whether something fits under other fixes, s each."""


@dataclass(frozen=True)
class Wishes:
    """A plan to start from, and decisions that are fixed.

    Attributes
    ----------
    hint
        Its decisions, judged anew, are the first incumbent where they are legal.
    cuts
        Strategies of a workload's only job, a service, that are left out.
    """

    hint: Plan | None = None
    fixes: tuple[Fix, ...] = ()
    cuts: tuple[AnyCut, ...] = ()

    def restricted(self, documents: Documents) -> Documents:
        """Return the documents with the degrees of every job held to the fixed values.

        Raises
        ------
        FixError
            If a fix names no job, field or value.
        InfeasibleError
            If a job's own degrees exclude every fixed value.
        """
        jobs = documents.workload.jobs
        fixable = [each.job for each in jobs if isinstance(each.job, TrainingJob | ServingJob)]
        checked(self.fixes, fixable)
        if len(jobs) > 1 and any(fix.is_place for fix in self.fixes):
            raise FixError("where a job runs can be fixed only when it is the only job of the workload")
        if len(jobs) > 1 and self.hint is not None:
            raise PlannerError("a hint needs a workload of a single job; solve without --hint")
        return replace(documents, workload=replace(documents.workload, jobs=tuple(map(self._held, jobs))))

    @property
    def proviso(self) -> str:
        """What the proof has to add for fixes and cuts, empty without any."""
        held = f"; the search space is held to {', '.join(map(str, self.fixes))}" if self.fixes else ""
        return held + (f"; {cut_sentence(self.cuts)}" if self.cuts else "")

    def _held(self, resolved: ResolvedJob) -> ResolvedJob:
        if isinstance(resolved.job, TrainingJob):
            return replace(resolved, job=fixed_job(resolved.job, self.fixes))
        if isinstance(resolved.job, ServingJob):
            return replace(resolved, job=fixed_job(resolved.job, self.fixes))
        return resolved

    def groups(self, name: str, gpus: Sequence[str], groups: list[list[str]]) -> list[list[str]]:
        """Return the parts of groups of GPUs that the named job may use, empty ones left out."""
        allowed = set(allowed_gpus(self.fixes, name, gpus))
        parts = [[gpu for gpu in group if gpu in allowed] for group in groups]
        return [part for part in parts if part]

    def start(self, name: str) -> JobPlan | None:
        """Return the hinted plan of a job."""
        jobs = self.hint.jobs if self.hint else []
        return next((job for job in jobs if job.name == name), None)

    def blamed(self, error: InfeasibleError, documents: Documents, budget: Budget) -> InfeasibleError:
        """Return an error that names the fixes that leave no plan, and the nearest ones that do.

        Of several jobs all fixes are named: which of them are to blame is found out for a single job only.
        """
        if not self.fixes:
            return error
        if len(documents.workload.jobs) > 1:
            named = [*map(str, self.fixes), *error.conflicts]
            return InfeasibleError(
                sentence(error), named, "drop one of the fixes, or solve one job at a time"
            )
        resolved = documents.workload.jobs[0]
        groups = connected_groups(documents.topology)

        def attempt(fixes: Sequence[Fix]) -> bool:
            other = Wishes(fixes=tuple(fixes))
            try:
                problems = other._problems(documents, resolved, groups)
            except InfeasibleError:
                return False
            return any(may_fit(problem, budget.part(ATTEMPT_SECONDS)) for problem in problems)

        def choices(fix: Fix) -> list[int]:
            free = Wishes(fixes=tuple(other for other in self.fixes if other.field != fix.field))
            problems = free._problems(documents, resolved, groups)
            return sorted({value for problem in problems for value in _choices(problem, fix.field)})

        return explained(error, self.fixes, attempt, choices)

    def _problems(
        self, documents: Documents, resolved: ResolvedJob, groups: list[list[str]]
    ) -> list[Problem]:
        held = self._held(resolved)
        topology, calibration = documents.topology, documents.calibration
        return [
            make_problem(held.job, held.model, topology, calibration, gpus)
            for gpus in self.groups(held.job.name, topology.gpus, groups)
        ]


NO_WISHES = Wishes()


def _choices(problem: Problem, field: str) -> list[int]:
    """Return the values of a degree that the search would try without a fix."""
    if isinstance(problem, TrainingProblem):
        return degree_choices(problem).get(field, [])
    if not isinstance(problem, ServingProblem):
        return []
    every = {
        "tp": divisors(problem.model.heads),
        "pp": powers_of_two(problem.model.layers),
        "replicas": list(range(1, problem.num_gpus + 1)),
        "adp": powers_of_two(problem.num_gpus),
    }
    return [value for value in every.get(field, []) if value <= problem.num_gpus]
