"""Lower bounds from one accelerator alone: what any set of groups of enough work must pay for transfers.

If no device is busier than ``T``, the other accelerators and the CPU can do only so much, so that every
accelerator does at least ``a`` of the work; the cheapest cut of a set with work between ``a`` and ``T`` is
paid by each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from planner.solve.budget import Budget
from planner.solve.operators.chains import Machine
from planner.solve.operators.reduce import Floats, Reduced
from planner.solve.operators.scaled import parting, run, scale, weigh

_RESOLUTION = 10**7


@dataclass(frozen=True)
class Share:
    """What every accelerator of a plan below a limit does at least.

    Attributes
    ----------
    work, transfers
        Least run time and least transfers, s.
    bound
        Load, s, that some device of every plan has.
    """

    work: float
    transfers: float
    bound: float


def cpu_relief(values: Floats, cpu: Floats, limit: float) -> float:
    """Return the most that groups are worth that a CPU can run in ``limit`` seconds (fractional knapsack).

    Parameters
    ----------
    values
        What each group is worth; infinite where an accelerator cannot run it, which is worth nothing here.
    cpu
        Run times, s.
    """
    usable = np.isfinite(values) & (cpu <= limit)
    worth, cost = values[usable], cpu[usable]
    total = float(worth[cost == 0.0].sum())
    worth, cost = worth[cost > 0.0], cost[cost > 0.0]
    order = np.argsort(-worth / cost)
    spent = np.cumsum(cost[order])
    parts = np.clip((limit - spent + cost[order]) / cost[order], 0.0, 1.0)
    return total + float((worth[order] * parts).sum())


def least_share(
    reduced: Reduced,
    machine: Machine,
    limit: float,
    budget: Budget,
    *,
    seconds: float,
    transfers: float = 0.0,
) -> Share:
    """Return what each accelerator does at least in every plan of at most ``limit`` seconds.

    Parameters
    ----------
    transfers
        What each is known to pay at least, s: that of a higher limit holds for a lower one.
    """
    k = machine.num_accelerators
    total = float(reduced.accelerator[np.isfinite(reduced.accelerator)].sum())
    relief = cpu_relief(reduced.accelerator, reduced.cpu, limit) if machine.has_cpu else 0.0
    work = 0.0
    end = budget.left - seconds
    for _ in range(4):
        work = max(0.0, total - relief - (k - 1) * (limit - transfers))
        if work <= 0.0:
            break
        found = _cheapest_cut(reduced, machine, work, limit, budget, 0.8 * (budget.left - end))
        if found <= transfers * (1 + 1e-6):
            break
        transfers = found
    bound = min(limit, (total - relief + k * transfers) / k)
    return Share(work, transfers, bound)


def _cheapest_cut(
    reduced: Reduced,
    machine: Machine,
    work: float,
    limit: float,
    budget: Budget,
    seconds: float,
) -> float:
    """Return a lower bound of the transfers, s, of any set with work between ``work`` and ``limit``."""
    scaled = scale(reduced, limit, _RESOLUTION)
    model = cp_model.CpModel()
    inside = [model.new_bool_var("") for _ in range(reduced.num_groups)]
    spare = limit - work
    costs, parted = [], []
    for pins, cost, units in zip(reduced.pins, reduced.costs, scaled.costs, strict=True):
        members = [inside[group] for group in pins]
        if cost > spare * (1 + 1e-9):
            for member in members[1:]:
                model.add(member == members[0])
        elif units:
            costs.append(units)
            parted.append(parting(model, members, None))
    for group, time in enumerate(reduced.accelerator):
        if time > limit:
            model.add(inside[group] == 0)
    done, cut = weigh(scaled.accelerator, inside), weigh(costs, parted)
    model.add(done + cut <= scaled.limit)
    model.add(done >= int(work / scaled.quantum) - reduced.num_groups - 1)
    if float(reduced.size.sum()) > machine.memory:
        model.add(weigh(scaled.size, inside) <= int(machine.memory))
    model.minimize(cut)
    solver, status = run(model, budget, seconds)
    if status == "INFEASIBLE":
        return spare
    return scaled.seconds(max(0.0, solver.best_objective_bound))
