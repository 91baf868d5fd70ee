"""Requests of an ensemble on their way from stage to stage.

A request goes to the station of a stage that has the fewest full rounds of work ahead (rounds of its
workers, or batches of the largest size), then to the nearest of these, then to the one with the fewest
requests for its share; ties are drawn. What waits for several stages begins when the last of them is there,
and its latency is split along that one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import simpy
from simpy.events import NORMAL

from planner.simulate.alarm import Alarm
from planner.simulate.compute import GpuCompute
from planner.simulate.engines import CopyEngine, Server
from planner.simulate.ensemble_layout import OUTSIDE, ClassSpec, EnsembleLayout, Move, Place
from planner.simulate.ensemble_measures import (
    BATCH_WAIT,
    CPU,
    CPU_QUEUE,
    GPU,
    GPU_QUEUE,
    PARTS,
    TRANSFER,
    EnsembleRecords,
)
from planner.simulate.ensemble_stations import Instance, Pool, Release, Served, Worked
from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.links import LinkSpec
from planner.simulate.network import Network
from planner.simulate.statistics import named_stream


def draw_classes(classes: Sequence[ClassSpec], count: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Return when requests arrive, s, and of which class each is, in order of time.

    All classes arrive over the same time: as long as ``count`` requests of all take on average. Each has a
    stream of its own, and another rate stretches its random numbers.
    """
    horizon = count / sum(each.rate for each in classes)
    drawn = [_arrivals(each, horizon, seed) for each in classes]
    kinds = np.repeat(np.arange(len(classes)), [len(times) for times in drawn])
    times = np.concatenate(drawn)
    order = np.argsort(times, kind="stable")
    return times[order], kinds[order]


def _arrivals(each: ClassSpec, horizon: float, seed: int) -> FloatArray:
    mean = each.rate * horizon
    if each.cv == 0.0:
        return np.arange(1, int(mean) + 1) / each.rate
    most = int(mean + 8.0 * max(each.cv, 1.0) * mean**0.5) + 8
    shape = 1.0 / each.cv**2
    gaps = named_stream(seed, f"arrivals {each.name}").gamma(shape, each.cv**2, size=most)
    times: FloatArray = np.cumsum(gaps) / each.rate
    return times[times <= horizon]


def successors(each: ClassSpec) -> list[tuple[int, ...]]:
    """Return the steps that need the result of each step."""
    return [
        tuple(later for later, step in enumerate(each.steps) if number in step.inputs)
        for number in range(len(each.steps))
    ]


class _Request:
    """A request: what its steps still wait for, where they are done, and how many ways out it has left."""

    __slots__ = ("each", "exits", "index", "kind", "missing", "stations")

    def __init__(self, index: int, kind: int, each: ClassSpec, exits: int) -> None:
        self.index, self.kind, self.each, self.exits = index, kind, each, exits
        self.missing = [max(len(step.inputs), 1) for step in each.steps]
        self.stations = [OUTSIDE] * len(each.steps)


class _Result(NamedTuple):
    """What a step hands on: the parts of the latency so far, where it lies, and a call once it is taken."""

    parts: list[float]
    station: str
    release: Release


def _nothing() -> None:
    """Free nothing."""


