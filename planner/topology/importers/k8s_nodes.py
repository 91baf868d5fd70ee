"""Nodes of a Kubernetes cluster (``kubectl get nodes -o json``): GPUs, NVLink domains, switches, by label.

GPU feature discovery labels the GPUs; Topograph, or the cloud, labels the switches above a node.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.errors import DocumentError
from planner.schema.foreign import read_foreign_json, read_foreign_yaml
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import FabricView, Remark
from planner.topology.importers.words import has_long_number

FORMAT = "k8s-nodes"
_TIERS = (
    tuple(f"fabric.topograph.run/tier-{tier}" for tier in range(8)),
    tuple(f"network.topology.nvidia.com/{tier}" for tier in ("leaf", "spine", "core")),
    tuple(f"topology.k8s.aws/network-node-layer-{layer}" for layer in (3, 2, 1)),
)
"""Labels of the switches above a node, the nearest first: Topograph 1.0, Topograph before, AWS."""
_DOMAINS = ("accelerator.topograph.run/domain", "network.topology.nvidia.com/accelerator")
_CLIQUE = "nvidia.com/gpu.clique"
_GPUS = "nvidia.com/gpu"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123
_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""What Kubernetes takes for the value of a label."""
_CLIQUE_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9]{1,10}", re.IGNORECASE)
_WHOLE = re.compile(r"[0-9]{1,9}")
_QUANTITY = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|Ti|k|M|G|T|m)?")
_SCALE = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


@dataclass(frozen=True)
class NodeFacts:
    """What the labels and the status of one node tell; None where they do not.

    Attributes
    ----------
    product
        Model of its GPUs as feature discovery writes it, with dashes for blanks.
    gpus
        Number of physical GPUs.
    gpu_memory
        Memory of one GPU, bytes.
    memory
        Memory of the host, bytes.
    clique
        NVLink partition, ``CLUSTER.CLIQUE``.
    replicas
        Shares that each GPU is offered in.
    """

    product: str | None = None
    gpus: int | None = None
    gpu_memory: float | None = None
    family: str | None = None
    machine: str | None = None
    arch: str | None = None
    processors: int | None = None
    memory: float | None = None
    clique: str | None = None
    domain: str | None = None
    mig_strategy: str | None = None
    replicas: int | None = None
    sharing: str | None = None


@dataclass(frozen=True)
class KubernetesView(FabricView):
    """A cluster as its API server lists it; ``facts`` are by node."""

    facts: Mapping[str, NodeFacts] = field(default_factory=dict)


def read_nodes(text: str, name: str) -> KubernetesView:
    """Read a list of nodes, or a single one, as JSON or YAML.

    Raises
    ------
    ImportRefusedError
        If it is no such list, or names a node twice.
    """
    try:
        is_json = text.lstrip("\ufeff \t\r\n").startswith("{")
        data = read_foreign_json(text, name) if is_json else read_foreign_yaml(text, name).data
    except DocumentError as error:
        problem = error.problems[0]
        raise ImportRefusedError(name, problem.line, problem.text) from None
    return _Reader(name).read(_items(data, name))


def _items(data: Any, name: str) -> list[Any]:
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "Node":
        return [data]
    items = data.get("items") if kind in ("List", "NodeList") else None
    if not isinstance(items, list) or not items:
        raise ImportRefusedError(name, 0, "no list of nodes as kubectl get nodes -o json writes it")
    return items


