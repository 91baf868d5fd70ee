"""What ranks do when a plan is verified: a stage alone, a prompt through all stages, a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from planner.calibrate.run.turns import Turns
from planner.calibrate.verify_stages import Stage, StageDims, loss_of

if TYPE_CHECKING:
    from planner.calibrate.run.team import Member

Order = Mapping[str, Any]
Tensor = Any


def stage(member: Member, order: Order) -> float | None:
    """Return the time of one pass of a rank's stage, s; the other ranks wait and return nothing.

    ``mode`` is prefill, decode, train (forward and backward) or update (the optimizer).
    """
    if member.rank != int(order["who"]):
        return None
    module = _built(member, order)
    mode, batch, tokens = str(order["mode"]), int(order["batch"]), int(order["tokens"])
    if mode == "decode":
        module.fill_cache(batch, int(order["keys"]))
    taken = module.tokens(batch, 1 if mode == "decode" else tokens)

    def work() -> None:
        if mode == "train":
            _there_and_back(module, taken)
        elif mode == "update":
            _optimizer(member, module).step()
        else:
            with _no_gradients(member):
                module.forward(taken, cached=mode == "decode")

    if mode == "update":
        _there_and_back(module, taken)
    return member.backend.timed(work, int(order["loops"]))


def pipeline(member: Member, order: Order) -> tuple[float, float]:
    """Return the time of a prompt through all stages, s, and what of it this rank waited for a core.

    Rank 0 sends it off and waits for the last stage.
    With ``image``, rank 0 first decodes a picture of so many pixels a side and copies it to its device.
    """
    module = _built(member, order)
    batch, tokens = int(order["batch"]), int(order["tokens"])
    hidden = (batch, tokens, module.dims.hidden)
    decode = _decoder(member, int(order["image"])) if order["image"] and member.rank == 0 else None
    done = member.torch.zeros(1)
    taken = module.tokens(batch, tokens)
    last = member.size - 1
    member.dist.barrier()
    turns = Turns()
    with _no_gradients(member):
        if decode is not None:
            decode()
        if member.rank:
            taken = _received(member, hidden, module, member.rank - 1)
        found = module.forward(taken)
        finish(member)
        if member.rank < last:
            member.dist.send(found, member.rank + 1)
        if member.rank == last and last:
            member.dist.send(done, 0)
        if member.rank == 0 and last:
            member.dist.recv(done, last)
    return turns.read()


def together_seconds(order: Order, found: Sequence[tuple[float, float]]) -> float:
    """Return the time of something that all ranks did, s, without the turns of other programs.

    Stages of a prompt run one after the other, so what each waited for a core comes off; in a step they
    run at once, and what the most delayed rank waited comes off.
    """
    lost = [waited for _, waited in found]
    return max(passed for passed, _ in found) - (sum(lost) if order["do"] == "pipeline" else max(lost))


def step(member: Member, order: Order) -> tuple[float, float]:
    """Return the time of a training step, s, and what of it this rank waited for a core.

    Micro-batches go as in 1F1B, then comes the optimizer.

    Stage ``r`` of ``p`` runs ``p - r - 1`` forwards ahead (Narayanan et al., SC 2021, section 2.2).
    """
    module, count = _built(member, order), int(order["micro_batches"])
    optimizer = _optimizer(member, module)
    schedule = _Schedule(member, module, int(order["batch"]), int(order["tokens"]))
    ahead = min(member.size - member.rank - 1, count)
    member.dist.barrier()
    turns = Turns()
    for _ in range(ahead):
        schedule.forward()
    for _ in range(count - ahead):
        schedule.forward()
        schedule.backward()
    for _ in range(ahead):
        schedule.backward()
    schedule.settle()
    optimizer.step()
    optimizer.zero_grad()
    finish(member)
    return turns.read()


class _Schedule:
    """Passes of micro-batches of one rank, with what goes to its neighbours."""

    def __init__(self, member: Member, module: Stage, batch: int, tokens: int) -> None:
        self._member, self._module = member, module
        self._shape = (batch, tokens, module.dims.hidden)
        self._tokens = module.tokens(batch, tokens)
        self._held: list[tuple[Tensor, Tensor]] = []
        self._sent: list[tuple[Any, Tensor]] = []

    def forward(self) -> None:
        """Take a micro-batch in, run it and hand it on."""
        rank, taken = self._member.rank, self._tokens
        if rank:
            taken = _received(self._member, self._shape, self._module, rank - 1).requires_grad_()
        found = self._module.forward(taken)
        if rank < self._member.size - 1:
            self._send(found.detach(), rank + 1)
        else:
            found = loss_of(self._member.torch, found)
        self._held.append((taken, found))

    def backward(self) -> None:
        """Take the gradient of the oldest micro-batch in, go back and hand on that of its input."""
        rank, (taken, found) = self._member.rank, self._held.pop(0)
        if rank < self._member.size - 1:
            found.backward(_received(self._member, self._shape, self._module, rank + 1))
        else:
            found.backward()
        if rank:
            self._send(taken.grad, rank - 1)

    def settle(self) -> None:
        """Wait until all that was handed on has left."""
        for request, _ in self._sent:
            request.wait()
        self._sent.clear()

    def _send(self, tensor: Tensor, rank: int) -> None:
        whole = tensor.contiguous()
        self._sent.append((self._member.dist.isend(whole, rank), whole))


def _built(member: Member, order: Order) -> Stage:
    """Return this rank's stage, built once; the one before it goes, so that memory holds one."""
    dims = StageDims.of(order["stages"][member.rank])
    trained = bool(order.get("trained", False))
    held = member.kept.get("stage")
    if held is None or held[0] != (dims, trained):
        member.kept.clear()
        member.kept["stage"] = ((dims, trained), Stage(member.backend, dims, trained=trained))
    module: Stage = member.kept["stage"][1]
    return module


def _optimizer(member: Member, module: Stage) -> Any:
    if "optimizer" not in member.kept:
        member.kept["optimizer"] = member.torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    return member.kept["optimizer"]


def _decoder(member: Member, edge: int) -> Any:
    if "decoder" not in member.kept:
        from planner.calibrate.run.stages import decoder

        member.kept["decoder"] = decoder(edge)
    decode, torch, device = member.kept["decoder"], member.torch, member.backend.device
    return lambda: torch.frombuffer(bytearray(decode()), dtype=torch.uint8).to(device, copy=True)


def _there_and_back(module: Stage, taken: Tensor) -> None:
    """Run forward and backward, the gradient of an inner stage being that of the sum of what it hands on."""
    inner = taken if module.embedding is not None else taken.detach().requires_grad_()
    found = module.forward(inner)
    (loss_of(module.torch, found) if module.head is not None else found.sum()).backward()


def _received(member: Member, shape: tuple[int, ...], module: Stage, source: int) -> Tensor:
    like = module.layers[0]["norm"]
    buffer = member.torch.empty(shape, dtype=like.dtype, device=like.device)
    member.dist.recv(buffer, source)
    return buffer


def _no_gradients(member: Member) -> AbstractContextManager[object]:
    context: AbstractContextManager[object] = member.torch.no_grad()
    return context


def finish(member: Member) -> None:
    """Wait until the rank's device has done all that it was given."""
    if member.backend.kind == "cuda":
        member.torch.cuda.synchronize()