class EnsembleRun:
    """The stations of an ensemble, and the requests that pass through them."""

    def __init__(
        self,
        layout: EnsembleLayout,
        links: Sequence[LinkSpec],
        groups: dict[str, float],
        *,
        requests: int,
        seed: int,
    ) -> None:
        self.layout, self.env = layout, simpy.Environment()
        self.network = Network(self.env, links, groups)
        self.pools = {spec.name: Pool(self.env, spec) for spec in layout.pools}
        names = dict.fromkeys(spec.gpu for spec in layout.instances)
        self.gpus = {name: GpuCompute(self.env, name) for name in names}
        self.instances = {
            spec.name: Instance(self.env, spec, self.gpus[spec.gpu]) for spec in layout.instances
        }
        self.engines: dict[str, Server] = {
            name: CopyEngine(self.env, name, num_engines=count, trace=[])
            for name, count in layout.engines.items()
        }
        self._capacity = {spec.name: spec.workers for spec in layout.pools} | {
            spec.name: spec.policy.max_batch for spec in layout.instances
        }
        self._next = [successors(each) for each in layout.classes]
        self._exits = [sum(not following for following in each) for each in self._next]
        self._places: dict[str, Place] = {spec.name: spec.place for spec in layout.pools}
        self._places |= {spec.name: spec.place for spec in layout.instances} | {OUTSIDE: ()}
        self._blocking = {pair[:2] for pair, moves in layout.moves.items() if any(m.blocking for m in moves)}
        arrivals, kinds = draw_classes(layout.classes, requests, seed)
        self._arrivals: list[float] = arrivals.tolist()
        self._kinds: list[int] = kinds.tolist()
        self._ties = named_stream(seed, "routing").random(len(self._arrivals)).tolist()
        self._latency = np.zeros(len(self._arrivals))
        self._parts: list[list[float]] = [[]] * len(self._arrivals)

    def finish(self) -> EnsembleRecords:
        """Let all requests arrive and be served."""
        self._await(0)
        self.env.run()
        classes = self.layout.classes
        stages = tuple(step.stage for step in classes[0].steps)
        return EnsembleRecords(
            tuple(each.name for each in classes),
            stages,
            np.asarray(self._arrivals),
            np.asarray(self._kinds),
            self._latency,
            np.asarray(self._parts).reshape(len(self._arrivals), len(stages), len(PARTS)),
        )

    def _await(self, index: int) -> None:
        """Have a request arrive when its time comes."""
        if index < len(self._arrivals):
            Alarm(self.env, partial(self._arrive, index), self._arrivals[index] - self.env.now, NORMAL)

    def _arrive(self, index: int, _: simpy.Event) -> None:
        kind = int(self._kinds[index])
        each = self.layout.classes[kind]
        request = _Request(index, kind, each, self._exits[kind])
        for number, step in enumerate(each.steps):
            if not step.inputs:
                parts = [0.0] * (len(PARTS) * len(each.steps))
                self._go(request, number, _Result(parts, OUTSIDE, _nothing))
        self._await(index + 1)

    def _go(self, request: _Request, number: int, result: _Result) -> None:
        """Bring a result to the station of a step."""
        if request.stations[number] == OUTSIDE:
            request.stations[number] = self._choose(request, number, result.station)
        station = request.stations[number]
        moves = self.layout.moves.get((request.each.name, result.station, station), ())
        come = partial(self._come, request, number, result, self.env.now)
        self._move(moves, 0, come)

    def _choose(self, request: _Request, number: int, source: str) -> str:
        stations = request.each.steps[number].stations
        if len(stations) == 1:
            return next(iter(stations))
        near = self._places[source]

        def key(name: str) -> tuple[int, int, float]:
            under_way = self._station(name).under_way
            common = sum(one == other for one, other in zip(near, self._places[name], strict=False))
            return under_way // self._capacity[name], -common, under_way / stations[name]

        keys = {name: key(name) for name in stations}
        best = min(keys.values())
        equal = [name for name, value in keys.items() if value == best]
        return equal[int(self._ties[request.index] * len(equal))]

    def _station(self, name: str) -> Pool | Instance:
        return self.pools[name] if name in self.pools else self.instances[name]

    def _move(self, moves: Sequence[Move], place: int, then: Callable[[], None]) -> None:
        """Make moves one after the other, from one of them on."""
        if place == len(moves):
            then()
            return
        move, go_on = moves[place], partial(self._move, moves, place + 1, then)
        if move.engine is not None:
            self.engines[move.engine].submit(move.name, partial(self._send, move), go_on)
            return
        done = self._send(move)
        assert done.callbacks is not None
        done.callbacks.append(lambda _: go_on())

    def _send(self, move: Move) -> simpy.Event:
        return self.network.send(move.route, move.size, cap=move.cap, delay=move.latency)

    def _come(self, request: _Request, number: int, result: _Result, since: float) -> None:
        """Begin a step once all that it needs is there."""
        parts, station = result.parts, request.stations[number]
        parts[number * len(PARTS) + TRANSFER] += self.env.now - since
        request.missing[number] -= 1
        if request.missing[number]:
            result.release()
        elif station in self.pools:
            pool, name = self.pools[station], request.each.name
            blocking = (name, station) in self._blocking
            then = partial(self._worked, request, number, parts)
            pool.submit(pool.spec.service[name], result.release, then, blocking=blocking)
        else:
            result.release()
            units = request.each.steps[number].units
            self.instances[station].submit(units, partial(self._served, request, number, parts))

    def _worked(self, request: _Request, number: int, parts: list[float], worked: Worked) -> None:
        first = number * len(PARTS)
        parts[first + CPU_QUEUE] += worked.waited
        parts[first + CPU] += worked.served
        self._hand_on(request, number, _Result(parts, request.stations[number], worked.release))

    def _served(self, request: _Request, number: int, parts: list[float], served: Served) -> None:
        first = number * len(PARTS)
        parts[first + GPU_QUEUE] += served.waited
        parts[first + BATCH_WAIT] += served.held
        parts[first + GPU] += served.computed
        self._hand_on(request, number, _Result(parts, request.stations[number], _nothing))

    def _hand_on(self, request: _Request, number: int, result: _Result) -> None:
        """Bring the result of a step to all that need it; without any it leaves."""
        following = self._next[request.kind][number]
        if not following:
            moves = self.layout.moves.get((request.each.name, result.station, OUTSIDE), ())
            self._move(moves, 0, partial(self._leave, request, number, result, self.env.now))
        elif len(following) == 1:
            self._go(request, following[0], result)
        else:
            release = _after(len(following), result.release)
            for later in following:
                self._go(request, later, _Result(list(result.parts), result.station, release))

    def _leave(self, request: _Request, number: int, result: _Result, since: float) -> None:
        result.release()
        result.parts[number * len(PARTS) + TRANSFER] += self.env.now - since
        request.exits -= 1
        if not request.exits:
            self._latency[request.index] = self.env.now - self._arrivals[request.index]
            self._parts[request.index] = result.parts


def _after(count: int, call: Release) -> Release:
    """Return what makes a call when it has been called some times."""
    left = [count]

    def release() -> None:
        left[0] -= 1
        if not left[0]:
            call()

    return release
