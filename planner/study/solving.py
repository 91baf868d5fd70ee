"""Solve a workload on a topology: the problem and plan of every job, one `Plan` with its proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner import __version__
from planner.errors import InfeasibleError, NoPlanError, PlanError, WorkloadError
from planner.placement import (
    Decision,
    JobPlan,
    Objective,
    Plan,
    Problem,
    Solver,
    check,
    groups_for,
    make_problem,
)
from planner.placement.mixed import AnyProblem
from planner.placement.provenance import assumed_share
from planner.solve import Budget, JobSolution, solve_job
from planner.solve.budget import never
from planner.solve.cuts import AnyCut
from planner.study.hosts import clashing_cores
from planner.study.inputs import Documents, Sources, Study, load_documents
from planner.study.link_loads import busiest_links
from planner.study.mixed import best_with_mixed, mixed_problem
from planner.study.sharing import ShareSearch, make_share
from planner.study.wishes import NO_WISHES, Wishes
from planner.workload import ResolvedJob

GRACE = 10.0
"""Time to place the jobs on shares that are settled when the budget is over, s."""


@dataclass(frozen=True)
class Solved:
    """The solutions of all jobs and what was proven of them together.

    Attributes
    ----------
    weights
        Share of the objective that each job stands for.
    """

    problems: dict[str, AnyProblem]
    solutions: dict[str, JobSolution]
    objective: Objective
    bound: float
    weights: dict[str, float]
    proof: str


def solve_files(sources: Sources, budget: Budget | None = None) -> Study:
    """Load the inputs, solve, and check the plan.

    Raises
    ------
    PlannerError
        Any of its kinds: malformed inputs, no feasible plan, no plan in time.
    """
    return solve(load_documents(sources), budget or Budget(), sources)


def solve(
    documents: Documents, budget: Budget, sources: Sources | None = None, wishes: Wishes = NO_WISHES
) -> Study:
    """Return the best plan of a workload on a topology, checked by the judge.

    Parameters
    ----------
    wishes
        A plan to start from, and decisions that are fixed.

    Raises
    ------
    InfeasibleError
        If some job, or the jobs together, fit in no way.
    NoPlanError
        If the budget ended before there was a plan.
    PlanError
        If the judge finds a broken rule in the plan: a defect of the program.
    """
    jobs, topology = documents.workload.jobs, documents.topology
    if not topology.gpus:
        raise WorkloadError(f"topology {topology.name!r} has no GPU to run {jobs[0].job.name!r} on")
    try:
        held = wishes.restricted(documents)
        if len(jobs) == 1:
            solved = _solve_alone(held, held.workload.jobs[0], budget, wishes)
        else:
            solved = _solve_together(held, budget)
    except InfeasibleError as error:
        raise wishes.blamed(error, documents, budget) from error
    return finished(documents, replace(solved, proof=solved.proof + wishes.proviso), budget, sources)


def finished(documents: Documents, solved: Solved, budget: Budget, sources: Sources | None) -> Study:
    """Return the study of solved jobs, their plan passed by the judge.

    Raises
    ------
    PlanError
        If the judge finds a broken rule in the plan: a defect of the program.
    """
    plan = _plan(documents, solved, budget, sources)
    broken = [*check(solved.problems, plan), *clashing_cores(plan)]
    if broken:
        raise PlanError("the plan breaks rules: " + "; ".join(broken))
    return Study(documents.topology, documents.workload, documents.calibration, solved.problems, plan)


def _solve_alone(documents: Documents, resolved: ResolvedJob, budget: Budget, wishes: Wishes) -> Solved:
    """Solve a job on each connected group of equal GPUs, and training on all models of a cluster together."""
    name, topology = resolved.job.name, documents.topology
    groups = groups_for(resolved.job, topology) if topology.gpus else []
    if not groups:
        raise WorkloadError(
            f"topology {topology.name!r} has no GPU for job {name!r}; describe some under 'gpus'"
        )
    problems = [
        make_problem(resolved.job, resolved.model, topology, documents.calibration, gpus)
        for gpus in wishes.groups(name, topology.gpus, groups)
    ]
    problem, best, bound = _best_of_models(documents, resolved, problems, budget, wishes)
    return Solved(
        {name: problem},
        {name: best},
        Objective(name=best.objective, value=best.value, unit=best.unit),
        bound,
        {name: 1.0},
        best.how,
    )


def _best_of_models(
    documents: Documents, resolved: ResolvedJob, problems: list[Problem], budget: Budget, wishes: Wishes
) -> tuple[AnyProblem, JobSolution, float]:
    """Return the best solution on a group of equal GPUs or on several models together, and the bound."""
    start, cuts = wishes.start(resolved.job.name), wishes.cuts
    placed = any(fix.is_place for fix in wishes.fixes)
    mixed = None if placed else mixed_problem(documents, resolved)
    if mixed is None:
        return _best_of(problems, budget, start, cuts)
    return best_with_mixed(
        mixed,
        budget,
        lambda: _best_of(problems, budget, start, cuts, explain=False),
        lambda problem: solve_job(problem, budget, start=start, cuts=cuts),
        start,
    )


def _best_of(
    problems: list[Problem],
    budget: Budget,
    start: JobPlan | None,
    cuts: Sequence[AnyCut],
    *,
    explain: bool = True,
) -> tuple[Problem, JobSolution, float]:
    """Return the best solution of several problems, and the least bound over all of them."""
    if len(problems) == 1:
        solution = solve_job(problems[0], budget, explain=explain, start=start, cuts=cuts)
        return problems[0], solution, solution.bound
    solved: list[tuple[Problem, JobSolution]] = []
    refused: list[InfeasibleError] = []
    bounds: list[float] = []
    late: NoPlanError | None = None
    for problem in problems:
        try:
            solution = solve_job(problem, budget, explain=False, start=start, cuts=cuts)
        except InfeasibleError as error:
            refused.append(error)
            continue
        except NoPlanError as error:
            late = error
            bounds.append(error.bound or 0.0)
            continue
        solved.append((problem, solution))
        bounds.append(solution.bound)
    if not solved:
        raise late or _joined(refused)
    problem, best = min(solved, key=lambda item: item[1].value)
    if explain and not budget.over:
        again = solve_job(problem, budget, start=start, cuts=cuts)
        best = again if again.value <= best.value else best
    return problem, best, min(bounds)


def _joined(errors: list[InfeasibleError]) -> InfeasibleError:
    """Return one error for a job that no group of GPUs can hold, each reason once."""
    first, others = errors[0], {str(error): error for error in errors[1:]}
    also = "".join(f"; nor on another group: {text}" for text in others if text != str(first))
    return InfeasibleError(str(first) + also, remedy="") if also else first


def _solve_together(documents: Documents, budget: Budget) -> Solved:
    """Share the machine out among several jobs and solve each on its share."""
    shares = ShareSearch(documents, budget).run()
    last = replace(budget, seconds=max(budget.seconds, budget.elapsed + GRACE), stopped=never)
    problems: dict[str, AnyProblem] = {}
    solutions: dict[str, JobSolution] = {}
    for resolved in documents.workload.jobs:
        name = resolved.job.name
        share = make_share(documents, resolved, shares.gpus[name])
        problems[name], solutions[name] = share, _named(name, solve_job(share, last))
    slowdown = {name: solution.value / shares.alone[name] for name, solution in solutions.items()}
    value = sum(slowdown.values()) / len(slowdown)
    return Solved(
        problems,
        solutions,
        Objective(name="mean_slowdown", value=value, unit="1"),
        shares.bound,
        {name: factor / sum(slowdown.values()) for name, factor in slowdown.items()},
        "slowdown: objective of a job over what it would reach alone; shares: consecutive nodes of one kind, "
        "or GPUs of a single node",
    )


def _named(name: str, solution: JobSolution) -> JobSolution:
    """Return a solution whose decisions say whose they are."""
    decisions = [
        Decision.model_validate(item.model_copy(update={"decision": f"{name}: {item.decision}"}))
        for item in solution.decisions
    ]
    return replace(solution, decisions=decisions)


def _plan(documents: Documents, solved: Solved, budget: Budget, sources: Sources | None) -> Plan:
    solutions, value = solved.solutions, solved.objective.value
    bound = min(solved.bound, value)
    gap = (value - bound) / value if value > 0 else 0.0
    single = len(solutions) == 1
    precision = max(solution.precision for solution in solutions.values())
    return Plan(
        schema_="plan/1",
        name=documents.plan_name,
        inputs=documents.references(sources),
        solver=Solver(
            planner=__version__,
            engine=_engine(),
            seed=budget.seed,
            time_limit=budget.seconds,
            seconds=budget.elapsed,
            candidates=sum(solution.evaluated for solution in solutions.values()),
            visited=sum(solution.visited for solution in solutions.values()),
        ),
        status="optimal" if gap <= precision else "feasible",
        proof=_proof(solved.proof, proven=gap <= precision),
        objective=solved.objective,
        bound=bound,
        gap=gap,
        jobs=[solution.plan for solution in solutions.values()],
        links=busiest_links(
            documents.topology, {name: (solved.problems[name], s.plan) for name, s in solutions.items()}
        ),
        baselines=[baseline for solution in solutions.values() if single for baseline in solution.baselines],
        why=[decision for solution in solutions.values() for decision in solution.decisions],
        assumed_share=sum(
            solved.weights[name] * assumed_share(solved.problems[name], solution.plan)
            for name, solution in solutions.items()
        ),
    )


def _engine() -> str:
    from importlib.metadata import version

    return f"CP-SAT (ortools {version('ortools')})"


def _proof(how: str, *, proven: bool) -> str:
    if proven:
        return f"No plan of the search space is better. {how[0].upper()}{how[1:]}."
    return (
        "No plan of the search space is below the bound; the gap stays open because the time ended or a "
        f"layout could be neither built nor excluded. {how[0].upper()}{how[1:]}."
    )
