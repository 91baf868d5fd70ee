"""The judge: every rule of the problem and the objective, recomputed from the plan alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from planner.placement.ensemble_check import ensemble_objective, ensemble_problems
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.ensemble_problem import EnsembleProblem
from planner.placement.graphs import OperatorsProblem, operators_objective, operators_problems
from planner.placement.mixed import AnyProblem, MixedTrainingProblem, judge_mixed
from planner.placement.mixed_plan import mixed_claims, mixed_plan_problems, placement_of
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import JobPlan, Plan, ServingPlan, TrainingPlan
from planner.placement.pools import judge_service, service_outcome_problems, service_problems
from planner.placement.problem import ServingProblem, TrainingProblem
from planner.placement.recommender import recommender_objective, recommender_problems
from planner.placement.recommender_plan import RecommenderPlan
from planner.placement.recommender_problem import RecommenderProblem
from planner.placement.stated import misplaced_transfers, stated_serving, stated_training
from planner.placement.training import judge_plan, training_memory_problems, training_problems

Problems = Mapping[str, AnyProblem]


def objective(problem: AnyProblem, plan: JobPlan) -> float:
    """Return the objective of one job's plan, recomputed: a time, s, or a number of GPUs.

    Raises
    ------
    KeyError
        If the plan names a GPU that the problem lacks.
    TypeError
        If problem and plan are of different kinds.
    """
    if isinstance(problem, TrainingProblem) and isinstance(plan, TrainingPlan):
        return judge_plan(problem, plan).step_time
    if isinstance(problem, MixedTrainingProblem) and isinstance(plan, TrainingPlan):
        return judge_mixed(problem, placement_of(plan)).step_time
    if isinstance(problem, ServingProblem) and isinstance(plan, ServingPlan):
        return problem.value(float(len(plan.gpus())), judge_service(problem, plan).latency_p99)
    if isinstance(problem, OperatorsProblem) and isinstance(plan, OperatorsPlan):
        return operators_objective(problem, plan)
    if isinstance(problem, RecommenderProblem) and isinstance(plan, RecommenderPlan):
        return recommender_objective(problem, plan)
    if isinstance(problem, EnsembleProblem) and isinstance(plan, EnsemblePlan):
        return ensemble_objective(problem, plan)
    raise TypeError(f"a {type(problem).__name__} cannot judge a {plan.kind} plan")


def check_job(problem: AnyProblem, plan: JobPlan) -> list[str]:
    """Return every rule that one job's plan breaks, as sentences; empty when it is legal."""
    if isinstance(problem, TrainingProblem) and isinstance(plan, TrainingPlan):
        found = [*mixed_claims(plan), *training_problems(problem, plan)]
        if found:
            return found
        outcome = judge_plan(problem, plan)
        broken = training_memory_problems(problem, plan, outcome)
        return list(dict.fromkeys([*broken, *stated_training(problem, plan, outcome)]))
    if isinstance(problem, MixedTrainingProblem) and isinstance(plan, TrainingPlan):
        return list(mixed_plan_problems(problem, plan))
    if isinstance(problem, ServingProblem) and isinstance(plan, ServingPlan):
        found = list(service_problems(problem, plan)) or list(misplaced_transfers(problem, plan))
        if found:
            return found
        served = judge_service(problem, plan)
        return [*service_outcome_problems(problem, plan, served), *stated_serving(problem, plan, served)]
    if isinstance(problem, OperatorsProblem) and isinstance(plan, OperatorsPlan):
        return list(operators_problems(problem, plan))
    if isinstance(problem, RecommenderProblem) and isinstance(plan, RecommenderPlan):
        return list(recommender_problems(problem, plan))
    if isinstance(problem, EnsembleProblem) and isinstance(plan, EnsemblePlan):
        return list(ensemble_problems(problem, plan))
    return [f"{plan.name}: a {plan.kind} plan for another kind of job"]


def check(problems: Problems, plan: Plan) -> list[str]:
    """Return every rule that a plan breaks, over all of its jobs.

    Parameters
    ----------
    problems
        The problem of each job by name.
    """
    found: list[str] = []
    if sorted(problems) != sorted(job.name for job in plan.jobs):
        found.append(f"the plan places {[job.name for job in plan.jobs]}, the workload has {list(problems)}")
        return found
    for job in plan.jobs:
        found.extend(check_job(problems[job.name], job))
    used = Counter(gpu for job in plan.jobs for gpu in job.gpus())
    found.extend(f"GPU {gpu} is used by {count} ranks" for gpu, count in used.items() if count > 1)
    if plan.bound > plan.objective.value * (1 + 1e-9):
        found.append(f"the bound {plan.bound:.6g} exceeds the objective {plan.objective.value:.6g}")
    if len(plan.jobs) == 1 and not found:
        value = objective(problems[plan.jobs[0].name], plan.jobs[0])
        if abs(value - plan.objective.value) > 1e-6 * max(value, 1e-12):
            found.append(f"objective {plan.objective.value:.6g} stated, the judge finds {value:.6g}")
    return found
