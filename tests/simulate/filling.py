"""An independent judge of max-min sharing: textbook progressive filling in exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from planner.simulate import LinkSpec


@dataclass(frozen=True)
class Transfer:
    """A transfer to send at ``start``, s."""

    start: float
    size: float
    route: tuple[int, ...]
    cap: float | None = None
    priority: int = 0


@dataclass(frozen=True)
class Case:
    """A network and what to send over it."""

    links: tuple[LinkSpec, ...]
    groups: Mapping[str, float]
    transfers: tuple[Transfer, ...]


Uses = dict[str, Fraction]


def finish_times(case: Case) -> list[Fraction]:
    """Return when each transfer finishes, s."""
    capacity = {link.name: Fraction(link.rate) for link in case.links}
    capacity |= {name: Fraction(rate) for name, rate in case.groups.items()}
    uses = [_uses(case.links, transfer) for transfer in case.transfers]
    begin = [
        Fraction(transfer.start) + sum(Fraction(case.links[link].latency) for link in transfer.route)
        for transfer in case.transfers
    ]
    remaining = [Fraction(transfer.size) for transfer in case.transfers]
    finish: list[Fraction | None] = [
        begin[i] if not remaining[i] or (not uses[i] and transfer.cap is None) else None
        for i, transfer in enumerate(case.transfers)
    ]
    now = min(begin, default=Fraction(0))
    while None in finish:
        active = [i for i, end in enumerate(finish) if end is None and begin[i] <= now]
        rates = shares(capacity, [uses[i] for i in active], [case.transfers[i] for i in active])
        ends = [now + remaining[i] / rate for i, rate in zip(active, rates, strict=True) if rate]
        later = min(ends + [start for start in begin if start > now])
        for i, rate in zip(active, rates, strict=True):
            remaining[i] -= rate * (later - now)
            if not remaining[i]:
                finish[i] = later
        now = later
    return [end for end in finish if end is not None]


def shares(
    capacity: Mapping[str, Fraction], uses: Sequence[Uses], flows: Sequence[Transfer]
) -> list[Fraction]:
    """Return the rates: class by class, each max-min fair on what the classes before it leave."""
    left = dict(capacity)
    rates = [Fraction(0)] * len(flows)
    for priority in sorted({flow.priority for flow in flows}):
        growing = {i for i, flow in enumerate(flows) if flow.priority == priority}
        while growing:
            steps = [
                left[row] / sum(uses[i].get(row, Fraction(0)) for i in growing)
                for row in left
                if any(row in uses[i] for i in growing)
            ]
            steps += [Fraction(cap) - rates[i] for i in growing if (cap := flows[i].cap) is not None]
            step = min(steps)
            for i in growing:
                rates[i] += step
                for row, weight in uses[i].items():
                    left[row] -= weight * step
            growing = {i for i in growing if rates[i] != flows[i].cap and all(left[row] for row in uses[i])}
    return rates


def _uses(links: Sequence[LinkSpec], transfer: Transfer) -> Uses:
    uses: Uses = {}
    for index in transfer.route:
        link = links[index]
        uses[link.name] = uses.get(link.name, Fraction(0)) + 1
        if link.group is not None:
            uses[link.group] = uses.get(link.group, Fraction(0)) + Fraction(link.group_weight)
    return uses
