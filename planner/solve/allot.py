"""Several jobs on one machine or cluster: whole nodes (or GPUs of one node) shared out by CP-SAT."""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from planner.errors import InfeasibleError
from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import add_up
from planner.topology import Topology

SCALE = 1_000_000


@dataclass(frozen=True)
class Option:
    """A job's objective with some units; ``cost`` is relative to its best option (1: the best)."""

    units: int
    cost: float


def share_units(topology: Topology) -> list[list[str]]:
    """Return the units that jobs may be given: the GPUs of each node, or single GPUs of a single node."""
    if len(topology.nodes) > 1:
        return [
            [f"{node.name}/{gpu.name}" for gpu in node.machine.gpus]
            for node in topology.nodes
            if node.machine.gpus
        ]
    return [[gpu] for gpu in topology.gpus]


def unit_counts(units: int, jobs: int) -> list[int]:
    """Return the numbers of units tried for a job: powers of two, and all that the others could leave."""
    most = units - (jobs - 1)
    return (
        sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})
        if most > 0
        else []
    )


class AllotModel:
    """One option per job, no more units than there are, least sum of relative costs."""

    def __init__(self, options: dict[str, list[Option]], units: int) -> None:
        self.options, self.model = options, cp_model.CpModel()
        self.pick = {
            job: [self.model.new_bool_var(f"{job}[{option.units}]") for option in items]
            for job, items in options.items()
        }
        for choices in self.pick.values():
            self.model.add_exactly_one(choices)
        used = [
            o.units * x for job, items in options.items() for o, x in zip(items, self.pick[job], strict=True)
        ]
        self.model.add(add_up(used) <= units)
        cost = [
            round(o.cost * SCALE) * x
            for job, items in options.items()
            for o, x in zip(items, self.pick[job], strict=True)
        ]
        self.model.minimize(add_up(cost))


def share_out(options: dict[str, list[Option]], units: int, budget: Budget) -> dict[str, int]:
    """Return the units of every job.

    Raises
    ------
    InfeasibleError
        If the jobs do not fit together.
    """
    allot = AllotModel(options, units)
    solver, status = run_model(allot.model, budget, least=1.0)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        need = {job: min(option.units for option in items) for job, items in options.items()}
        raise InfeasibleError(
            f"the jobs need at least {add_up(need.values())} units together and there are {units}",
            [f"{job}: at least {count}" for job, count in need.items()],
            "add nodes, or run fewer jobs on this machine",
        )
    return {
        job: next(
            option.units for option, x in zip(options[job], row, strict=True) if solver.boolean_value(x)
        )
        for job, row in allot.pick.items()
    }