class _Reader:
    """Collects the nodes of one cluster."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.remarks: list[Remark] = []
        self.facts: dict[str, NodeFacts] = {}
        self.parents: dict[str, str] = {}
        self.switches: dict[str, None] = {}
        self.links: dict[tuple[str, str], None] = {}

    def read(self, items: Sequence[Any]) -> KubernetesView:
        """Return the cluster."""
        for place, item in enumerate(items):
            self._node(place, item)
        cut = [node for node in self.facts if node not in self.parents]
        if self.switches and cut:
            self._note(f"no label tells the switches above {len(cut)} nodes, {cut[0]} first")
        if not self.switches:
            self._note("no label tells the switches above the nodes; the fabric is unknown")
        roots = [switch for switch in self.switches if switch not in self.parents]
        if len(roots) > 1:
            self._note(f"{len(roots)} trees of switches side by side; what joins them is unknown")
        self._compare()
        clash = self.switches.keys() & self.facts.keys()
        if clash:
            raise self._refused(f"{min(clash)!r} is both a node and a switch")
        return KubernetesView(
            FORMAT,
            tuple(self.switches),
            tuple(self.facts),
            self.parents,
            tuple((upper, lower, None) for upper, lower in self.links),
            self._blocks(),
            remarks=tuple(self.remarks),
            facts=self.facts,
        )

    def _node(self, place: int, item: Any) -> None:
        metadata = item.get("metadata") if isinstance(item, dict) else None
        node = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(metadata, dict) or not isinstance(node, str) or not node:
            raise self._refused(f"item {place} has no metadata.name")
        if item.get("kind", "Node") != "Node":
            raise self._refused(f"item {place} is a {str(item['kind'])[:40]}, no Node")
        if not _NAME.fullmatch(node) or has_long_number(node):
            raise self._refused(f"{node[:80]!r} is no name of a node")
        if node in self.facts:
            raise self._refused(f"node {node!r} is listed twice")
        labels = metadata.get("labels") or {}
        if not isinstance(labels, dict) or any(not isinstance(one, str | None) for one in labels.values()):
            raise self._refused(f"the labels of node {node!r} are no text")
        for key, value in labels.items():
            if value and (not _VALUE.fullmatch(value) or has_long_number(value)):
                raise self._refused(f"label {key[:80]} of {node!r} is {value[:80]!r}, which no label can be")
        stated = {key: value for key, value in labels.items() if value}
        self.facts[node] = self._facts(node, stated, _mapping(item.get("status")))
        self._hang(node, labels)

    def _facts(self, node: str, labels: Mapping[str, str], status: Mapping[str, Any]) -> NodeFacts:
        capacity, info = _mapping(status.get("capacity")), _mapping(status.get("nodeInfo"))
        product = labels.get("nvidia.com/gpu.product") or None
        gpus, replicas = self._whole(node, labels, "count"), self._whole(node, labels, "replicas")
        size = self._whole(node, labels, "memory")
        offered = _quantity(capacity.get(_GPUS))
        strategy = labels.get("nvidia.com/mig.strategy") or None
        if gpus is None and offered and (replicas or 1) == 1:
            gpus = int(offered)
        elif gpus is not None and offered is not None and offered != gpus * max(replicas or 1, 1):
            self._note(f"{node}: labelled with {gpus} GPUs, but offers {offered:g} {_GPUS}")
        processors = _quantity(capacity.get("cpu"))
        return NodeFacts(
            None if product is None else re.sub(r"-(SHARED|MIG-\S+)$", "", product),
            gpus,
            None if size is None else size * 2.0**20,
            labels.get("nvidia.com/gpu.family") or None,
            labels.get("nvidia.com/gpu.machine") or None,
            labels.get("kubernetes.io/arch") or info.get("architecture") or None,
            None if processors is None else int(processors),
            _quantity(capacity.get("memory")),
            labels.get(_CLIQUE) or None,
            next((labels[key] for key in _DOMAINS if labels.get(key)), None),
            strategy,
            replicas,
            labels.get("nvidia.com/gpu.sharing-strategy") or None,
        )

    def _whole(self, node: str, labels: Mapping[str, str], what: str) -> int | None:
        text = labels.get(f"nvidia.com/gpu.{what}")
        if not text:
            return None
        if not _WHOLE.fullmatch(text):
            self._note(f"{node}: label nvidia.com/gpu.{what} is {text[:40]!r}, no number; left out")
            return None
        return int(text)

    def _hang(self, node: str, labels: Mapping[str, str]) -> None:
        """Hang a node below the switches of the first scheme of labels that it has."""
        scheme = next((keys for keys in _TIERS if any(labels.get(key) for key in keys)), ())
        path = [node, *(labels[key] for key in scheme if labels.get(key))]
        missing = [key for key in scheme[: len(path) - 1] if not labels.get(key)]
        if missing:
            self._note(f"{node}: label {missing[0]} is missing between others; its switch is left out")
        for lower, upper in itertools.pairwise(path):
            self.switches.setdefault(upper)
            if lower == upper:
                continue
            first = self.parents.setdefault(lower, upper)
            if first != upper:
                self._note(f"{lower} is below {first} by one label and below {upper} by another")
            self.links[upper, lower] = None
        self._refuse_cycle(node)

    def _refuse_cycle(self, node: str) -> None:
        seen, place = {node}, self.parents.get(node)
        while place is not None:
            if place in seen:
                raise self._refused(f"by the labels, switch {place!r} is above itself")
            seen.add(place)
            place = self.parents.get(place)

    def _compare(self) -> None:
        """Remark what differs between nodes of one GPU product."""
        whats = ("gpus", "gpu_memory", "arch", "processors", "memory", "family", "mig_strategy", "replicas")
        for product in dict.fromkeys(facts.product for facts in self.facts.values()):
            alike = [facts for facts in self.facts.values() if facts.product == product]
            for what in whats:
                if len({getattr(facts, what) for facts in alike}) > 1:
                    self._note(f"{what} differs between nodes with {product or 'unknown GPUs'}")
            for what in ("clique", "domain"):
                without = sum(getattr(facts, what) is None for facts in alike)
                if 0 < without < len(alike):
                    self._note(f"{without} of {len(alike)} nodes with {product} state no {what}")
        for node, facts in self.facts.items():
            if facts.product is None and facts.gpus:
                self._note(f"{node}: the product of its GPUs is not stated")
            if facts.clique is not None and not _CLIQUE_NAME.fullmatch(facts.clique):
                self._note(f"{node}: clique {facts.clique!r} is not CLUSTER.CLIQUE")

    def _blocks(self) -> dict[str, tuple[str, ...]]:
        """Return the nodes by NVLink partition, or by domain where the partition is unknown."""
        blocks: dict[str, list[str]] = {}
        for node, facts in self.facts.items():
            block = facts.clique or facts.domain
            if block is not None:
                blocks.setdefault(block, []).append(node)
        for clique, nodes in blocks.items():
            domains = {self.facts[node].domain for node in nodes}
            if len(domains) > 1:
                self._note(f"nodes of NVLink partition {clique} are labelled with {len(domains)} domains")
        return {block: tuple(nodes) for block, nodes in blocks.items()}

    def _note(self, text: str) -> None:
        self.remarks.append(Remark(0, text))

    def _refused(self, text: str) -> ImportRefusedError:
        return ImportRefusedError(self.name, 0, text)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _quantity(value: Any) -> float | None:
    """Return a Kubernetes quantity such as ``263856796Ki``, None where it is none."""
    match = _QUANTITY.fullmatch(str(value)) if value is not None else None
    return None if match is None else int(match[1]) * _SCALE[match[2] or ""]
