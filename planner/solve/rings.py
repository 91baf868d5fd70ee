"""Training on a mesh of direct links: the best set of GPUs of every size, then all other strategies.

A strategy whose only group is the whole set of its GPUs is priced at the rate of the rings through that set,
which depends on nothing else, so that the set with the highest rate is best for each size. Every size is a
search of its own on its best set; the general search, in which the levels hold for every pair, follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.placement import TrainingProblem
from planner.solve.budget import Budget
from planner.solve.degrees import degree_choices
from planner.solve.training import PlacedStrategy, TrainingSearch, search_training

AXES = ("tp", "dp", "cp")


def search_machine(
    problem: TrainingProblem, budget: Budget, best: PlacedStrategy | None = None
) -> TrainingSearch:
    """Return the finished search of a training problem on any machine; see :func:`search_training`."""
    parts = []
    for part in ring_problems(problem):
        parts.append(search_training(part, budget, best))
        best = parts[-1].best
    search = search_training(problem, budget, best)
    search.evaluated += sum(part.evaluated for part in parts)
    search.visited += sum(part.visited for part in parts)
    search.bound = min([search.bound, *(part.bound for part in parts)])
    return search


def ring_problems(problem: TrainingProblem) -> Iterator[TrainingProblem]:
    """Yield the problem of every axis and size on the best set of GPUs, none where sets are alike."""
    mesh, choices = problem.hierarchy.mesh, degree_choices(problem)
    if mesh is None:
        return
    for size in range(problem.num_gpus, 1, -1):
        gpus, rate = mesh.best(size)
        hierarchy = problem.hierarchy.subset(gpus).at_rate(rate)
        for axis in AXES:
            values = {name: [1] for name in (*AXES, "pp", "virtual")} | {axis: [size]}
            values["ep"] = [ep for ep in (1, size) if ep in choices["ep"]]
            if all(set(held) & set(choices[name]) for name, held in values.items()):
                degrees = problem.job.degrees.model_copy(update=values)
                job = problem.job.model_copy(update={"degrees": degrees})
                yield replace(problem, hierarchy=hierarchy, job=job)
