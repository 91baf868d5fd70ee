"""Large-neighbourhood search: CP-SAT decides a few tables or ranks again while the rest stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from planner.solve.budget import Budget
from planner.solve.tables.candidates import ANY_RANK, Candidates
from planner.solve.tables.exact import Scope, solve_exact
from planner.solve.tables.packing import Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUSY = 1e-6
"""Ranks within this relative distance of the busiest count as busiest."""
MOST_VARIABLES = 4000


def free_tables(packing: Packing, rng: np.random.Generator, count: int) -> list[int]:
    """Return some tables, of which a share lies on the busiest ranks."""
    busy = np.flatnonzero(packing.load >= packing.cost * (1.0 - BUSY))
    on_busy = np.unique(packing.items.table[np.isin(packing.items.rank, busy)])
    first = rng.permutation(on_busy)[: max(1, count // 2)].tolist()
    others = [table for table in rng.permutation(len(packing.choice)).tolist() if table not in first]
    return [*first, *others[: count - len(first)]]


def repair(
    found: Candidates,
    packing: Packing,
    options: Sequence[NDArray[np.int64]],
    tables: Sequence[int],
    budget: Budget,
    *,
    effort: float,
) -> tuple[Packing | None, bool]:
    """Decide some tables anew, all others staying where they are.

    Returns
    -------
    tuple
        A better packing or ``None``, and whether the search was complete.
    """
    rest = packing.copy()
    for table in tables:
        rest.remove(table)
    free = {table: [int(option) for option in options[table]] for table in tables}
    for table, kept in free.items():
        if int(packing.choice[table]) not in kept:
            kept.append(int(packing.choice[table]))
    num_hosts = found.num_ranks // found.problem.costs.local_size
    scope = Scope(
        free,
        range(found.num_ranks),
        range(num_hosts),
        rest.load,
        rest.room - rest.hbm,
        rest.host_room - rest.host,
        rest.loose,
    )
    start = packing.cost
    outcome = solve_exact(found, scope, packing, start, budget, effort=effort)
    if not outcome.places:
        return None, outcome.proven
    for table, (option, places) in outcome.places.items():
        rest.put(table, option, places)
    return (rest if rest.cost < start * (1.0 - 1e-7) else None), outcome.proven


def weight(found: Candidates, options: Sequence[NDArray[np.int64]]) -> int:
    """Return about how many variables a model of the given options has."""
    ranks, local = found.num_ranks, found.problem.costs.local_size
    total = 0
    for mine in options:
        scopes = found.priced.scope[mine]
        total += (
            len(mine) + int((scopes == ANY_RANK).sum()) * ranks + int((scopes == 1).sum()) * (ranks // local)
        )
    return total
