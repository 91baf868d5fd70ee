"""One training job on a cluster of several device models: the best of one model alone and of all together."""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import NoPlanError, PlanError, WorkloadError
from planner.placement.mixed import MixedPlacement, MixedTrainingProblem, check_mixed, make_mixed_problem
from planner.solve import Budget, JobSolution
from planner.solve.mixed import one_kind, search_mixed
from planner.study.inputs import Documents
from planner.workload import TrainingJob, Transformer


@dataclass(frozen=True)
class MixedStudy:
    """The best plan over all device models.

    Attributes
    ----------
    placement
        The plan on several models together; ``None`` where one model alone, ``best_alone``, is faster.
    alone
        The best plan on the nodes of each model alone, ``None`` where the job does not fit there.
    seconds, bound
        Step time of the better of both, and the proven lower bound over both spaces, s.
    """

    problem: MixedTrainingProblem
    placement: MixedPlacement | None
    alone: dict[str, JobSolution | None]
    seconds: float
    bound: float

    @property
    def best_alone(self) -> str | None:
        """The device model that is fastest alone."""
        values = {name: one.value for name, one in self.alone.items() if one is not None}
        return min(values, key=values.__getitem__) if values else None


def plan_mixed(documents: Documents, budget: Budget) -> MixedStudy:
    """Return the best plan of a training job on some or all device models of a cluster, checked by the judge.

    Raises
    ------
    WorkloadError
        If the workload is not a single training job of a dense transformer.
    NoPlanError
        If neither space gave a plan in time, or none fits.
    PlanError
        If the judge finds a broken rule: a defect of the program.
    """
    resolved = documents.workload.jobs[0]
    job, model = resolved.job, resolved.model
    single = len(documents.workload.jobs) == 1
    if not single or not isinstance(job, TrainingJob) or not isinstance(model, Transformer):
        raise WorkloadError("mixed device models are planned for a single training job of a transformer")
    problem = make_mixed_problem(job, model, documents.topology, documents.calibration)
    names = [kind.device.name for kind in problem.kinds]
    alone = {name: one_kind(problem, number, budget) for number, name in enumerate(names)}
    found = [one for one in alone.values() if one is not None]
    limit = min((one.value for one in found), default=float("inf"))
    solution = search_mixed(problem, budget, limit)
    if solution.seconds == float("inf"):
        raise NoPlanError(f"job {job.name!r}: no plan on any device models together within the time")
    if solution.placement is not None:
        broken = check_mixed(problem, solution.placement, solution.seconds)
        if broken:
            raise PlanError("the plan breaks rules: " + "; ".join(broken))
    bound = min([solution.bound, *(one.bound for one in found)])
    return MixedStudy(problem, solution.placement, alone, solution.seconds, bound)
