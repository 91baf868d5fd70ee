"""Shadow questions: what the objective would be with a little more of what the machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from planner.errors import InfeasibleError, NoPlanError, PlannerError
from planner.placement import (
    JobPlan,
    Problem,
    ServingProblem,
    TrainingProblem,
    connected_groups,
    make_problem,
)
from planner.solve import Budget, solve_job
from planner.study.inputs import Study
from planner.topology import Hierarchy, NodeGroup, Topology, resolve

MORE = 1.1
"""Factor of memory and of link rates in the questions."""
ADDED = "one-more"
"""Name of the node or GPU that the questions add."""


@dataclass(frozen=True)
class Shadow:
    """The answer to one shadow question.

    Attributes
    ----------
    value, bound
        Objective that the search reached and its proven lower bound; ``None`` where nothing was found.
    gain
        By how much the value is better than the plan's, a ratio: 0.1 means 10 % less.
    most
        The most that the gain could be, after the bound.
    note
        Why there is no answer.
    """

    question: str
    value: float | None = None
    bound: float | None = None
    gain: float | None = None
    most: float | None = None
    note: str = ""


def shadows(study: Study, budget: Budget) -> list[Shadow]:
    """Solve again with one more node or GPU, more memory and faster links, each in its share of the time.

    Every search starts from the plan, which stays legal, so that no answer is worse than it.

    Raises
    ------
    PlannerError
        If the plan has several jobs, or one of a kind that has no such questions.
    """
    job = study.plan.jobs[0]
    problem = study.problems[job.name]
    if len(study.plan.jobs) > 1 or not isinstance(problem, TrainingProblem | ServingProblem):
        raise PlannerError("shadow questions are asked of plans of one training or serving job")
    asked = list(_questions(study, problem))
    return [
        _answer(question, change, job, study.plan.objective.value, budget.part(budget.seconds / len(asked)))
        for question, change in asked
    ]


Change = Callable[[], Problem | None]


def _questions(study: Study, problem: TrainingProblem | ServingProblem) -> Iterator[tuple[str, Change]]:
    if study.topology.document.nodes:
        yield "one more node", lambda: _with_node(study)
    elif isinstance(problem, TrainingProblem):
        yield "one more GPU", lambda: _with_gpu(problem)
    yield f"{MORE - 1:.0%} more GPU memory", lambda: _with_memory(problem)
    yield f"links between GPUs {MORE - 1:.0%} faster", lambda: _with_links(problem)


def _answer(question: str, change: Change, job: JobPlan, now: float, budget: Budget) -> Shadow:
    problem = change()
    if problem is None:
        return Shadow(question, note="the network is given link by link; add the node to the document")
    try:
        solution = solve_job(problem, budget, explain=False, start=job)
    except (InfeasibleError, NoPlanError) as error:
        return Shadow(question, note=str(error))
    bound = min(solution.bound, solution.value)
    return Shadow(question, solution.value, bound, 1.0 - solution.value / now, 1.0 - bound / now)


def _with_memory(problem: TrainingProblem | ServingProblem) -> Problem:
    memory = problem.device.memory
    larger = memory.model_copy(update={"value": memory.value * MORE})
    return replace(problem, device=problem.device.model_copy(update={"memory": larger}))


def _with_links(problem: TrainingProblem | ServingProblem) -> Problem:
    old = problem.hierarchy
    levels = tuple(replace(level, rate=level.rate * MORE) for level in old.levels)
    mesh = old.mesh.scaled(MORE) if old.mesh is not None else None
    return replace(problem, hierarchy=Hierarchy(old.gpus, levels, mesh))


def _with_gpu(problem: TrainingProblem) -> Problem:
    """Return the problem with one more GPU beside the last one."""
    old = problem.hierarchy
    name = f"{old.gpus[-1].split('/', 1)[0]}/{ADDED}"
    levels = tuple(
        replace(level, domain_of=np.append(level.domain_of, level.domain_of[-1])) for level in old.levels
    )
    return replace(problem, hierarchy=Hierarchy((*old.gpus, name), levels))


def _with_node(study: Study) -> Problem | None:
    """Return the problem with one more node like the first of the plan's; ``None`` where it needs cables."""
    topology, job = study.topology, study.plan.jobs[0]
    if topology.explicit_links:
        return None
    used = job.gpus()[0]
    machine = topology.node_of[used.split("/", 1)[0]].machine.name
    document = topology.document
    nodes = [*document.nodes, NodeGroup(name=ADDED, machine=machine)]
    larger: Topology = resolve(document.model_copy(update={"nodes": nodes}))
    group = next(gpus for gpus in connected_groups(larger) if used in set(gpus))
    resolved = next(each for each in study.workload.jobs if each.job.name == job.name)
    return make_problem(resolved.job, resolved.model, larger, study.calibration, group)
