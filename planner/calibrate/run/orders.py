"""What the processes of a team can be told to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.calibrate.run.team import Member, Order
from planner.calibrate.run.turns import Turns
from planner.calibrate.torch_here import Torch
from planner.calibrate.verify_orders import finish, pipeline, stage, step

Exchange = Callable[[], object]


def collective(member: Member, order: Order) -> float:
    """Return the time of one of ``loops`` collectives, s, as this rank saw it while it had its core."""
    run = _exchange(member, str(order["operation"]), int(order["bytes"]))
    run()
    finish(member)
    member.dist.barrier()
    turns = Turns()
    for _ in range(int(order["loops"])):
        run()
    finish(member)
    return turns.own() / int(order["loops"])


def _exchange(member: Member, operation: str, size: int) -> Exchange:
    """Return a collective over ``size`` bytes as nccl-tests counts them: the whole buffer."""
    torch, dist, ranks = member.torch, member.dist, member.size
    count = max(size // 4 // ranks, 1) * ranks
    whole = torch.ones(count, device=member.backend.device)
    part = torch.ones(count // ranks, device=member.backend.device)
    if operation == "all_reduce":
        return lambda: dist.all_reduce(whole)
    if operation == "all_gather":
        gather = _newest(dist, "all_gather_single", "all_gather_into_tensor")
        return lambda: gather(whole, part)
    if operation == "reduce_scatter":
        scatter = _newest(dist, "reduce_scatter_single", "reduce_scatter_tensor")
        return lambda: scatter(part, whole)
    if operation == "alltoall":
        other = torch.ones(count, device=member.backend.device)
        return lambda: dist.all_to_all_single(other, whole)
    return _there_and_back(member, whole)


def _newest(module: Torch, *names: str) -> Callable[..., object]:
    """Return the first function of a module that it has: torch renamed some."""
    found: Callable[..., object] = next(getattr(module, name) for name in names if hasattr(module, name))
    return found


def _there_and_back(member: Member, buffer: Torch) -> Exchange:
    """Return a message from rank 0 to rank 1 and one back, as two calls of half a loop each.

    The time of a loop is that of both messages; :func:`collective_seconds` halves it.
    """
    dist, rank = member.dist, member.rank

    def both() -> None:
        if rank == 0:
            dist.send(buffer, 1)
            dist.recv(buffer, 1)
        elif rank == 1:
            dist.recv(buffer, 0)
            dist.send(buffer, 0)

    return both


def collective_seconds(operation: str, times: list[float]) -> float:
    """Return the time of a collective, s: that of the slowest rank; a message is half of there and back."""
    return max(times) / (2.0 if operation == "send" else 1.0)


HANDLERS: Mapping[str, Callable[[Member, Order], Any]] = {
    "collective": collective, "stage": stage, "pipeline": pipeline, "step": step,
}  # fmt: skip
