"""What has to move between two plans of a job: GPUs that hold other weights, replicas, CPU stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from planner.placement import Decision, Replica, ServingPlan, Strategy, TrainingPlan

MOST_SHOWN = 24
"""Most moves that a plan lists one by one."""

Role = Hashable
"""What weights a GPU holds: ranks of equal role can stand for one another."""


def rank_roles(strategy: Strategy, layers: Sequence[int]) -> list[Role]:
    """Return the role of every rank, in rank order.

    A role is the tensor part, the stage with its layers and chunks, and the part of the experts. Replicas
    and context parts hold the same weights, so that their ranks have the same role.
    """
    s = strategy
    cut = (s.tp, s.pp, s.virtual, s.ep, tuple(layers))
    plane = s.dp * s.cp * s.tp
    return [(cut, rank // plane, rank % s.tp, rank % plane % s.ep) for rank in range(s.num_ranks)]


def roles_of(plan: TrainingPlan) -> dict[str, Role]:
    """Return the role of every GPU of a plan."""
    return dict(zip(plan.ranks(), rank_roles(plan.strategy, plan.layers), strict=True))


@dataclass(frozen=True)
class Move:
    """Something that has to be loaded or started anew.

    Attributes
    ----------
    was
        Where it was; empty where nothing was there before.
    """

    what: str
    now: str
    was: str = ""


def training_moves(old: TrainingPlan, plan: TrainingPlan) -> list[Move]:
    """Return the GPUs of a plan that hold other weights than before, or none before."""
    before, now = roles_of(old), roles_of(plan)
    left: dict[Role, list[str]] = {}
    for gpu, role in before.items():
        if now.get(gpu) != role:
            left.setdefault(role, []).append(gpu)
    return [
        Move(f"rank {rank}", gpu, left[role].pop(0) if left.get(role) else "")
        for rank, (gpu, role) in enumerate(now.items())
        if before.get(gpu) != role
    ]


def fewest_moves(strategy: Strategy, layers: Sequence[int], alive: Mapping[str, Role]) -> int:
    """Return the fewest GPUs that must take another role, wherever they are.

    Parameters
    ----------
    alive
        Role of every GPU that is still there.
    """
    held = Counter(alive.values())
    return sum(max(0, need - held[role]) for role, need in Counter(rank_roles(strategy, layers)).items())


def service_moves(old: ServingPlan, strategy: Strategy, replicas: Sequence[Replica]) -> list[Move]:
    """Return the moves of a service: replicas on other GPUs than before, and CPU stages of the others.

    Under other degrees every replica moves.
    """
    free = {"dp": 1}
    degrees = [s.model_copy(update=free) for s in (old.strategy, strategy)]
    same = degrees[0] == degrees[1]
    before = {tuple(replica.gpus()): replica for replica in old.replicas} if same else {}
    kept = {tuple(replica.gpus()) for replica in replicas} & set(before)
    left = [_shown(replica) for replica in old.replicas if tuple(replica.gpus()) not in kept]
    moves = []
    for replica in replicas:
        was = before.get(tuple(replica.gpus()))
        if was is None:
            moves.append(Move(replica.name, _shown(replica), left.pop(0) if left else ""))
            continue
        places = {stage.stage: f"{stage.numa}, {stage.cores} cores" for stage in was.stages}
        for stage in replica.stages:
            place = f"{stage.numa}, {stage.cores} cores"
            if places.get(stage.stage) != place:
                moves.append(Move(f"{stage.stage} of {replica.name}", place, places.get(stage.stage, "")))
    return moves


def _shown(replica: Replica) -> str:
    return ", ".join(replica.devices)


def move_decisions(moves: Sequence[Move], least: int) -> list[Decision]:
    """Return the moves as decisions of a plan: what moves, where it is now, and where it was.

    Parameters
    ----------
    least
        The fewest moves that work.
    """
    fewer = None if len(moves) <= least else 0.0
    found = [
        Decision(
            decision="moves from the plan kept", chosen=str(len(moves)), alternative="fewer", loss=fewer,
            reason=f"the fewest that work: {least}",
        )
    ]  # fmt: skip
    found += [
        Decision(
            decision=f"move {number}", chosen=f"{move.what} on {move.now}", alternative=move.was or "nowhere",
            loss=None, reason="where it was before" if move.was else "new",
        )
        for number, move in enumerate(moves[:MOST_SHOWN], start=1)
    ]  # fmt: skip
    return found
