"""Solve a workload on a topology: problems, plans of all jobs, one `Plan` with its proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from planner import __version__
from planner.costs import Calibration, load_calibration
from planner.errors import InfeasibleError, NoPlanError, PlanError, WorkloadError
from planner.placement import (
    InputReference,
    Inputs,
    LinkLoad,
    Objective,
    Plan,
    Problem,
    ServingPlan,
    ServingProblem,
    Solver,
    TrainingPlan,
    TrainingProblem,
    check,
    connected_groups,
    make_problem,
)
from planner.placement.flows import link_loads, representative_nodes, serving_flows, training_flows
from planner.placement.provenance import assumed_share
from planner.schema import digest
from planner.solve import Budget, JobSolution, Option, share_out, share_units, solve_job, unit_counts
from planner.topology import Router, Topology, load_topology
from planner.workload import ResolvedJob, Workload, load_workload


@dataclass(frozen=True)
class Study:
    """A plan with everything that it was made from."""

    topology: Topology
    workload: Workload
    calibration: Calibration
    problems: dict[str, Problem]
    plan: Plan


@dataclass(frozen=True)
class Sources:
    """The inputs of a solve as the user named them."""

    topology: str | Path
    workload: str | Path
    calibration: str | Path = "default"


def solve_files(sources: Sources, budget: Budget | None = None) -> Study:
    """Load the inputs, solve, and check the plan.

    Raises
    ------
    PlannerError
        Any of its kinds: malformed inputs, no feasible plan, no plan in time.
    """
    topology = load_topology(sources.topology)
    workload = load_workload(sources.workload)
    calibration = load_calibration(sources.calibration)
    return solve(topology, workload, calibration, budget or Budget(), sources)


def solve(
    topology: Topology, workload: Workload, calibration: Calibration, budget: Budget, sources: Sources | None = None
) -> Study:
    """Return the best plan of a workload on a topology, checked by the judge.

    Raises
    ------
    InfeasibleError
        If some job, or the jobs together, fit in no way.
    NoPlanError
        If the budget ended before there was a plan.
    PlanError
        If the judge finds a broken rule in the plan: a defect of the program.
    """
    solved = dict(_solve_jobs(topology, workload, calibration, budget))
    problems = {name: problem for name, (problem, _) in solved.items()}
    plan = _assemble(topology, workload, calibration, solved, budget, sources)
    broken = check(problems, plan)
    if broken:
        raise PlanError("the plan breaks rules: " + "; ".join(broken))
    return Study(topology, workload, calibration, problems, plan)


Solved = tuple[Problem, JobSolution]


def _solve_jobs(
    topology: Topology, workload: Workload, calibration: Calibration, budget: Budget
) -> Iterator[tuple[str, Solved]]:
    if len(workload.jobs) == 1:
        resolved = workload.jobs[0]
        yield resolved.job.name, solve_on_best_group(resolved, topology, calibration, connected_groups(topology), budget)
        return
    units = share_units(topology)
    shares = _shares(topology, workload, calibration, units, budget)
    start = 0
    for resolved in workload.jobs:
        count = shares[resolved.job.name]
        gpus = [gpu for unit in units[start : start + count] for gpu in unit]
        start += count
        problem = make_problem(resolved.job, resolved.model, topology, calibration, gpus)
        yield resolved.job.name, (problem, solve_job(problem, budget))


def solve_on_best_group(
    resolved: ResolvedJob, topology: Topology, calibration: Calibration, groups: list[list[str]], budget: Budget
) -> Solved:
    """Solve a job on each connected group of equal GPUs and return the best: a plan never mixes groups.

    The bound is the least one over the groups, so the proof covers all of them.
    """
    if not groups:
        raise WorkloadError(f"topology {topology.name!r} has no GPU for job {resolved.job.name!r}")
    solved: list[Solved] = []
    failures: list[InfeasibleError | NoPlanError] = []
    for gpus in groups:
        problem = make_problem(resolved.job, resolved.model, topology, calibration, gpus)
        try:
            solved.append((problem, solve_job(problem, budget, explain=len(groups) == 1)))
        except (InfeasibleError, NoPlanError) as error:
            failures.append(error)
    if not solved:
        raise failures[0]
    problem, best = min(solved, key=lambda item: item[1].value)
    if len(groups) > 1:
        best = replace(solve_job(problem, budget), bound=min(solution.bound for _, solution in solved))
    return problem, best


def _shares(
    topology: Topology, workload: Workload, calibration: Calibration, units: list[list[str]], budget: Budget
) -> dict[str, int]:
    """Return how many units each job gets: solved for several sizes, shared out by CP-SAT."""
    values: dict[str, dict[int, float]] = {}
    for resolved in workload.jobs:
        found = values.setdefault(resolved.job.name, {})
        for count in unit_counts(len(units), len(workload.jobs)):
            gpus = [gpu for unit in units[:count] for gpu in unit]
            problem = make_problem(resolved.job, resolved.model, topology, calibration, gpus)
            try:
                found[count] = solve_job(problem, budget, explain=False).value
            except InfeasibleError as error:
                last = error
        if not found:
            raise last
    options = {
        job: [Option(count, value / min(found.values())) for count, value in found.items()] for job, found in values.items()
    }
    return share_out(options, len(units), seconds=budget.left, seed=budget.seed)


def _assemble(
    topology: Topology,
    workload: Workload,
    calibration: Calibration,
    solved: dict[str, Solved],
    budget: Budget,
    sources: Sources | None,
) -> Plan:
    solutions = [solution for _, solution in solved.values()]
    first = solutions[0]
    single = len(solutions) == 1
    value = first.value if single else sum(s.value for s in solutions)
    bound = first.bound if single else sum(s.bound for s in solutions)
    gap = max(0.0, (value - bound) / value)
    proven = all(solution.proven for solution in solutions)
    weights = [(assumed_share(problem, s.plan), s.value) for problem, s in solved.values()]
    return Plan(
        schema_="plan/1",
        name=f"{workload.name}-on-{topology.name}",
        inputs=_inputs(topology, workload, calibration, sources),
        solver=Solver(
            planner=__version__, engine=_engine(), seed=budget.seed, time_limit=budget.seconds, seconds=budget.elapsed,
            candidates=sum(s.evaluated for s in solutions), visited=sum(s.visited for s in solutions),
        ),
        status="optimal" if proven else "feasible",
        proof=_proof(proven, single, first),
        objective=Objective(name=first.objective if single else "sum", value=value, unit=first.unit),
        bound=min(bound, value), gap=gap,
        jobs=[solution.plan for solution in solutions],
        links=busiest_links(topology, {name: (problem, s.plan) for name, (problem, s) in solved.items()}),
        baselines=first.baselines if single else [],
        why=[decision for solution in solutions for decision in solution.decisions],
        assumed_share=sum(share * v for share, v in weights) / sum(v for _, v in weights),
    )  # fmt: skip


def _inputs(topology: Topology, workload: Workload, calibration: Calibration, sources: Sources | None) -> Inputs:
    def reference(name: str, content: str, path: str | Path | None) -> InputReference:
        return InputReference(name=name, digest=content, path=None if path is None else str(path))

    return Inputs(
        topology=reference(topology.name, topology.digest, sources.topology if sources else None),
        workload=reference(workload.name, workload.digest, sources.workload if sources else None),
        calibration=reference(calibration.name, digest(calibration), sources.calibration if sources else None),
    )


def _engine() -> str:
    from importlib.metadata import version

    return f"CP-SAT (ortools {version('ortools')})"


def _proof(proven: bool, single: bool, solution: JobSolution) -> str:
    what = "every strategy of the search space and every placement of its ranks" if single else "each job on its share"
    if not proven:
        return f"{what}: nothing is better than the bound; the gap is open because the time ended or a layout is unresolved"
    if single:
        return f"{what} is no better: {solution.evaluated:,} priced, {solution.visited:,} placed, the rest excluded by bound"
    return f"{what} is optimal; shares are whole nodes (or GPUs), tried in powers of two"


def busiest_links(topology: Topology, placed: dict[str, tuple[Problem, TrainingPlan | ServingPlan]]) -> list[LinkLoad]:
    """Return the ten busiest links under the plans' traffic, by mean utilisation.

    Training traffic is symmetric over nodes; two representative nodes stand for all.
    """
    router, loads = Router(topology), []
    for problem, plan in placed.values():
        if isinstance(problem, TrainingProblem) and isinstance(plan, TrainingPlan):
            nodes = representative_nodes(plan.strategy, plan.ranks())
            loads += link_loads(training_flows(problem, plan, nodes), router, plan.prediction.step_time)
        elif isinstance(problem, ServingProblem) and isinstance(plan, ServingPlan):
            loads += link_loads(serving_flows(problem, plan), router, 1.0)
    return sorted(loads, key=lambda item: -item.utilisation)[:10]
