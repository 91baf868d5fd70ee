"""Long steps: simulate some micro-batches, and repeat the cycle that the pipeline has settled into.

Nothing in a step is random and its schedule repeats: one forward and one backward pass of every chunk, or of a group
of micro-batches when stages have several chunks. Once every stage has gone through the schedule again with all of its
times later by the same period, the step is in the state that it was in a period ago, and goes on repeating until the
first stage runs out of forward passes. A step with more micro-batches therefore is the simulated one with more periods
inserted, up to rounding. Where no such period shows, everything is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.simulate.fluid import FloatArray
from planner.simulate.pipeline import StepModel, StepRun
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
    least = max(ENOUGH_WORK / (2 * model.stages * model.virtual), 8 * model.stages)
    return min(-int(-least // group) * group, num_micro_batches)


def find_cycle(model: StepModel, run: StepRun, missing: int) -> Cycle | None:
    """Return the cycle to insert for some missing micro-batches, ``None`` if the run has not settled.

    Every stage has to repeat all work of the second half of the time until the first stage runs out of forward passes,
    and of at least two rounds of micro-batches through the pipeline.
    """
    group = 1 if model.virtual == 1 else model.stages
    step = 2 * group * model.virtual
    last_forward = max(index for index, op in enumerate(run.schedule[0]) if op.kind == "forward")
    until = float(run.ends[0][last_forward])
    periods: list[FloatArray] = []
    for ends in run.ends:
        low, high = np.searchsorted(ends, (until / 2.0, until))
        if low < step or high - low < 4 * model.stages * model.virtual + step:
            return None
        periods.append(ends[low:high] - ends[low - step : high - step])
    every = np.concatenate(periods)
    period = float(every.mean())
    if period <= 0.0 or float(np.abs(every - period).max()) > SAME * period:
        return None
    return Cycle(until / 2.0 + 0.3183 * period, period, missing // group, group)


def extended(run: StepRun, cycle: Cycle) -> StepRun:
    """Return a step with a cycle inserted; its times of single pieces of work remain those of the simulated one."""
    inside = [cycle.inside(begins) for begins in run.begins]
    occupied = [
        float((ends - begins)[rows].sum()) for begins, ends, rows in zip(run.begins, run.ends, inside, strict=True)
    ]
    share = cycle.times * cycle.micro_batches / (len({op.micro_batch for op in run.schedule[0]}))
    return replace(
        run,
        seconds=run.seconds + cycle.added,
        drained=run.drained + cycle.added,
        occupied=run.occupied + cycle.times * np.asarray(occupied),
        computed=run.computed,
        notes=[
            note
            if note.start < cycle.end
            else note._replace(
                start=note.start + cycle.added,
                end=note.end + cycle.added,
                op=note.op and note.op._replace(micro_batch=note.op.micro_batch + cycle.times * cycle.micro_batches),
            )
            for note in run.notes
        ],
    )


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
        use, end=use.end + cycle.added, times=np.concatenate(times), loads=np.concatenate(loads), first=np.asarray(first)
    )
