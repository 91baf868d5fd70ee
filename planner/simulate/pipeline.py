"""An optimizer step as SimPy processes: one per stage, one for the gradients of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from planner.simulate.carriers import Carrier
from planner.simulate.fluid import FloatArray
from planner.simulate.outcome import Category
from planner.simulate.schedule import Op, Pass, Schedule, awaits_input, next_op, pipeline_schedule
from planner.simulate.symmetry import TransferClass

if TYPE_CHECKING:
    import simpy
    from simpy.events import ProcessGenerator

Hops = Mapping[tuple[Pass, int], Sequence[TransferClass]]


@dataclass(frozen=True)
class Gradients:
    """What a stage sends when the gradients of one of its chunks are complete.

    Attributes
    ----------
    latency
        Fixed time before the first byte, s.
    hidden
        How long before the end of the chunk's last backward pass the transfers may start, s: the first layers
        to finish have their gradients by then.
    """

    classes: Sequence[TransferClass]
    latency: float
    hidden: float


@dataclass(frozen=True)
class StepModel:
    """A step as the simulator runs it; arrays of shape (stages,) in s.

    Attributes
    ----------
    virtual
        Chunks per stage.
    forward, backward
        Time of one micro-batch in one chunk.
    hops
        What is sent after a pass, by kind of pass and stage; nothing takes no time.
    overlap
        Share of a hop's bytes that moves while the sender goes on to compute, 0 to 1.
    gradients
        Synchronisation of one chunk by stage; ``None`` where there is nothing to synchronise.
    weight
        Time of the gradients of weights of one micro-batch, taken out of ``backward``, where backward passes
        are split (ZB-H1).
    factors
        How many times as long each piece of each stage's work takes, in the order of the schedule.
    """

    virtual: int
    forward: FloatArray
    backward: FloatArray
    update: FloatArray
    hops: Hops = field(default_factory=dict)
    overlap: float = 0.0
    gradients: Sequence[Gradients | None] = ()
    weight: FloatArray | None = None
    factors: Sequence[FloatArray] | None = None

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.forward)

    @property
    def seconds(self) -> dict[Pass, FloatArray]:
        """Time of one micro-batch in one chunk by kind of pass."""
        passes: dict[Pass, FloatArray] = {"forward": self.forward, "backward": self.backward}
        return passes if self.weight is None else {**passes, "weight": self.weight}

    @property
    def micro_batch_seconds(self) -> FloatArray:
        """Time of all passes of one micro-batch in one chunk."""
        work = self.forward + self.backward
        return work if self.weight is None else work + self.weight


class Note(NamedTuple):
    """A busy interval of a stage, s; without ``op`` the optimizer or the synchronisation of gradients."""

    start: float
    stage: int
    end: float
    category: Category
    op: Op | None


@dataclass(frozen=True)
class StepRun:
    """What happened in one step; arrays of shape (stages,).

    Attributes
    ----------
    seconds
        Time of the step, s.
    drained
        When the last stage had its last backward pass done, s.
    occupied
        Time that each stage computed, or was held by its own transfers, before that, s.
    computed
        Time that each stage computed, the optimizer included, s.
    schedule
        The work that was done.
    begins, ends
        Per stage when each piece of its work began, and when it was ready for the next, s.
    """

    seconds: float
    drained: float
    occupied: FloatArray
    computed: FloatArray
    notes: list[Note]
    schedule: Schedule
    begins: list[FloatArray]
    ends: list[FloatArray]

    @property
    def bubble(self) -> float:
        """Share of the step in which the busiest stage waits for the pipeline to fill and drain."""
        return (self.drained - float(self.occupied.max())) / self.seconds

    def attribution(self, update: FloatArray) -> dict[str, float]:
        """Return the shares of the step by what the busiest stage does; see `JobSimulation.attribution`.

        Parameters
        ----------
        update : ndarray, shape (stages,)
            Time of the optimizer, s, part of ``computed``.
        """
        busiest = int(self.occupied.argmax())
        occupied, optimizer = float(self.occupied[busiest]), float(update[busiest])
        compute = float(self.computed[busiest]) - optimizer
        parts = {
            "compute": compute,
            "sending": max(occupied - compute, 0.0),
            "bubble": self.drained - occupied,
            "gradients": max(self.seconds - self.drained - optimizer, 0.0),
            "optimizer": optimizer,
        }
        return {name: seconds / self.seconds for name, seconds in parts.items()}


def run_step(env: simpy.Environment, model: StepModel, carrier: Carrier, num_micro_batches: int) -> StepRun:
    """Run one step from the environment's time 0, its transfers moved by a carrier."""
    split = model.weight is not None
    schedule = pipeline_schedule(model.stages, model.virtual, num_micro_batches, split=split)
    step = _Step(env, model, carrier, schedule)
    env.run(until=env.all_of([env.process(step.stage(stage)) for stage in range(model.stages)]))
    return step.result()


