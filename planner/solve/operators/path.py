"""What one long path through the graph takes at least, whatever is beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from planner.placement.operators import OperatorProblem
from planner.solve.operators.calls import cpu_runs, cut
from planner.solve.operators.chains import segment_loads
from planner.solve.operators.contiguous import machine_of
from planner.solve.operators.reduce import Floats, Reduced

_DRAWN = 8
"""Paths by random lengths of the operators, beside those by their times."""
_MOST = 400
"""Longest path for which transfers of outputs that are used beside it are looked at one by one."""


def path_bound(problem: OperatorProblem) -> float:
    r"""Return a lower bound of the finish time of one sample, s: the most that a path is known to take.

    Along a path :math:`v_1, \dots, v_n` everything runs one after the other: an accelerator that it meets
    holds a run of consecutive operators, since its set is convex and called once, and the path waits for the
    whole call. The set also holds what lies between two of them, and operators of their colours. The call
    takes at least the run times of all of these and the transfers of every output that is known to be used on
    both sides. So the cheapest cut of the path into calls that fit the memory and operators on the CPU is a
    bound; dynamic programming finds it. Operators beside the path cost nothing else here.
    """
    graph = problem.graph
    on_accelerator = np.asarray([op.accelerator_time for op in graph.operators])
    rng = np.random.default_rng(0)
    lengths = [
        on_accelerator,
        on_accelerator + [op.transfer_time for op in graph.operators],
        np.asarray([min(op.accelerator_time, op.cpu_time) for op in graph.operators]),
        *(rng.random(len(graph.operators)) for _ in range(_DRAWN)),
    ]
    paths = {tuple(_longest(problem, length)) for length in lengths}
    return max((_Path(problem, path).least() for path in sorted(paths)), default=0.0)


def _longest(problem: OperatorProblem, length: Floats) -> list[int]:
    """Return the operators of the longest path of the graph."""
    graph = problem.graph
    total, before = np.zeros(len(graph.operators)), [-1] * len(graph.operators)
    for index in graph.order:
        earlier = graph.predecessors[index]
        if earlier:
            before[index] = max(earlier, key=lambda source: float(total[source]))
        total[index] = length[index] + (total[before[index]] if earlier else 0.0)
    end, path = int(total.argmax()) if len(total) else -1, []
    while end >= 0:
        path.append(end)
        end = before[end]
    return path[::-1]


@dataclass(frozen=True)
class _Path:
    """A path, and what is known of the other operators when an accelerator holds a part of it."""

    problem: OperatorProblem
    path: Sequence[int]

    def least(self) -> float:
        """Return the time, s, of the cheapest cut; infinite where there is none."""
        machine, order = machine_of(self.problem), range(len(self.path))
        alone = self._alone()
        calls, _ = segment_loads(alone, order, machine.memory)
        runs = cpu_runs(alone, order, machine)
        return cut(calls + self._beside(machine.memory), runs, machine.num_accelerators)[0]

    @cached_property
    def place(self) -> dict[int, int]:
        """Position of each operator of the path."""
        return {index: number for number, index in enumerate(self.path)}

    def _alone(self) -> Reduced:
        """Return the path, each operator a group of its own, with what it moves to itself."""
        operators = [self.problem.graph.operators[index] for index in self.path]
        costs: dict[tuple[int, ...], float] = {}
        for pins, cost in self._pins():
            inside = tuple(sorted(self.place[index] for index in pins if index in self.place))
            if len(inside) > 1:
                costs[inside] = costs.get(inside, 0.0) + cost
        cpu = [op.cpu_time if self.problem.has_cpu and op.on_cpu else np.inf for op in operators]
        return Reduced(
            tuple(range(len(operators))),
            np.asarray([op.accelerator_time if op.on_accelerator else np.inf for op in operators]),
            np.asarray(cpu),
            np.asarray([op.size for op in operators]),
            tuple(costs),
            np.asarray(list(costs.values())),
            tuple((number, number + 1) for number in range(len(operators) - 1)),
        )

    def _pins(self) -> Iterator[tuple[set[int], float]]:
        """Yield every output's source and users with the time that parting them costs, s."""
        for source, targets in enumerate(self.problem.graph.successors):
            cost = self.problem.graph.operators[source].transfer_time
            if targets and cost > 0.0:
                yield {source, *targets}, cost

    @cached_property
    def _home(self) -> dict[str, list[int]]:
        """Positions on the path of every colour."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, index in enumerate(self.path):
            colour = self.problem.graph.operators[index].colour
            if colour is not None:
                found[colour].append(number)
        return found

    @cached_property
    def _corners(self) -> dict[int, tuple[int, int]]:
        """Two positions that make a call which holds both hold an operator beside the path too, where known.

        The two are the same for an operator whose colour is on the path.
        """
        graph, n = self.problem.graph, len(self.path)
        above, below = [-1] * len(graph.operators), [n] * len(graph.operators)
        for index in graph.order:
            above[index] = max((above[source] for source in graph.predecessors[index]), default=-1)
            above[index] = self.place.get(index, above[index])
        for index in reversed(graph.order):
            below[index] = min((below[target] for target in graph.successors[index]), default=n)
            below[index] = self.place.get(index, below[index])
        found = {}
        for index, op in enumerate(graph.operators):
            if index in self.place:
                continue
            if op.colour in self._home:
                found[index] = (self._home[op.colour][0],) * 2
            elif above[index] >= 0 and below[index] < n:
                found[index] = (above[index], below[index])
        return found

    def _beside(self, memory: float) -> Floats:
        """Return what every segment takes beside the path as a call, s; infinite where it is not legal.

        Shape (n + 1, n + 1), as the loads of segments.
        """
        operators, n = self.problem.graph.operators, len(self.path)
        own = np.cumsum([0.0, *(operators[index].size for index in self.path)])
        found, held = np.zeros((n + 1, n + 1)), own[None, :] - own[:, None]
        for index, (first, last) in self._corners.items():
            op = operators[index]
            found[: first + 1, last + 1 :] += op.accelerator_time if op.on_accelerator else np.inf
            held[: first + 1, last + 1 :] += op.size
        found[held > memory * (1 + 1e-12)] = np.inf
        for first, last in (pair for home in self._home.values() for pair in pairwise(home)):
            found[: first + 1, first + 1 : last + 1] = np.inf
            found[first + 1 : last + 1, last + 1 :] = np.inf
        return found + self._parted() if n <= _MOST else found

    def _parted(self) -> Floats:
        """Return what a call pays for outputs that only operators beside the path show to be parted."""
        n = len(self.path)
        found = np.zeros((n + 1, n + 1))
        for pins, cost in self._pins():
            beside = [self._corners[index] for index in pins if index in self._corners]
            if not beside:
                continue
            here = np.zeros(n + 1, dtype=np.int64)
            for index in pins & self.place.keys():
                here[self.place[index] + 1 :] += 1
            count = here[None, :] - here[:, None]
            held, left = count > 0, count < here[-1]
            known = held & left
            for first, last in beside:
                inside = np.zeros((n + 1, n + 1), dtype=bool)
                inside[: first + 1, last + 1 :] = True
                held = held | inside
                if first == last:
                    left = left | ~inside
            found[held & left & ~known] += cost
        return found
