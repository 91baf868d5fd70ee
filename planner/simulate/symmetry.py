"""Transfers that must behave alike, found beforehand, so that a network carries one of each kind.

The ranks of a tensor group send the same bytes at the same time over links of the same rates. Transfers and
links are coloured until every link of a colour is crossed by equally many transfers of each colour, and every
transfer of a colour crosses equally many links of each colour (an equitable partition). Max-min shares are
unique, so transfers of one colour always have the same rate. A network with one link and one transfer for
each colour then gives exactly the finish times of the whole one: a link that several transfers of a colour
cross is written as often in the route of the one that stands for them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from planner.simulate.cabling import Cable
from planner.simulate.links import LinkSpec


@dataclass(frozen=True)
class Transfer:
    """One transfer of a bundle.

    Attributes
    ----------
    route
        Links by their number.
    size, cap
        Bytes, and highest rate, bytes/s.
    latency
        Time before the first byte moves, s.
    """

    route: tuple[int, ...]
    size: float
    cap: float
    latency: float = 0.0


Bundle = Sequence[Transfer]
"""Transfers that always start together."""


@dataclass(frozen=True)
class TransferClass:
    """Transfers of one colour.

    Attributes
    ----------
    route
        Links of the reduced network, each as often as transfers of this colour cross it.
    alone
        Rate of one of them on otherwise idle links, bytes/s.
    """

    route: tuple[int, ...]
    size: float
    cap: float
    latency: float
    alone: float

    @property
    def shortest(self) -> float:
        """Time without any contention, s."""
        return self.latency + (self.size / self.alone if self.size > 0.0 else 0.0)


@dataclass(frozen=True)
class Reduced:
    """A network that stands for a larger one.

    Attributes
    ----------
    links, groups
        For a `Network`.
    members
        Links of the whole network that each link stands for.
    bundles
        Classes of transfers of each bundle.
    """

    links: list[LinkSpec]
    groups: dict[str, float]
    members: list[list[int]]
    bundles: list[list[TransferClass]]


def reduce_network(bundles: Sequence[Bundle], cables: Sequence[Cable]) -> Reduced:
    """Return the network with one link and one transfer for each colour."""
    flows = [(number, flow) for number, bundle in enumerate(bundles) for flow in bundle]
    flow_colour, link_colour = _colours(flows, cables)
    members: dict[int, list[int]] = defaultdict(list)
    for link in sorted(link_colour):
        members[link_colour[link]].append(link)
    place = {colour: index for index, colour in enumerate(members)}
    first = [links[0] for links in members.values()]
    crossing: dict[int, Counter[int]] = {link: Counter() for link in first}
    for (_, flow), colour in zip(flows, flow_colour, strict=True):
        for link in flow.route:
            if link in crossing:
                crossing[link][colour] += 1
    classes: list[dict[int, TransferClass]] = [{} for _ in bundles]
    for (number, flow), colour in zip(flows, flow_colour, strict=True):
        if colour not in classes[number]:
            crossed = sorted({place[link_colour[link]] for link in flow.route})
            route = tuple(index for index in crossed for _ in range(crossing[first[index]][colour]))
            classes[number][colour] = TransferClass(
                route, flow.size, flow.cap, flow.latency, alone_rate(flow.route, cables, flow.cap)
            )
    specs, groups = _specs(list(members.values()), cables)
    return Reduced(specs, groups, list(members.values()), [list(found.values()) for found in classes])


def alone_rate(route: Sequence[int], cables: Sequence[Cable], cap: float = math.inf) -> float:
    """Return the rate of a transfer on an otherwise idle route, bytes/s."""
    limits = [cap]
    taken: dict[str, tuple[float, float]] = {}
    for link in route:
        cable = cables[link]
        limits.append(cable.rate)
        if cable.group is not None:
            taken[cable.group] = cable.group_rate, taken.get(cable.group, (0.0, 0.0))[1] + cable.weight
    return min([*limits, *(rate / weight for rate, weight in taken.values())])


def _specs(members: list[list[int]], cables: Sequence[Cable]) -> tuple[list[LinkSpec], dict[str, float]]:
    """Return the links of the reduced network; one that stands for several of a group weighs as many."""
    specs, groups = [], {}
    for index, links in enumerate(members):
        cable = cables[links[0]]
        weight = cable.weight
        if cable.group is not None:
            weight *= sum(cables[link].group == cable.group for link in links)
            groups[_group_name(members, cables, cable.group)] = cable.group_rate
        name = None if cable.group is None else _group_name(members, cables, cable.group)
        specs.append(LinkSpec(f"link {index}", cable.rate, group=name, group_weight=weight))
    return specs, groups


def _group_name(members: list[list[int]], cables: Sequence[Cable], group: str) -> str:
    """Return one name for all groups that hold links of the same colours."""
    inside = [
        index for index, links in enumerate(members) if any(cables[link].group == group for link in links)
    ]
    return "group of " + " ".join(map(str, inside))


Flows = list[tuple[int, Transfer]]


def _colours(flows: Flows, cables: Sequence[Cable]) -> tuple[list[int], dict[int, int]]:
    """Return the colours of transfers and of the links that they cross, refined until nothing splits."""
    used = sorted({link for _, flow in flows for link in flow.route})
    of_flow = _renumber([(number, flow.size, flow.cap, flow.latency) for number, flow in flows])
    of_link = _renumber([(cables[link].rate, cables[link].weight, cables[link].group_rate) for link in used])
    row = {link: index for index, link in enumerate(used)}
    crossed = [[row[link] for link in flow.route] for _, flow in flows]
    crossing: list[list[int]] = [[] for _ in used]
    for index, rows in enumerate(crossed):
        for link in rows:
            crossing[link].append(index)
    grouped: dict[str, list[int]] = defaultdict(list)
    for index, link in enumerate(used):
        group = cables[link].group
        grouped[f"link {link}" if group is None else group].append(index)
    partners = [grouped[cables[link].group or f"link {link}"] for link in used]
    count = 0
    while len(set(of_flow)) + len(set(of_link)) > count:
        count = len(set(of_flow)) + len(set(of_link))
        shared = [tuple(sorted(of_link[other] for other in others)) for others in partners]
        of_link = _renumber(
            [
                (of_link[i], shared[i], tuple(sorted(of_flow[f] for f in crossing[i])))
                for i in range(len(used))
            ]
        )
        of_flow = _renumber(
            [(of_flow[i], tuple(sorted(of_link[r] for r in rows))) for i, rows in enumerate(crossed)]
        )
    return of_flow, dict(zip(used, of_link, strict=True))


def _renumber(keys: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]
