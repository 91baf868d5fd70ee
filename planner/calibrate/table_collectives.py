"""Tables of collectives that others publish: AIConfigurator's of NCCL and of engines, Vidur's."""

from __future__ import annotations

from collections.abc import Iterator

from planner.calibrate.samples import Sampled
from planner.calibrate.table_cells import MILLI, WIDTHS, LeftOut, Row, dtype_of, optional, positive
from planner.costs.protocols import OPERATIONS

AIC_NCCL = {"nccl_dtype", "num_gpus", "message_size", "op_name", "latency"}
AIC_ALL_REDUCE = {"allreduce_dtype", "num_gpus", "message_size", "latency"}
VIDUR = {"collective", "num_workers", "size", "devices_per_node"}
NAMES = {"send_recv": "send", "sendrecv": "send", "all_to_all": "alltoall"}


def collective(operation: str, size: float, ranks: float, seconds: float) -> Sampled | LeftOut:
    """Return one collective over ``size`` bytes, counted as nccl-tests does: the whole buffer."""
    known = NAMES.get(operation, operation)
    if known not in OPERATIONS:
        return LeftOut(f"operation {operation!r}")
    if ranks < 2:
        return LeftOut("one rank")
    return Sampled(
        item=f"collective {known} {size:g} x{ranks:g}", kind="collective",
        sizes={"bytes": size, "ranks": ranks}, labels={"operation": known}, seconds=[seconds],
    )  # fmt: skip


def aic_nccl(row: Row) -> Iterator[Sampled | LeftOut]:
    """Yield a run of nccl-tests on one node: elements of a type, ms."""
    yield _counted(row, "nccl_dtype", str(row["op_name"]), "fp16")


def aic_all_reduce(row: Row) -> Iterator[Sampled | LeftOut]:
    """Yield an all-reduce as engines run it: elements of a type, ms.

    Their own kernels for small messages make them quicker than NCCL's, so they are no samples of it.
    """
    by = str(row.get("kernel_source") or row.get("implementation") or "an engine")
    if by.casefold() != "nccl":
        positive(row, "latency")
        yield LeftOut(f"an all-reduce of {by}, not of NCCL")
    else:
        yield _counted(row, "allreduce_dtype", "all_reduce", "fp16")


def _counted(row: Row, column: str, operation: str, default: str) -> Sampled | LeftOut:
    ranks, count, seconds = positive(row, "num_gpus"), positive(row, "message_size"), positive(row, "latency")
    dtype = dtype_of(row, column, default)
    if isinstance(dtype, LeftOut):
        return dtype
    return collective(operation, count * WIDTHS[dtype], ranks, MILLI * seconds)


def vidur_collectives(row: Row) -> Iterator[Sampled | LeftOut]:
    """Yield a run of torch with NCCL: bytes, ms; one that leaves the node tells of the network only."""
    operation, ranks = str(row["collective"]), positive(row, "num_workers")
    size, inside = positive(row, "size"), positive(row, "devices_per_node")
    seconds = MILLI * positive(row, f"time_stats.{operation}.median")
    if optional(row, "rank", 0.0):
        yield LeftOut("times of a rank other than 0")
    elif inside < ranks:
        yield LeftOut("ranks on several nodes")
    else:
        yield collective(operation, size, ranks, seconds)
