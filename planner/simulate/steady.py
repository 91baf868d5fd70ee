"""Long steps: simulate some micro-batches, and repeat the cycle that the pipeline has settled into.

Nothing in a step is random and its schedule repeats: one forward and one backward pass, or those of a group
of micro-batches through every chunk when stages have several. Once all stages have gone through the schedule
again with all times later by the same period, the step is in the state that it was in a period ago, and goes
on repeating until the first stage runs out of forward passes. A step with more micro-batches therefore is the
simulated one with more periods inserted, up to rounding. Where no such period shows, everything is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.simulate.fluid import FloatArray
from planner.simulate.pipeline import Note, StepModel, StepRun
from planner.simulate.utilisation import Utilisation

ENOUGH_WORK = 20_000
"""Forward and backward passes, over all stages, that are simulated before a cycle is looked for."""
SAME = 1e-9
"""Relative difference between two periods that counts as rounding."""


@dataclass(frozen=True)
class Cycle:
    """A period of a step that repeats.

    Attributes
    ----------
    begin, period
        One occurrence of it, s.
    times
        How often it is inserted.
    micro_batches
        Micro-batches that start, and that end, in each.
    """

    begin: float
    period: float
    times: int
    micro_batches: int

    @property
    def end(self) -> float:
        """End of that occurrence, s."""
        return self.begin + self.period

    @property
    def added(self) -> float:
        """Time that the repetitions take, s."""
        return self.times * self.period

    def inside(self, times: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which times are in the occurrence."""
        return (times >= self.begin) & (times < self.end)


def first_count(model: StepModel, num_micro_batches: int) -> int:
    """Return how many micro-batches to simulate first, in whole groups."""
    group = 1 if model.virtual == 1 else model.stages
    least = max(ENOUGH_WORK / (len(model.seconds) * model.stages * model.virtual), 8 * model.stages)
    return min(-int(-least // group) * group, num_micro_batches)


def find_cycle(model: StepModel, run: StepRun, missing: int) -> Cycle | None:
    """Return the cycle to insert for some missing micro-batches, ``None`` if the run has not settled.

    Every stage has to repeat all work of the second half of the time until the first stage runs out of
    forward passes, and of at least two rounds of micro-batches through the pipeline.
    """
    group = 1 if model.virtual == 1 else model.stages
    passes = len(model.seconds)
    step = passes * group * model.virtual
    last_forward = max(index for index, op in enumerate(run.schedule[0]) if op.kind == "forward")
    until = float(run.ends[0][last_forward])
    periods: list[FloatArray] = []
    for ends in run.ends:
        low, high = np.searchsorted(ends, (until / 2.0, until))
        if low < step or high - low < 2 * passes * model.stages * model.virtual + step:
            return None
        periods.append(ends[low:high] - ends[low - step : high - step])
    every = np.concatenate(periods)
    period = float(every.mean())
    if period <= 0.0 or float(np.abs(every - period).max()) > SAME * period:
        return None
    return Cycle(until / 2.0 + 0.3183 * period, period, missing // group, group)


def extended(model: StepModel, run: StepRun, cycle: Cycle) -> StepRun:
    """Return a step with a cycle inserted; ``begins`` and ``ends`` remain those of the simulated one."""
    occupied = [
        float((ends - begins)[cycle.inside(begins)].sum())
        for begins, ends in zip(run.begins, run.ends, strict=True)
    ]
    more = cycle.times * cycle.micro_batches
    return replace(
        run,
        seconds=run.seconds + cycle.added,
        drained=run.drained + cycle.added,
        occupied=run.occupied + cycle.times * np.asarray(occupied),
        computed=run.computed + more * model.virtual * model.micro_batch_seconds,
        notes=[note if note.start < cycle.end else _later(note, cycle.added, more) for note in run.notes],
    )


def _later(note: Note, added: float, more: int) -> Note:
    op = None if note.op is None else note.op._replace(micro_batch=note.op.micro_batch + more)
    return note._replace(start=note.start + added, end=note.end + added, op=op)


def extended_use(use: Utilisation, cycle: Cycle) -> Utilisation:
    """Return the loads of a step with a cycle inserted."""
    times, loads, first = [], [], [0]
    shifts = cycle.period * np.arange(1, cycle.times + 1)
    for row in range(len(use.names)):
        when, load = use.steps(row)
        before, after, inside = when < cycle.end, when >= cycle.end, cycle.inside(when)
        repeated = (when[inside][None, :] + shifts[:, None]).ravel()
        times.append(np.concatenate((when[before], repeated, when[after] + cycle.added)))
        loads.append(np.concatenate((load[before], np.tile(load[inside], cycle.times), load[after])))
        first.append(first[-1] + len(times[-1]))
    return replace(
        use,
        end=use.end + cycle.added,
        times=np.concatenate(times),
        loads=np.concatenate(loads),
        first=np.asarray(first),
    )
