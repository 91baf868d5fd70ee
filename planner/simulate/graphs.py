"""Samples that pass through a placed operator graph, one after the other.

Every device works on one thing at a time: an operator, or bringing an output to or from host memory. It takes
the earliest sample first, and of one sample what comes first in the graph. For the latency objective one
sample passes, and an accelerator takes its whole load in one piece, as the objective has it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import lcm

from planner.errors import SimulationError
from planner.placement import OperatorsPlan, OperatorsProblem
from planner.placement.graphs import assignment_of
from planner.placement.operators import CPU, invocations
from planner.simulate.outcome import Busy, Category, JobOutcome, both_ends
from planner.simulate.result import JobSimulation

MOST_TASKS = 200_000
"""Most pieces of work that are simulated in all."""
SAMPLES = 200
"""Most samples that are simulated; the first half fills the pipeline."""


@dataclass(frozen=True)
class Task:
    """One piece of work that a station does for every sample.

    Attributes
    ----------
    station
        Number of the stage, or of a link behind the stages.
    seconds
        How long it takes.
    before
        Tasks of the same sample that it waits for.
    """

    name: str
    station: int
    seconds: float
    category: Category
    before: tuple[int, ...]


@dataclass
class Flow:
    """The state of a simulation: free stations, ready tasks, and what has ended.

    Attributes
    ----------
    width
        Devices of each station, which take samples in turn.
    """

    tasks: list[Task]
    width: list[int]
    num_samples: int
    running: list[tuple[float, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = [0, *accumulate(self.width)]
        self.idle = [True] * self.first[-1]
        self.ready: list[list[tuple[int, int]]] = [[] for _ in self.idle]
        self.waiting = [[len(task.before) for task in self.tasks] for _ in range(self.num_samples)]
        self.after: list[list[int]] = [[] for _ in self.tasks]
        for number, task in enumerate(self.tasks):
            for other in task.before:
                self.after[other].append(number)
            if not task.before:
                for sample in range(self.num_samples):
                    heapq.heappush(self.ready[self._device(sample, number)], (sample, number))

    def _device(self, sample: int, number: int) -> int:
        station = self.tasks[number].station
        return self.first[station] + sample % self.width[station]

    def run(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield sample, task, start and end, s, in order of start."""
        now, woken = 0.0, set(range(len(self.idle)))
        while True:
            for device in sorted(woken):
                if self.idle[device] and self.ready[device]:
                    sample, number = heapq.heappop(self.ready[device])
                    self.idle[device] = False
                    end = now + self.tasks[number].seconds
                    heapq.heappush(self.running, (end, sample, number))
                    yield sample, number, now, end
            if not self.running:
                return
            now = self.running[0][0]
            woken = set()
            while self.running and self.running[0][0] == now:
                _, sample, number = heapq.heappop(self.running)
                woken |= self._end(sample, number)

    def _end(self, sample: int, number: int) -> set[int]:
        """Free the device of a task and make ready what waited for it; return the devices concerned."""
        device = self._device(sample, number)
        self.idle[device] = True
        woken = {device}
        for other in self.after[number]:
            self.waiting[sample][other] -= 1
            if not self.waiting[sample][other]:
                heapq.heappush(self.ready[self._device(sample, other)], (sample, other))
                woken.add(self._device(sample, other))
        return woken


