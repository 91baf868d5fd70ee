"""Collectives as flows: the messages of an algorithm, and the trace that sends them over real routes.

An algorithm is a list of messages between ranks 0 to ``m - 1``, each with those that have to be there before
it. A message first takes the latency of a step, then drains over all links of its route, and messages share
links with whatever else is there; on an idle machine the last one arrives when the affine formula says
(:mod:`planner.costs.collectives`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from planner.errors import SimulationError
from planner.simulate.links import FlowTrace, LinkSpec, TracedFlow

SWITCH = -1
"""Stands for the switch in a message that is reduced, or copied, on its way."""


class Message(NamedTuple):
    """Bytes from one rank to another.

    Attributes
    ----------
    size
        Bytes.
    steps
        Latencies that pass before the first byte.
    after
        Messages that must have arrived, by their place in the list.
    behind
        Message of the same rank that must have left before; -1: none. The latency may pass meanwhile.
    """

    source: int
    target: int
    size: float
    steps: int = 1
    after: tuple[int, ...] = ()
    behind: int = -1


Route = Callable[[int, int], Sequence[int]]
"""Links from one rank to another, by number; one of the two may be `SWITCH`."""


def ring(size: float, ranks: int, *, rounds: int = 2, splits: int = 1, active: int = 1) -> list[Message]:
    """Return a ring collective.

    Parameters
    ----------
    size
        Bytes per rank in total.
    rounds
        2: all-reduce; 1: reduce-scatter or all-gather.
    splits, active
        Parts of the buffer that go round one by one, and how many of them at once. A rank sends one message
        at a time, so that one part's latency passes while another is sent.
    """
    _at_least_two(ranks)
    steps, piece = rounds * (ranks - 1), size / ranks / splits
    active = min(active, splits)
    messages: list[Message] = []
    place: dict[tuple[int, int, int], int] = {}
    for turn in range(-(-splits // active) * steps):
        wave, step = divmod(turn, steps)
        for part in range(wave * active, min((wave + 1) * active, splits)):
            for rank in range(ranks):
                before = (part, step - 1) if step else (part - active, steps - 1)
                received = place.get((*before, (rank - 1) % ranks))
                own = place.get((-1, -1, rank), -1)
                place[part, step, rank] = len(messages)
                place[-1, -1, rank] = len(messages)
                after = () if received is None else (received,)
                messages.append(Message(rank, (rank + 1) % ranks, piece, 1, after, own))
    return messages


def tree(size: float, ranks: int) -> list[Message]:
    """Return an all-reduce over two binary trees, each for half of the buffer, as a fluid [1]_.

    Cut into pieces that are small enough all edges carry data all the time, up for the sum and down for the
    result; each is one message here, which starts when the first piece can have come through.

    References
    ----------
    .. [1] P. Sanders, J. Speck, J. L. Traff, "Two-tree algorithms for full bandwidth broadcast, reduction
       and scan", Parallel Computing, 2009.
    """
    _at_least_two(ranks)
    depth = (ranks - 1).bit_length()
    edges = list(_tree_edges(ranks))
    mirrored = [((child + 1) % ranks, (parent + 1) % ranks) for child, parent in edges]
    return [
        Message(*ends, size / 2.0, 2 * depth)
        for child, parent in (*edges, *mirrored)
        for ends in ((child, parent), (parent, child))
    ]


def _tree_edges(ranks: int) -> Iterator[tuple[int, int]]:
    """Yield child and parent of an in-order binary tree: odd ranks are leaves, rank 0 is the root."""
    for rank in range(1, ranks):
        bit = rank & -rank
        above = (rank ^ bit) | (bit << 1)
        yield rank, above if above < ranks else rank ^ bit


def hierarchical(size: float, ranks: int, *, rounds: int = 2) -> list[Message]:
    """Return recursive halving, then (with two rounds) doubling, nearest partners first [1]_.

    References
    ----------
    .. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in
       MPICH", IJHPCA, 2005.
    """
    _at_least_two(ranks)
    levels = ranks.bit_length() - 1
    if ranks != 1 << levels:
        raise SimulationError(f"halving and doubling needs a power of two of ranks, not {ranks}; use a ring")
    halving = [(level, size / (2 << level)) for level in range(levels)]
    messages: list[Message] = []
    for level, share in halving + (halving[::-1] if rounds == 2 else []):
        first = len(messages) - ranks
        for rank in range(ranks):
            partner = rank ^ (1 << level)
            after = (first + rank, first + _partner_before(messages, first, rank)) if first >= 0 else ()
            messages.append(Message(rank, partner, share, 1, after))
    return messages


def _partner_before(messages: Sequence[Message], first: int, rank: int) -> int:
    """Return who sent to a rank in the step whose messages begin at ``first``."""
    return messages[first + rank].target


def all_to_all(size: float, ranks: int) -> list[Message]:
    """Return a message from every rank to every other, ``size`` bytes of each rank spread over all."""
    _at_least_two(ranks)
    return [
        Message(source, (source + shift) % ranks, size / ranks)
        for source in range(ranks)
        for shift in range(1, ranks)
    ]


def nvls(size: float, ranks: int) -> list[Message]:
    """Return an all-reduce in the switch: every rank sends and receives the buffer once, both at a time."""
    _at_least_two(ranks)
    ups = [Message(rank, SWITCH, size, 2) for rank in range(ranks)]
    return ups + [Message(SWITCH, rank, size, 2) for rank in range(ranks)]


ALL_REDUCE: dict[str, Callable[[float, int], list[Message]]] = {
    "ring": ring,
    "tree": tree,
    "hierarchical": hierarchical,
    "nvls": nvls,
}
"""The algorithms between which the cost model chooses, by its names for them."""


def collective_trace(
    name: str, messages: Sequence[Message], route: Route, links: Sequence[LinkSpec], latency: float
) -> FlowTrace:
    """Return the trace of a collective.

    Parameters
    ----------
    route
        Links of each pair of ranks.
    links
        Links of the machine. Their own latencies are paid for every message too.
    latency
        Time of a step besides that, s.
    """
    flows: list[TracedFlow] = []
    sent: list[int] = []
    for message in messages:
        after = tuple(sent[index] for index in message.after)
        path = tuple(route(message.source, message.target))
        delay = message.steps * latency
        if message.behind >= 0:
            flows.append(TracedFlow(0.0, delay, 0.0, (), after))
            after, delay = (len(flows) - 1, sent[message.behind]), 0.0
        sent.append(len(flows))
        flows.append(TracedFlow(0.0, delay, message.size, path, after))
    return FlowTrace(name, tuple(links), tuple(flows))


def together(traces: Sequence[FlowTrace]) -> FlowTrace:
    """Return traces over the same links as one, to see how they disturb each other."""
    flows: list[TracedFlow] = []
    for trace in traces:
        first = len(flows)
        flows += [flow._replace(after=tuple(first + index for index in flow.after)) for flow in trace.flows]
    return FlowTrace(" + ".join(trace.name for trace in traces), traces[0].links, tuple(flows))


def switch_route(route: Callable[[int, int], Sequence[int]], ranks: int) -> Route:
    """Return routes that also know the way to and from the switch, in the middle of other routes."""

    def find(source: int, target: int) -> Sequence[int]:
        if SWITCH not in (source, target):
            return route(source, target)
        rank = target if source == SWITCH else source
        other = (rank + 1) % ranks
        whole = route(rank, other) if target == SWITCH else route(other, rank)
        half = len(whole) // 2
        return whole[:half] if target == SWITCH else whole[half:]

    return find


def _at_least_two(ranks: int) -> None:
    if ranks < 2:
        raise SimulationError("a collective needs at least two ranks")
