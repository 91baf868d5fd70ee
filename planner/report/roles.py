"""Folding by symmetry: nodes of one machine type that do the same work share one role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.report.names import DASH, spans
from planner.report.uses import Loads, Occupancy
from planner.topology.cluster import Node, Topology


@dataclass(frozen=True, eq=False)
class Role:
    """Nodes that are alike: same machine type, same stage and tensor part on every GPU.

    Attributes
    ----------
    sample
        The node to draw: the one whose busiest link is busiest.
    colour
        Use group that most of its GPUs serve; ``None`` when it is idle.
    """

    label: str
    nodes: tuple[str, ...]
    sample: Node
    colour: int | None


def node_roles(topology: Topology, who: Occupancy, loads: Loads) -> tuple[Role, ...]:
    """Return the roles: working ones first, then by first node."""
    members: dict[tuple[object, ...], list[Node]] = defaultdict(list)
    for node in topology.nodes:
        members[_key(node, who)].append(node)
    busiest = busiest_by_node(loads)
    roles = [_role(nodes, who, busiest) for nodes in members.values()]
    return tuple(sorted(roles, key=lambda role: role.colour is None))


def most_telling(roles: Sequence[Role], loads: Loads, most: int) -> list[Role]:
    """Return at most ``most`` roles in their own order: one of each machine type, then the busiest links."""
    busiest = busiest_by_node(loads)
    first = {id(role) for role in {role.sample.machine.name: role for role in reversed(roles)}.values()}

    def rank(role: Role) -> tuple[bool, bool, float]:
        return id(role) not in first, role.colour is None, -busiest.get(role.sample.name, 0.0)

    ranked = sorted(roles, key=rank)
    return [role for role in roles if role in ranked[:most]]


def busiest_by_node(loads: Loads) -> dict[str, float]:
    """Return the largest utilisation of a link at each node."""
    busiest: dict[str, float] = {}
    for ends, utilisation in loads.items():
        for end in ends:
            node = end.split("/", 1)[0]
            busiest[node] = max(busiest.get(node, 0.0), utilisation)
    return busiest


def _key(node: Node, who: Occupancy) -> tuple[object, ...]:
    gpus = tuple(
        tuple((use.group, use.tensor) for use in who.of(f"{node.name}/{gpu.name}"))
        for gpu in node.machine.gpus
    )
    cores = tuple(tuple(who.cores.get(f"{node.name}/{numa.name}", ())) for numa in node.machine.numa)
    return node.machine.name, gpus, cores


def _role(nodes: list[Node], who: Occupancy, busiest: Mapping[str, float]) -> Role:
    sample = max(nodes, key=lambda node: busiest.get(node.name, 0.0))
    counts: dict[int, int] = defaultdict(int)
    for gpu in sample.machine.gpus:
        for use in who.of(f"{sample.name}/{gpu.name}"):
            counts[use.group] += 1
    colour = max(counts, key=lambda key: counts[key]) if counts else None
    return Role(_label(sample, sorted(counts), who), tuple(node.name for node in nodes), sample, colour)


def _label(node: Node, groups: list[int], who: Occupancy) -> str:
    jobs: dict[str, list[int]] = defaultdict(list)
    for index in groups:
        jobs[who.groups[index].job].append(who.groups[index].stage)
    several = len({group.job for group in who.groups}) > 1
    staged = {group.job for group in who.groups if group.stage > 0}
    texts = []
    for job, stages in jobs.items():
        where = f"stage {stages[0]}" if len(stages) == 1 else f"stages {spans(stages, DASH)}"
        texts.append(" ".join([job] * (several or job not in staged) + [where] * (job in staged)))
    if not texts and any(f"{node.name}/{numa.name}" in who.cores for numa in node.machine.numa):
        return "CPU stages only"
    return ", ".join(texts) or "not used"