def simulate_operators(problem: OperatorsProblem, plan: OperatorsPlan) -> JobOutcome:
    """Return what samples experience: the time of one sample (latency) or between samples (throughput)."""
    if plan.objective == "latency":
        return _one_sample(problem, plan)
    tasks = _Tasks(problem, plan).made
    if sum(task.seconds for task in tasks) <= 0.0:
        raise SimulationError(
            f"no operator of job {plan.name!r} takes any time; there is nothing to simulate"
        )
    width = [max(1, len(stage.devices)) for stage in plan.stages]
    rounds = 2 * lcm(*width)
    count = rounds * max(2, min(SAMPLES, MOST_TASKS // len(tasks)) // rounds)
    width += [1] * (1 + max(task.station for task in tasks) - len(width))
    ends, spans, busy = [0.0] * count, [], [0.0] * len(width)
    for sample, number, start, end in Flow(tasks, width, count).run():
        task = tasks[number]
        ends[sample] = max(ends[sample], end)
        busy[task.station] += (end - start) / width[task.station]
        if end > start and task.station < len(plan.stages):
            track = track_of(plan, task.station, sample)
            spans.append(Busy(start, track, end, f"{task.name} of sample {sample}", task.category))
    half = count // 2
    interval = (max(ends) - max(ends[:half])) / (count - half)
    horizon = max(ends)
    job = JobSimulation(
        name=plan.name,
        kind="operators",
        step_time=interval,
        critical_path=ends[0],
        bubble=1.0 - max(busy) / horizon,
        throughput=1.0 / interval if interval > 0.0 else None,
        utilisation={track_of(plan, place): busy[place] / horizon for place in range(len(plan.stages))},
        timeline=both_ends(spans),
    )
    return JobOutcome(job, [], horizon)


class _Tasks:
    """What is done for one sample, in an order in which it can be done.

    Through host memory, an output that leaves an accelerator is handed out once and fetched once by every
    other accelerator that reads it; the host reads it in place. Over links it goes to each device that reads
    it, and keeps busy the sender, every link on the way and the receiver.
    """

    def __init__(self, problem: OperatorsProblem, plan: OperatorsPlan) -> None:
        self.plan, self.inner = plan, problem.graph_problem
        self.graph = self.inner.graph
        self.assignment, _ = assignment_of(problem, plan)
        stage_of = {key: place for place, stage in enumerate(plan.stages) for key in stage.operators}
        self.home = [stage_of[op.key] for op in self.graph.operators]
        self.made: list[Task] = []
        self.done: dict[int, int] = {}
        self.there: dict[tuple[int, int], int] = {}
        for index in self.graph.order:
            self._add_operator(index)
        self._add_gradients()

    def _add(self, name: str, station: int, seconds: float, category: Category, *before: int) -> int:
        self.made.append(Task(name, station, seconds, category, before))
        return len(self.made) - 1

    def _add_operator(self, index: int) -> None:
        op, here = self.graph.operators[index], self.home[index]
        on_host = self.plan.stages[here].on_host
        before = [self._arrival(source, index) for source in self.graph.predecessors[index]]
        seconds = op.cpu_time if on_host else op.accelerator_time
        category: Category = "cpu" if on_host else "backward" if op.backward else "forward"
        self.done[index] = self._add(op.key, here, seconds, category, *before)
        leaves = any(self.home[target] != here for target in self.graph.successors[index])
        if leaves and not on_host and self.inner.wires is None:
            out = self._add(f"hand out {op.key}", here, op.transfer_time, "copy", self.done[index])
            self.there[index, -1] = out

    def _arrival(self, source: int, reader: int) -> int:
        """Return the task after which an operator can read an output; add the move if there is none yet."""
        here, key = self.home[reader], self.graph.operators[source].key
        if self.home[source] == here:
            return self.done[source]
        if (source, here) not in self.there:
            if self.inner.wires is not None:
                self.there[source, here] = self._add_move(source, reader)
            else:
                out = self.there.get((source, -1), self.done[source])
                if self.plan.stages[here].on_host:
                    return out
                seconds = self.graph.operators[source].transfer_time
                self.there[source, here] = self._add(f"fetch {key}", here, seconds, "copy", out)
        return self.there[source, here]

    def _add_move(self, source: int, reader: int) -> int:
        wires, key = self.inner.wires, self.graph.operators[source].key
        assert wires is not None
        pair = self.assignment[source], self.assignment[reader]
        seconds, start = wires.seconds(source, pair), self.done[source]
        on_way = [self._add(f"send {key}", self.home[source], seconds, "copy", start)]
        for link in wires.hops[pair]:
            busy = wires.outputs[source] * wires.link_pace[link]
            on_way.append(self._add(f"{key} on a link", len(self.plan.stages) + link, busy, "copy", start))
        return self._add(f"receive {key}", self.home[reader], seconds, "copy", *on_way)

    def _add_gradients(self) -> None:
        for place, stage in enumerate(self.plan.stages):
            seconds = stage.load.get("gradients", 0.0)
            if seconds > 0.0:
                last = max(self.done[index] for index, home in enumerate(self.home) if home == place)
                self._add("sum gradients", place, seconds, "communication", last)


def track_of(plan: OperatorsPlan, place: int, sample: int = 0) -> str:
    """Return the name of the device of a stage that takes a sample."""
    devices = plan.stages[place].devices
    return devices[sample % len(devices)] if devices else f"{plan.host} (host)"


def _one_sample(problem: OperatorsProblem, plan: OperatorsPlan) -> JobOutcome:
    assignment, _ = assignment_of(problem, plan)
    used = sorted(set(assignment) - {CPU})
    spans, busy = [], dict.fromkeys((track_of(plan, place) for place in range(len(plan.stages))), 0.0)
    for unit, start, end in invocations(problem.graph_problem, assignment):
        track = track_of(plan, len(plan.stages) - 1 if unit >= 0 else used.index(-1 - unit))
        name = problem.graph_problem.graph.operators[unit].key if unit >= 0 else "invocation"
        busy[track] += end - start
        if end > start:
            spans.append(Busy(start, track, end, name, "cpu" if unit >= 0 else "forward"))
    whole = max((span.end for span in spans), default=0.0)
    job = JobSimulation(
        name=plan.name,
        kind="operators",
        step_time=whole,
        critical_path=whole,
        throughput=1.0 / whole if whole > 0.0 else None,
        utilisation={track: min(seconds / whole, 1.0) if whole else 0.0 for track, seconds in busy.items()},
        timeline=both_ends(spans),
    )
    return JobOutcome(job, [], whole)
