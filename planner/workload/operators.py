"""Operator graphs: what each operator costs on each kind of device, and the reader of their JSON form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from planner.errors import DocumentError, Problem
from planner.schema import Bytes, Fault, FaultError, Name, Record, Seconds, read_text
from planner.schema.foreign import read_foreign_json, read_foreign_yaml

_MAX_NODES = 100_000
_LARGEST = 1e18


@dataclass(frozen=True, slots=True)
class Operator:
    """One vertex of an operator graph.

    Attributes
    ----------
    key
        Identity in the document it came from.
    accelerator_time, cpu_time
        Run time on an accelerator and on a CPU device, s.
    size
        Bytes that it occupies on the accelerator that it is placed on.
    transfer_time
        Time to move its output between an accelerator and host memory, s.
    colour
        Operators of one colour must be on one device; ``None`` when it is free.
    on_accelerator
        Whether an accelerator can run it.
    backward
        Whether it belongs to the backward pass.
    """

    key: str
    accelerator_time: float
    cpu_time: float
    size: float = 0.0
    transfer_time: float = 0.0
    colour: str | None = None
    on_accelerator: bool = True
    backward: bool = False


@dataclass(frozen=True)
class OperatorGraph:
    """A directed acyclic graph of operators.

    Attributes
    ----------
    edges
        Pairs of indices of `operators`: producer, consumer.
    """

    operators: tuple[Operator, ...]
    edges: tuple[tuple[int, int], ...]

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Consumers of each operator."""
        found: list[list[int]] = [[] for _ in self.operators]
        for source, target in self.edges:
            found[source].append(target)
        return tuple(tuple(dict.fromkeys(targets)) for targets in found)

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Producers that each operator reads."""
        found: list[list[int]] = [[] for _ in self.operators]
        for source, target in self.edges:
            found[target].append(source)
        return tuple(tuple(dict.fromkeys(sources)) for sources in found)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A topological order; shorter than `operators` when the graph has a cycle."""
        waiting = [len(sources) for sources in self.predecessors]
        ready = [index for index, count in enumerate(waiting) if count == 0]
        for index in ready:
            for target in self.successors[index]:
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
        return tuple(ready)


@dataclass(frozen=True)
class OperatorFile:
    """What the JSON form states: a graph and the machine that it is meant for.

    Attributes
    ----------
    memory
        Bytes of one accelerator.
    """

    graph: OperatorGraph
    num_accelerators: int
    num_cpus: int
    memory: float


class OperatorSpec(Record):
    """An operator in a document; the fields are those of `Operator`.

    Attributes
    ----------
    inputs
        Names of the operators whose output it reads.
    """

    name: Name
    accelerator_time: Seconds = Field(default=0.0, ge=0)
    cpu_time: Seconds = Field(default=0.0, ge=0)
    size: Bytes = Field(default=0.0, ge=0)
    transfer_time: Seconds = Field(default=0.0, ge=0)
    colour: Name | None = None
    on_accelerator: bool = True
    backward: bool = False
    inputs: list[Name] = Field(default_factory=list)


class OperatorsJob(Record):
    """Placement of an operator graph on accelerators and CPUs.

    Attributes
    ----------
    graph
        Path of a graph in the JSON form, relative to the document.
    time_unit
        What one unit of the times in that file is.
    operators
        The graph itself, where there is no file.
    objective
        ``throughput`` (least load of the busiest device) or ``latency`` (finish time of one sample).
    contiguous
        Whether every device must hold consecutive parts of the graph (throughput only).
    """

    kind: Literal["operators"]
    name: Name
    graph: str | None = None
    time_unit: Seconds = Field(default=1e-3, gt=0)
    operators: list[OperatorSpec] = Field(default_factory=list)
    objective: Literal["throughput", "latency"] = "throughput"
    contiguous: bool = False

    @model_validator(mode="after")
    def _one_graph(self) -> OperatorsJob:
        if (self.graph is None) == (not self.operators):
            raise ValueError("give exactly one of 'graph' (path of a JSON graph) and 'operators'")
        faults = list(_spec_faults(self.operators))
        if faults:
            raise FaultError(faults)
        return self


def _spec_faults(specs: list[OperatorSpec]) -> Iterator[Fault]:
    names = {spec.name for spec in specs}
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        if spec.name in seen:
            yield Fault(("operators", index, "name"), f"the operator {spec.name!r} is named twice")
        seen.add(spec.name)
        for place, source in enumerate(spec.inputs):
            if source not in names:
                yield Fault(("operators", index, "inputs", place), f"there is no operator {source!r}")
    if len(names) == len(specs) and all(source in names for spec in specs for source in spec.inputs):
        graph = graph_of(specs)
        if len(graph.order) < len(specs):
            culprit = min(set(range(len(specs))) - set(graph.order))
            yield Fault(("operators", culprit, "inputs"), "the operators form a cycle")


def graph_of(specs: list[OperatorSpec]) -> OperatorGraph:
    """Return the graph of operators written in a document."""
    index = {spec.name: place for place, spec in enumerate(specs)}
    operators = tuple(
        Operator(
            s.name,
            s.accelerator_time,
            s.cpu_time,
            s.size,
            s.transfer_time,
            s.colour,
            s.on_accelerator,
            s.backward,
        )
        for s in specs
    )
    edges = tuple((index[source], index[spec.name]) for spec in specs for source in spec.inputs)
    return OperatorGraph(operators, edges)


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
            operators.append(
                Operator(
                    str(key),
                    self._number(node, "fpgaLatency", where) * self.unit,
                    self._number(node, "cpuLatency", where) * self.unit,
                    self._number(node, "size", where, 0.0),
                    colour=None if colour is None else str(colour),
                    on_accelerator=self._flag(node, "supportedOnFpga", where, default=True),
                    backward=self._flag(node, "isBackwardNode", where, default=False),
                )
            )
        return operators, index

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
            cost = self._number(edge, "cost", where)
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
    return Operator(
        op.key,
        op.accelerator_time,
        op.cpu_time,
        op.size,
        cost,
        op.colour,
        op.on_accelerator,
        op.backward,
    )