class _Step:
    """The processes of a step and what they note."""

    def __init__(
        self, env: simpy.Environment, model: StepModel, carrier: Carrier, schedule: Schedule
    ) -> None:
        self.env, self.model, self.carrier, self.schedule = env, model, carrier, schedule
        self.notes: list[Note] = []
        self.begins: list[list[float]] = [[] for _ in schedule]
        self.ends: list[list[float]] = [[] for _ in schedule]
        self._inputs: list[dict[Op, simpy.Event]] = [{} for _ in range(model.stages)]
        self._complete: list[list[simpy.Event]] = [
            [env.event() for _ in range(model.virtual)] for _ in range(model.stages)
        ]
        self._worked = np.zeros(model.stages)
        self._finishing: Pass = "backward" if model.weight is None else "weight"
        self._seconds = {kind: times.tolist() for kind, times in model.seconds.items()}
        self._holding = {key: _share(classes, 1.0 - model.overlap) for key, classes in model.hops.items()}
        self._passing = {key: _share(classes, model.overlap) for key, classes in model.hops.items()}

    def stage(self, stage: int) -> ProcessGenerator:
        """Work off the schedule of a stage, then wait for its gradients and update its weights."""
        env, model = self.env, self.model
        gradients = env.process(self._synchronise(stage))
        last = set({op.chunk: op for op in self.schedule[stage] if op.kind == self._finishing}.values())
        for op in self.schedule[stage]:
            if awaits_input(stage, op, model.stages, model.virtual):
                yield self._input(stage, op)
                del self._inputs[stage][op]
            begin, seconds = env.now, self._seconds[op.kind][stage]
            if model.factors is not None:
                seconds *= float(model.factors[stage][len(self.ends[stage])])
            self._worked[stage] += seconds
            if op in last:
                next(event for event in self._complete[stage] if not event.triggered).succeed(env.now)
            yield env.timeout(seconds)
            self._note(stage, "forward" if op.kind == "forward" else "backward", op, begin)
            yield from self._hand_on(stage, op)
            self.begins[stage].append(begin)
            self.ends[stage].append(env.now)
        yield gradients
        begin = env.now
        yield env.timeout(float(model.update[stage]))
        self._note(stage, "optimizer", None, begin)

    def result(self) -> StepRun:
        """Return what happened."""
        begins, ends = ([np.asarray(times) for times in each] for each in (self.begins, self.ends))
        model = self.model
        return StepRun(
            self.env.now,
            max(float(end[-1]) for end in ends),
            np.asarray([float((end - begin).sum()) for begin, end in zip(begins, ends, strict=True)]),
            self._worked + model.update,
            self.notes,
            self.schedule,
            begins,
            ends,
        )

    def _input(self, stage: int, op: Op) -> simpy.Event:
        """Return the event that the input of a piece of work has arrived."""
        return self._inputs[stage].setdefault(op, self.env.event())

    def _hand_on(self, stage: int, op: Op) -> ProcessGenerator:
        """Send the result of a piece of work; the stage is held until the exposed share of it has gone."""
        after = next_op(stage, op, self.model.stages, self.model.virtual)
        if after is None:
            return
        holding, passing = self._holding.get((op.kind, stage)), self._passing.get((op.kind, stage))
        begin = self.env.now
        if holding:
            yield self.carrier.carry(holding)
            self._note(stage, "communication", op, begin)
        if passing:
            _then(self.carrier.carry(passing), partial(self._deliver, *after))
        else:
            self._deliver(*after)

    def _deliver(self, stage: int, op: Op, _: simpy.Event | None = None) -> None:
        self._input(stage, op).succeed()

    def _synchronise(self, stage: int) -> ProcessGenerator:
        """Synchronise the gradients of one chunk after the other."""
        env, model = self.env, self.model
        gradients = model.gradients[stage] if model.gradients else None
        if gradients is None:
            return
        for complete in self._complete[stage]:
            begun = yield complete
            last = self._seconds[self._finishing][stage]
            yield env.timeout(max(begun + last - min(gradients.hidden, last) - env.now, 0.0))
            begin = env.now
            yield env.timeout(gradients.latency)
            if gradients.classes:
                yield self.carrier.carry(gradients.classes)
            self._note(stage, "communication", None, begin)

    def _note(self, stage: int, category: Category, op: Op | None, begin: float) -> None:
        if self.env.now > begin:
            self.notes.append(Note(begin, stage, self.env.now, category, op))


def _share(classes: Sequence[TransferClass], share: float) -> list[TransferClass]:
    """Return a share of every transfer; its fixed part goes by the same share."""
    if share <= 0.0:
        return []
    return [replace(alike, size=alike.size * share, latency=alike.latency * share) for alike in classes]


def _then(event: simpy.Event, call: partial[None]) -> None:
    assert event.callbacks is not None
    event.callbacks.append(call)
