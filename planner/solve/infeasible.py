"""Why nothing fits: a smallest set of constraints in conflict, and the nearest change that would fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from planner import units
from planner.costs.coefficients import rise
from planner.costs.host import service_time
from planner.errors import InfeasibleError
from planner.placement import ServingProblem, TrainingProblem
from planner.placement.job_problem import free_cores
from planner.solve.budget import Budget
from planner.solve.degrees import powers_of_two, strategies
from planner.solve.serving import Option, Table, serving_strategies, span_options, table_of
from planner.solve.training import TrainingSearch

if TYPE_CHECKING:
    from numpy.typing import NDArray

BISECTIONS = 40
MOST_GPUS_FACTOR = 4096


def smallest_conflict(constraints: dict[str, NDArray[np.bool_]]) -> list[str]:
    """Return an irreducible set of constraints that no row holds together (deletion filter).

    Parameters
    ----------
    constraints
        For each constraint which rows hold it.

    References
    ----------
    .. [1] J. Chinneck, "Feasibility and Infeasibility in Optimization", 2008, section 6.2.
    """
    kept = list(constraints)
    for name in list(constraints):
        others = [constraints[other] for other in kept if other != name]
        if others and not np.logical_and.reduce(others).any():
            kept.remove(name)
    return kept


def explain_training(problem: TrainingProblem) -> InfeasibleError:
    """Return the error for a training job that fits nowhere."""
    many = strategies(problem)
    name, gpus = problem.job.name, problem.num_gpus
    if not len(many):
        return InfeasibleError(
            f"job {name!r}: no combination of degrees is legal on {gpus} GPUs",
            ["degrees", "global batch", "number of GPUs"],
            "widen 'degrees', or choose a global batch that more data-parallel sizes divide",
        )
    conflict = [f"memory of {units.show(problem.device.memory.value, 'bytes')} per GPU", f"{gpus} GPUs"]
    if any(
        getattr(problem.job.degrees, field) is not None for field in type(problem.job.degrees).model_fields
    ):
        conflict.append("degrees")
    return InfeasibleError(
        f"job {name!r}: {problem.model.name} with its optimizer fits in no way on {gpus} GPUs "
        f"{problem.device.name}",
        conflict, _training_remedy(problem),
    )  # fmt: skip


def _training_remedy(problem: TrainingProblem) -> str:
    remedies = []
    for factor in powers_of_two(MOST_GPUS_FACTOR)[1:]:
        wider = _Wider(problem, problem.num_gpus * factor)
        if wider.fits():
            remedies.append(f"{problem.num_gpus * factor} GPUs of this kind would hold it")
            break
    low, high = 1.0, 1e4
    if _fits_with_memory(problem, high):
        for _ in range(BISECTIONS):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if _fits_with_memory(problem, middle) else (middle, high)
        need = units.show(problem.device.memory.value * high, "bytes")
        remedies.append(f"or GPUs of at least {need} each")
    return (
        "nearest change: " + ", ".join(remedies)
        if remedies
        else "shorten the sequence or take a smaller model"
    )


def _fits_with_memory(problem: TrainingProblem, factor: float) -> bool:
    figure = problem.device.memory.model_copy(update={"value": problem.device.memory.value * factor})
    device = problem.device.model_copy(update={"memory": figure})
    return _fits(replace(problem, device=device))


def _fits(problem: TrainingProblem) -> bool:
    many = strategies(problem)
    if not len(many):
        return False
    search = TrainingSearch(problem, Budget(seconds=1.0))
    return bool(len(search.fitting(many)))


class _Wider:
    """The same problem with more GPUs than the machine has; memory does not depend on where they are."""

    def __init__(self, problem: TrainingProblem, gpus: int) -> None:
        level = problem.hierarchy.levels[-1]
        domains = np.zeros(gpus, dtype=np.int64)
        node = problem.hierarchy.gpus[0].split("/", 1)[0]
        names = tuple(f"{node}/more{index}" for index in range(gpus))
        hierarchy = replace(problem.hierarchy, gpus=names, levels=(replace(level, domain_of=domains),))
        budget = problem.job.budget.model_copy(update={"gpus": None, "price": None})
        self.problem = replace(
            problem, hierarchy=hierarchy, job=problem.job.model_copy(update={"budget": budget})
        )

    def fits(self) -> bool:
        """Whether some strategy fits in memory."""
        return _fits(self.problem)


def explain_serving(problem: ServingProblem) -> InfeasibleError:
    """Return the error for a serving job whose limits nothing meets."""
    found = serving_strategies(problem)
    name, job = problem.job.name, problem.job
    if not found:
        return InfeasibleError(
            f"job {name!r}: no combination of degrees is legal on {problem.num_gpus} GPUs",
            ["degrees", "number of GPUs"], "widen 'degrees' or raise the budget",
        )  # fmt: skip
    options = span_options(problem, found)
    table = table_of(problem, options)
    limits = table.limits(problem)
    if np.logical_and.reduce(list(limits.values())).any():
        return _too_few_cores(problem) if job.before or job.after else _no_layout(problem)
    conflict = smallest_conflict(limits)
    shown = [_shown(problem, item) for item in conflict]
    return InfeasibleError(
        f"job {name!r}: no plan on {problem.num_gpus} GPUs {problem.device.name} holds every limit at "
        f"{job.traffic.rate:g} requests/s",
        [*shown, f"{problem.num_gpus} GPUs"], _serving_remedy(problem, options, table, conflict),
    )  # fmt: skip


def _too_few_cores(problem: ServingProblem) -> InfeasibleError:
    """Return the error for CPU stages that do not fit beside one another, or not in time."""
    job, node = problem.job, problem.topology.nodes[0]
    stages = [*job.before, *job.after]
    free = {domain.name: free_cores(problem, node.machine, domain.name) for domain in node.machine.numa}
    domain = max(node.machine.numa, key=lambda item: free[item.name])
    need = sum(stage.parallel * rise(job.traffic.rate * service_time(stage, domain)) for stage in stages)
    room = sum(free.values()) * len(problem.topology.nodes)
    limits = [f"{name} of {units.show(value, 's')}" for name, value in job.slo if value is not None]
    return InfeasibleError(
        f"job {job.name!r}: the CPU stages of no number of replicas fit on the host cores within the limits",
        [f"{room} host cores free", f"offered rate of {job.traffic.rate:g} requests/s", *limits],
        f"nearest change: the stages need more than {need:g} cores at this rate ({room} are free): "
        "add cores or nodes, lower the rate, or make the stages cheaper",
    )


def _no_layout(problem: ServingProblem) -> InfeasibleError:
    """Return the error for degrees that hold every limit on paper but fit no grouping of these GPUs."""
    sizes = ", ".join(str(size) for size in sorted(problem.hierarchy.levels[0].capacities, reverse=True)[:8])
    return InfeasibleError(
        f"job {problem.job.name!r}: no degrees that hold the limits can be laid out on these GPUs",
        [f"domains of {sizes} GPUs", "degrees and limits of the job"],
        "widen 'degrees', ease a limit, or add GPUs to a domain",
    )


def _shown(problem: ServingProblem, name: str) -> str:
    limit = getattr(problem.job.slo, name, None)
    if limit is not None:
        return f"{name} of {units.show(limit, 's')}"
    if name == "offered rate":
        return f"offered rate of {problem.job.traffic.rate:g} requests/s"
    if name.startswith("memory"):
        return f"memory of {units.show(problem.device.memory.value, 'bytes')} per GPU"
    return name


def _serving_remedy(problem: ServingProblem, options: list[Option], table: Table, conflict: list[str]) -> str:
    remedies = [text for name in conflict for text in [_relaxed_limit(problem, table, name)] if text]
    rate = _largest_rate(problem, options)
    if rate is not None:
        remedies.append(f"a rate of at most {rate:.3g} requests/s")
    if not remedies:
        return "nearest change: a smaller data type, more GPUs, or more host cores"
    return "nearest change, each alone: " + ", or ".join(remedies)


def _relaxed_limit(problem: ServingProblem, table: Table, name: str) -> str | None:
    """Return the value that a latency limit would need, all others held."""
    values = {
        "ttft_p99": table.costs.ttft_p99 + table.host,
        "tpot_p99": table.costs.tpot_p99,
        "latency_p99": table.costs.latency_p99 + table.host,
    }
    if name not in values:
        return None
    others = [holds for other, holds in table.limits(problem).items() if other != name]
    rows = np.logical_and.reduce(others)
    if not rows.any():
        return None
    return f"{name} of at least {units.show(float(values[name][rows].min()), 's')}"


def _largest_rate(problem: ServingProblem, options: list[Option]) -> float | None:
    """Return the largest rate that some strategy holds within all limits, requests/s."""

    def holds(rate: float) -> bool:
        traffic = problem.job.traffic.model_copy(update={"rate": rate})
        slower = replace(problem, job=problem.job.model_copy(update={"traffic": traffic}))
        return bool(np.logical_and.reduce(list(table_of(slower, options).limits(slower).values())).any())

    low, high = problem.job.traffic.rate * 1e-6, problem.job.traffic.rate
    return _bisect(holds, low, high) if holds(low) else None


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(BISECTIONS // 2):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
