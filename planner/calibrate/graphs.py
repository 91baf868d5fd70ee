"""Operator graphs of real models as the JSON form that an operators job reads: operations, bytes, edges.

Times are not in the file: the planner works them out for the devices of each topology. What a node's
parameters and output take is its ``size``; operators that share a parameter get one colour, so that they stay
together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.schema import write_text_atomic

OPEN_MACHINE = {"maxFPGAs": 0, "maxCPUs": 0, "maxSizePerFPGA": 0}
"""The machine that the form asks for; an operators job takes the topology's instead."""


@dataclass
class GraphWriter:
    """Collects operators in the order in which they run."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    owner: dict[str, str] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        key: str,
        kind: str,
        *,
        flops: float,
        traffic: float,
        output: float,
        inputs: Iterable[str],
        parameters: dict[str, float],
    ) -> None:
        """Add an operator.

        Parameters
        ----------
        kind
            What it does, for people.
        flops, traffic, output
            Operations, bytes of device memory read and written, bytes that consumers read.
        inputs
            Keys of operators that were added before.
        parameters
            Bytes of each parameter that it reads, by name.
        """
        node: dict[str, Any] = {
            "id": key,
            "name": kind,
            "flops": flops,
            "traffic": traffic,
            "output": output,
            "size": output + sum(size for name, size in parameters.items() if name not in self.owner),
            "supportedOnFpga": 1,
            "isBackwardNode": 0,
        }
        self.place[key] = len(self.nodes)
        self.nodes.append(node)
        for source in dict.fromkeys(inputs):
            self.edges.append({"sourceId": source, "destId": key})
        for name in parameters:
            self._share(name, key)

    def _share(self, parameter: str, key: str) -> None:
        """Give operators that read one parameter one colour, joining the colours they had."""
        first = self.nodes[self.place[self.owner.setdefault(parameter, key)]]
        node = self.nodes[self.place[key]]
        if first is node:
            return
        colour, old = first.setdefault("colorClass", parameter), node.get("colorClass")
        node["colorClass"] = colour
        for other in self.nodes:
            if old is not None and other.get("colorClass") == old:
                other["colorClass"] = colour

    def document(self) -> dict[str, Any]:
        """Return the graph in the JSON form."""
        return {**OPEN_MACHINE, "nodes": self.nodes, "edges": self.edges}


def write_graph(document: dict[str, Any], path: str | Path) -> None:
    """Write a graph to a file that the field ``graph`` of an operators job can name."""
    write_text_atomic(Path(path), json.dumps(document, indent=1) + "\n")
