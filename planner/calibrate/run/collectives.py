"""Collectives by operation and size, among the processes of a team."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from planner.calibrate.run.backend import Backend
from planner.calibrate.run.items import Bench, Item, Run, UnavailableError
from planner.calibrate.run.orders import collective_seconds

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send")
CORE_SIZES = tuple(1 << power for power in (10, 13, 15, 17, 19, 21, 23))
GPU_SIZES = tuple(1 << power for power in range(10, 29, 2))

TRIES = {"cpu": 3, "cuda": 1}
"""Runs of which the quickest counts: the wall clock of processes on a host includes the turns of others."""


def collective_items(backend: Backend, ranks: int) -> Iterator[Item]:
    """Yield every operation at every size."""
    if ranks < 2:
        yield Item("collectives", "collective", {}, {}, partial(_refuse, "there is one rank only"))
        return
    for operation in OPERATIONS:
        for size in CORE_SIZES if backend.kind == "cpu" else GPU_SIZES:
            yield collective_item(operation, size, ranks)


def collective_item(operation: str, size: float, ranks: int) -> Item:
    """Return one operation over so many bytes, counted as nccl-tests does."""
    return Item(
        f"collective {operation} {size:g} x{ranks}", "collective", {"bytes": float(size), "ranks": ranks},
        {"operation": operation}, partial(_collective, operation, int(size)),
    )  # fmt: skip


def _collective(operation: str, size: int, bench: Bench) -> Run:
    if bench.team is None:
        raise UnavailableError("no processes were started for collectives")
    team = bench.team()

    order = {"do": "collective", "operation": operation, "bytes": size}
    tries = TRIES[bench.backend.kind]

    def run(loops: int) -> float:
        calls = (team.call(order | {"loops": loops}) for _ in range(tries))
        return min(collective_seconds(operation, times) for times in calls)

    return run


def _refuse(reason: str, bench: Bench) -> Run:
    raise UnavailableError(reason)
