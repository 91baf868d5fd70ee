"""Bytes per second that an ensemble puts on the links, dealt to the same domain first, as the judge does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.placement.ensemble_plan import EnsemblePlan, EnsembleTransfer
from planner.placement.ensemble_problem import EnsembleProblem
from planner.placement.flows import Flow


@dataclass(frozen=True)
class Seat:
    """A part ``NODE/PART`` that serves a share of a class's requests, and its NUMA domain ``NODE/NUMA``."""

    part: str
    domain: str
    share: float


def ensemble_flows(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[Flow]:
    """Yield the flows of one second."""
    near = {gpu: domain.name for domain in problem.domains for gpu in domain.gpus}
    rates = {request.name: request.rate for request in problem.classes}
    for move in plan.transfers:
        left = seats_of(plan, move.source, move.request, near)
        right = seats_of(plan, move.target, move.request, near)
        if move.source is None:
            left = [Seat(seat.domain, seat.domain, seat.share) for seat in right]
        if move.target is None:
            right = [Seat(seat.domain, seat.domain, seat.share) for seat in left]
        for source, target, share in matched(left, right):
            size = share * rates[move.request] * move.size
            yield from _hops(move, source, target, size)


def seats_of(plan: EnsemblePlan, stage: str | None, request: str, near: dict[str, str]) -> list[Seat]:
    """Return who serves a class at a stage: pools or GPUs, with their shares."""
    found = [
        Seat(each.gpu, near[each.gpu], each.share)
        for each in plan.instances
        if each.stage == stage and request in each.classes
    ]
    pools = [
        Seat(f"{p.node}/{p.numa}", f"{p.node}/{p.numa}", p.share) for p in plan.pools if p.stage == stage
    ]
    return [*found, *pools]


def matched(left: Sequence[Seat], right: Sequence[Seat]) -> Iterator[tuple[Seat, Seat, float]]:
    """Yield pairs of seats with the share of the requests that pass between them.

    As many as possible stay in their domain, then in their node; the rest spreads evenly.
    """
    shares = ({seat.part: 0.0 for seat in left}, {seat.part: 0.0 for seat in right})
    for own, seats in zip(shares, (left, right), strict=True):
        for seat in seats:
            own[seat.part] += seat.share
    ends = ({seat.part: seat for seat in left}, {seat.part: seat for seat in right})
    for place in (_domain, _node, _anywhere):
        parts: tuple[dict[str, list[str]], dict[str, list[str]]] = (defaultdict(list), defaultdict(list))
        for index in (0, 1):
            for part, seat in ends[index].items():
                parts[index][place(seat)].append(part)
        for name in parts[0].keys() & parts[1].keys():
            yield from _spread(parts[0][name], parts[1][name], shares, ends)


def _domain(seat: Seat) -> str:
    return seat.domain


def _node(seat: Seat) -> str:
    return seat.domain.split("/", 1)[0]


def _anywhere(seat: Seat) -> str:
    return ""


Shares = tuple[dict[str, float], dict[str, float]]
Ends = tuple[dict[str, Seat], dict[str, Seat]]


def _spread(
    sources: Sequence[str], targets: Sequence[str], shares: Shares, ends: Ends
) -> Iterator[tuple[Seat, Seat, float]]:
    """Yield what passes between some sources and targets, in proportion to what each has left."""
    out, into = sum(shares[0][part] for part in sources), sum(shares[1][part] for part in targets)
    moved = min(out, into)
    if moved <= 1e-12:
        return
    given = {part: shares[0][part] / out * moved for part in sources}
    taken = {part: shares[1][part] / into * moved for part in targets}
    for source, some in given.items():
        shares[0][source] -= some
        for target, other in taken.items():
            if some and other:
                yield ends[0][source], ends[1][target], some * other / moved
    for target, other in taken.items():
        shares[1][target] -= other


def _hops(move: EnsembleTransfer, source: Seat, target: Seat, size: float) -> Iterator[Flow]:
    """Yield the flow between two seats; through host memory on both sides where it is staged."""
    stops = [source.part, target.part]
    if move.carrier == "staged-copy":
        stops = [source.part, source.domain, target.domain, target.part]
    for left, right in pairwise(stops):
        if left != right and size > 0.0:
            yield Flow(left, right, size, "host")
