"""Building blocks of clusters: what one is made of, and the clusters that can be made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, prod
from pathlib import Path
from typing import Any, Literal

from planner.errors import StudyError
from planner.schema import plain
from planner.topology import load_topology
from planner.topology.models import TopologyDocument

By = Literal["gpus", "nodes", "cost"]
MOST_MIXTURES = 20_000
"""Most mixtures of blocks that are listed."""


@dataclass(frozen=True)
class Block:
    """One kind of node that a cluster can be made of, or a cluster that is taken whole.

    Attributes
    ----------
    document
        The plain document that it comes from; one that can be resized gives its only machine and its fabric.
    nodes, gpus
        Of one block.
    price
        Of one block, USD/h.
    most
        Most blocks of this kind.
    note
        Why there can be no more, where that is not what the user asked for.
    """

    name: str
    document: dict[str, Any]
    nodes: int
    gpus: int
    price: float | None
    most: int
    note: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the document is taken as it is, once."""
        return self.nodes > 1 or self.note.startswith("taken whole")


@dataclass(frozen=True)
class Cluster:
    """A candidate: how many of which blocks."""

    parts: tuple[tuple[Block, int], ...]

    @property
    def name(self) -> str:
        """Such as ``2 x dgx-h100``."""
        return " + ".join(f"{count} x {block.name}" for block, count in self.parts)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(block.nodes * count for block, count in self.parts)

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return sum(block.gpus * count for block, count in self.parts)

    @property
    def price(self) -> float | None:
        """Price, USD/h; ``None`` where that of a block is not known."""
        prices = [None if block.price is None else block.price * count for block, count in self.parts]
        return None if None in prices else sum(price for price in prices if price is not None)

    def size(self, by: By) -> tuple[float, ...]:
        """Return what clusters are ordered by: the measure asked for, then the other ones."""
        price = inf if self.price is None else self.price
        measures = {"gpus": float(self.gpus), "nodes": float(self.nodes), "cost": price}
        return measures[by], *(value for name, value in measures.items() if name != by)

    def document(self, fabric: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cluster as a plain topology document.

        Parameters
        ----------
        fabric
            Joins nodes whose block brings no fabric: the plain document of a cluster.
        """
        first = self.parts[0][0]
        if first.is_whole:
            return first.document
        several = self.nodes > 1
        own = next((block.document for block, _ in self.parts if block.document.get("fabric")), fabric)
        blocks = [block.document for block, _ in self.parts]
        devices = {device["name"]: device for document in blocks for device in document.get("devices", [])}
        found: dict[str, Any] = {
            "schema": first.document["schema"],
            "name": "-".join(f"{block.name}-x{count}" for block, count in self.parts),
            "sources": {
                **(own.get("sources", {}) if several else {}),
                **{key: text for document in blocks for key, text in document.get("sources", {}).items()},
            },
            "devices": list(devices.values()),
            "machines": [{**block.document["machines"][0], "name": block.name} for block, _ in self.parts],
            "nodes": [
                {"name": f"{block.name}-[0-{count - 1}]", "machine": block.name}
                for block, count in self.parts
            ],
        }
        return {**found, "fabric": own["fabric"]} if several else found


def load_block(reference: str, most: int | None, price: float | None, max_nodes: int) -> Block:
    """Return the building block in a topology: a file or a preset.

    A topology with one kind of machine and no fabric, or a regular one, gives nodes of that machine, as many
    as wanted. Any other is taken whole, once.

    Parameters
    ----------
    most
        Most blocks of this kind, beside what ``max_nodes`` allows.
    price
        Of one block, USD/h; that of its machine where absent.

    Raises
    ------
    PlannerError
        If there is no such topology, or it is larger than ``max_nodes``.
    """
    topology = load_topology(reference)
    document, stem = topology.document, Path(reference).stem
    if not topology.gpus:
        raise StudyError(f"block {stem!r} has no GPU")
    prices = [node.machine.price for node in topology.nodes]
    stated = None if None in prices else sum(one for one in prices if one is not None)
    if not _resizable(document):
        nodes, note = (
            len(topology.nodes),
            "taken whole: its fabric is drawn link by link, or its machines differ",
        )
        if nodes > max_nodes:
            raise StudyError(f"block {stem!r} has {nodes} nodes, more than the {max_nodes} that are allowed")
        given = stated if price is None else price
        return Block(stem, plain(document), nodes, len(topology.gpus), given, 1, note)
    machine = topology.nodes[0].machine
    ported = any(nic.bandwidth.value for nic in document.machines[0].nics)
    limit = min(max_nodes, most or max_nodes) if ported else 1
    note = "" if ported or limit == most else "its machine has no network port to join nodes with"
    return Block(
        stem, plain(document), 1, len(machine.gpus), machine.price if price is None else price, limit, note
    )


def _resizable(document: TopologyDocument) -> bool:
    fabric = document.fabric
    drawn = fabric is not None and (fabric.layout is None or bool(fabric.links or fabric.switches))
    return len(document.machines) == 1 and not drawn


def clusters_of(block: Block) -> list[Cluster]:
    """Return the clusters of one block, smallest first."""
    return [Cluster(((block, count),)) for count in range(1, block.most + 1)]


def mixtures(blocks: Sequence[Block], max_nodes: int, by: By) -> list[Cluster]:
    """Return the clusters of at least two kinds of blocks, smallest first.

    Raises
    ------
    StudyError
        If there are too many to look at each.
    """
    loose = [block for block in blocks if not block.is_whole]
    if prod(block.most + 1 for block in loose) > MOST_MIXTURES:
        raise StudyError(f"there are more than {MOST_MIXTURES:,} mixtures of the blocks; lower --max-nodes")
    found = []
    for counts in product(*(range(block.most + 1) for block in loose)):
        parts = tuple((block, count) for block, count in zip(loose, counts, strict=True) if count)
        if len(parts) > 1 and sum(counts) <= max_nodes:
            found.append(Cluster(parts))
    return sorted(found, key=lambda cluster: (cluster.size(by), cluster.name))
