"""The reader of operator graphs in their JSON form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.errors import DocumentError, Problem
from planner.schema import read_text
from planner.schema.foreign import read_foreign_json, read_foreign_yaml
from planner.workload.operators import Operator, OperatorFile, OperatorGraph

_MAX_NODES = 100_000
_LARGEST = 1e18


def read_operators(path: str | Path, time_unit: float = 1.0) -> OperatorFile:
    """Return the graph and the machine in a file of the JSON form.

    Parameters
    ----------
    time_unit
        Seconds per unit of the times in the file, which states none; 1 keeps them as they stand.

    Raises
    ------
    DocumentError
        If the file cannot be read or anything in it is wrong; lists every problem with its place.
    """
    text, name = read_text(path), str(path)
    reader = _Reader(read_foreign_json(text, name), time_unit)
    found = reader.read()
    if found is None:
        foreign = read_foreign_yaml(text, name)
        problems = [
            Problem(name, foreign.line(*where), 1, ".".join(map(str, where)), said)
            for where, said in reader.faults[:_MOST_FAULTS]
        ]
        raise DocumentError(sorted(problems, key=lambda problem: problem.line))
    return found


_MOST_FAULTS = 100
_Place = tuple[str | int, ...]


class _Reader:
    """Reads the data of one file and notes everything wrong with it in ``faults``."""

    def __init__(self, data: Any, time_unit: float) -> None:
        self.data, self.unit = data, time_unit
        self.faults: list[tuple[_Place, str]] = []
        self.sized: set[int] = set()

    def read(self) -> OperatorFile | None:
        """Return what the file states, or None when there are faults."""
        if not isinstance(self.data, dict):
            self._fault((), "must be a mapping with 'nodes', 'edges', 'maxFPGAs' and 'maxSizePerFPGA'")
            return None
        accelerators = self._number(self.data, "maxFPGAs", ())
        cpus = self._number(self.data, "maxCPUs", ())
        for field, value in (("maxFPGAs", accelerators), ("maxCPUs", cpus)):
            if value != int(value):
                self._fault((field,), "must be a whole number")
        memory = self._number(self.data, "maxSizePerFPGA", ())
        operators, index = self._nodes()
        self.sized = {place for place, op in enumerate(operators) if op.output is not None}
        edges, costs = self._edges(index)
        if self.faults:
            return None
        priced = tuple(_priced(op, costs.get(place, 0.0) * self.unit) for place, op in enumerate(operators))
        graph = OperatorGraph(priced, tuple(edges))
        if len(graph.order) < len(priced):
            culprit = min(set(range(len(priced))) - set(graph.order))
            self._fault(("nodes", culprit), f"node {priced[culprit].key} is on a cycle, or behind one")
            return None
        return OperatorFile(graph, int(accelerators), int(cpus), memory)

    def _nodes(self) -> tuple[list[Operator], dict[Any, int]]:
        operators: list[Operator] = []
        index: dict[Any, int] = {}
        for place, node in enumerate(self._records("nodes")):
            where: _Place = ("nodes", place)
            key = node.get("id")
            if isinstance(key, bool) or not isinstance(key, int | str):
                self._fault((*where, "id"), "needs an id, a whole number or text")
            elif key in index:
                self._fault((*where, "id"), f"the id {key} is given twice")
            else:
                index[key] = len(operators)
            colour = node.get("colorClass")
            if isinstance(colour, dict | list | bool):
                self._fault((*where, "colorClass"), "must be a whole number or text")
            operators.append(self._operator(node, str(key), None if colour is None else str(colour), where))
        return operators, index

    def _operator(self, node: dict[str, Any], key: str, colour: str | None, where: _Place) -> Operator:
        """Return an operator; one with operations or traffic needs no times."""
        counted = "flops" in node or "traffic" in node
        default = 0.0 if counted else None
        return Operator(
            key,
            self._number(node, "fpgaLatency", where, default) * self.unit,
            self._number(node, "cpuLatency", where, default) * self.unit,
            self._number(node, "size", where, 0.0),
            colour=colour,
            on_accelerator=self._flag(node, "supportedOnFpga", where, default=True),
            backward=self._flag(node, "isBackwardNode", where, default=False),
            output=self._number(node, "output", where) if "output" in node else None,
            weights=self._number(node, "weights", where, 0.0),
            flops=self._number(node, "flops", where, 0.0),
            traffic=self._number(node, "traffic", where, 0.0),
            on_cpu=not counted or "cpuLatency" in node,
        )

    def _edges(self, index: dict[Any, int]) -> tuple[list[tuple[int, int]], dict[int, float]]:
        edges: list[tuple[int, int]] = []
        costs: dict[int, float] = {}
        for place, edge in enumerate(self._records("edges")):
            where: _Place = ("edges", place)
            ends = []
            for field in ("sourceId", "destId"):
                key = edge.get(field)
                if isinstance(key, dict | list) or key not in index:
                    self._fault((*where, field), f"there is no node {key!r}")
                else:
                    ends.append(index[key])
            known = len(ends) == 2 and edge.get("cost") is None and ends[0] in self.sized
            cost = 0.0 if known else self._number(edge, "cost", where)
            if len(ends) == 2:
                edges.append((ends[0], ends[1]))
                if not math.isclose(costs.setdefault(ends[0], cost), cost, rel_tol=1e-9):
                    self._fault((*where, "cost"), "all edges out of a node move the same output at one cost")
        return list(dict.fromkeys(edges)), costs

    def _records(self, field: str) -> Iterator[dict[str, Any]]:
        values = self.data.get(field)
        if not isinstance(values, list) or len(values) > _MAX_NODES:
            self._fault((field,), f"must be a list of at most {_MAX_NODES} records")
            return
        for place, value in enumerate(values):
            if isinstance(value, dict):
                yield value
            else:
                self._fault((field, place), "must be a record")
                yield {}

    def _number(
        self, record: dict[str, Any], field: str, where: _Place, default: float | None = None
    ) -> float:
        value = record.get(field, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= _LARGEST:
            return float(value)
        self._fault((*where, field), f"must be a number from 0 to {_LARGEST:g}, not {value!r}")
        return 0.0

    def _flag(self, record: dict[str, Any], field: str, where: _Place, *, default: bool) -> bool:
        value = record.get(field, default)
        if value not in (True, False, 0, 1):
            self._fault((*where, field), f"must be true or false, not {value!r}")
        return bool(value)

    def _fault(self, where: _Place, text: str) -> None:
        self.faults.append((where, text))


def _priced(op: Operator, cost: float) -> Operator:
    return replace(op, transfer_time=cost)
