"""From a packing to placements: which rows and columns of each table lie on which rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from planner.costs.embeddings import row_parts
from planner.placement.tables import TablePlacement
from planner.solve.tables.candidates import ONE_HOST, Candidates
from planner.solve.tables.packing import Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray


def placements(found: Candidates, packing: Packing) -> tuple[TablePlacement, ...]:
    """Return the placement of every table; tables cut unevenly fill the room that the others leave."""
    free = packing.room - packing.hbm
    return tuple(_placement(found, packing, table, free) for table in range(len(packing.choice)))


def _placement(found: Candidates, packing: Packing, table: int, free: NDArray[np.int64]) -> TablePlacement:
    option = found.option(int(packing.choice[table]))
    world, local = found.num_ranks, packing.local
    rows = found.problem.tables[table].rows
    ranks: list[int] = list(range(world))
    cut: tuple[int, ...] = (rows,)
    if option.uneven:
        cut = _fill(found, int(packing.choice[table]), rows, free)
    elif option.kind == "row_wise":
        cut = row_parts(rows, world)
    elif option.scope == ONE_HOST:
        cut = row_parts(rows, local)
        ranks = [host * local + part for host in packing.places(table) for part in range(local)]
    elif option.kind != "data_parallel":
        ranks = packing.places(table)
    return TablePlacement(
        table=found.problem.tables[table].name,
        kind=option.kind,
        kernel=option.kernel,
        load_factor=option.load_factor,
        columns=option.blocks,
        rows=cut,
        ranks=tuple(ranks),
    )


def _fill(found: Candidates, option: int, rows: int, free: NDArray[np.int64]) -> tuple[int, ...]:
    """Return rows per rank, most where most bytes are free, and take them from ``free``."""
    group = int(np.searchsorted(found.priced.group_option, option))
    part_rows, part_bytes = found.priced.group_rows[group, 0], found.priced.group_hbm[group, 0]
    fixed = int(part_bytes - part_rows * row_bytes(found, option))
    most = np.maximum(free - fixed, 0) // row_bytes(found, option)
    even = np.minimum(most, -(-rows // len(free)))
    left = rows - int(even.sum())
    given = even.copy()
    for rank in np.argsort(-(most - even), kind="stable"):
        step = int(np.clip(most[rank] - given[rank], min(0, left), max(left, 0)))
        step = left if left < 0 and given[rank] >= -left else step
        given[rank] += step
        left -= step
    free -= given * row_bytes(found, option) + np.where(given > 0, fixed, 0)
    return tuple(int(count) for count in given)


def row_bytes(found: Candidates, option: int) -> int:
    """Return the bytes of one row with its optimizer state, rounded up."""
    table = found.problem.tables[found.option(option).table]
    return int(np.ceil(table.dim * table.element))
