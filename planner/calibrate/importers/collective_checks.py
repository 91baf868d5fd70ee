"""What figures of a collective's table say about one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, floor

from planner.calibrate.importers.blocks import CollectiveRow, CollectiveTable
from planner.calibrate.importers.text import differs

GIGA = 1e9
LAST_DIGIT = 0.01 * GIGA
_TWICE = frozenset({"all_reduce"})
_ONCE = frozenset({"all_gather", "reduce_scatter", "all_to_all"})
_PROGRAMS = {"alltoall": "all_to_all", "sendrecv": "send_recv"}
RATIO_ERROR = 0.004


def bus_factor(operation: str, ranks: int) -> float | None:
    """Return bus over algorithm rate as nccl-tests defines it (its doc/PERFORMANCE.md)."""
    share = (ranks - 1) / ranks if ranks else 0.0
    if operation in _TWICE:
        return 2.0 * share
    if operation in _ONCE or " or " in operation:
        return share
    return 1.0 if operation in ("broadcast", "reduce", "send_recv") else None


def operation_of(program: str | None, reduces: bool, ratio: float | None, ranks: int | None) -> str:
    """Return the collective: by the program's name, else by reduction and bus factor."""
    if program is not None:
        return _PROGRAMS.get(program, program)
    if ratio is None:
        return "unknown"
    if reduces:
        if ratio > 1.0 + RATIO_ERROR:
            return "all_reduce"
        if ratio < 1.0 - RATIO_ERROR:
            return "reduce_scatter"
        return "reduce" if ranks is not None and ranks > 2 else "all_reduce or reduce"
    return "broadcast or send_recv" if abs(ratio - 1.0) <= RATIO_ERROR else "all_gather or all_to_all"


def ranks_of(operation: str, rows: Sequence[CollectiveRow], listed: int | None) -> int | None:
    """Return the number of ranks: as listed, else the one that the bus factor leaves, if it leaves one.

    The factor of ``n`` ranks is ``1 - 1/n``, or twice that. The largest rates carry most digits; with many
    ranks the factor hardly moves, and where rounding allows more than one number, none is returned.
    """
    if listed is not None:
        return listed
    finest = max(rows, key=lambda row: row.algorithm_rate)
    if min(finest.algorithm_rate, finest.bus_rate) <= 0.0 or bus_factor(operation, 2) in (
        None,
        1.0 if operation not in _TWICE else 0.0,
    ):
        return None
    scale = 2.0 if operation in _TWICE else 1.0
    share = finest.bus_rate / finest.algorithm_rate / scale
    slack = 0.5 * LAST_DIGIT * (1.0 / finest.bus_rate + 1.0 / finest.algorithm_rate) * share
    if not share > 0.4 or 1.0 - share - slack <= 0.0:
        return None
    low, high = 1.0 / (1.0 - share + slack), 1.0 / (1.0 - share - slack)
    possible = range(ceil(low), floor(high) + 1)
    return possible[0] if len(possible) == 1 else None


def check_table(
    table: CollectiveTable, name: str, expected: tuple[int, int, int, str] | None, wrong: int
) -> Iterator[str]:
    """Yield a warning for every figure that others contradict.

    Rates against size over time, bus rates against the factor, the printed mean against the column, sizes
    against the range that was asked for, and results that the tool itself found wrong.
    """
    yield from _rows(table, name)
    yield from _sizes(table, name, expected)
    if wrong:
        yield f"{name}: the tool found {wrong} wrong results; its times are not to be trusted"
    rates = [row.bus_rate for row in table.rows]
    rates += [row.in_place_bus_rate for row in table.rows if row.in_place_bus_rate is not None]
    mean = sum(rates) / len(rates)
    if table.average is not None and differs(table.average, mean, 0.02 * GIGA):
        yield (
            f"{name}: the mean bus rate is printed as {table.average / GIGA:.2f} GB/s but the rows give "
            f"{mean / GIGA:.2f}; rows are missing or changed"
        )
    if "or" in table.operation.split() or table.operation == "unknown":
        yield f"{name}: the table does not tell which collective ran ({table.operation})"


def _rows(table: CollectiveTable, name: str) -> Iterator[str]:
    factor = bus_factor(table.operation, table.ranks) if table.ranks else None
    for row in table.rows:
        if row.time > 0.0 and differs(row.algorithm_rate, row.size / row.time, LAST_DIGIT):
            yield (
                f"{name}:{row.line}: {row.algorithm_rate / GIGA:.2f} GB/s is not "
                f"{row.size:.0f} bytes over {row.time * 1e6:.2f} us"
            )
        if factor is not None and differs(row.bus_rate, factor * row.algorithm_rate, 2 * LAST_DIGIT):
            yield (
                f"{name}:{row.line}: bus rate {row.bus_rate / GIGA:.2f} GB/s is not {factor:.3f} times "
                f"{row.algorithm_rate / GIGA:.2f} GB/s, as {table.ranks} ranks of {table.operation} have"
            )
        if row.in_place_time and row.in_place_bus_rate is not None and factor:
            again = factor * row.size / row.in_place_time
            if differs(row.in_place_bus_rate, again, 2 * LAST_DIGIT):
                yield f"{name}:{row.line}: the in-place figures contradict one another"
        if row.wrong:
            yield f"{name}:{row.line}: the tool found {row.wrong:.0f} wrong results at {row.size:.0f} bytes"


def _sizes(table: CollectiveTable, name: str, expected: tuple[int, int, int, str] | None) -> Iterator[str]:
    known = [row for row in table.rows if row.size > 0]
    for before, row in pairwise(known):
        if row.size <= before.size:
            yield f"{name}:{row.line}: size {row.size:.0f} follows {before.size:.0f}; a row is out of place"
    if expected is None or not known:
        return
    _, largest, step, kind = expected
    for before, row in pairwise(known):
        following = before.size * step if kind == "factor" else before.size + step
        if row.size > before.size and abs(row.size - following) > 0.02 * following + 64:
            yield f"{name}:{row.line}: size {row.size:.0f} where {following:.0f} was due; rows are missing"
    last = known[-1].size
    beyond = last * step if kind == "factor" else last + step
    if beyond <= largest * 1.000001 or last > largest:
        yield f"{name}:{known[-1].line}: the run was asked for up to {largest} bytes; this is the last row"
