"""Predictions of many served runs at once, the parts that coefficients do not change computed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.inference_runs import ServedRun
from planner.costs import Calibration
from planner.costs.closed_loop import ClosedLoop, Load, LoopParts, Policy, capacity, profile
from planner.costs.engine import EngineDegrees, StepModel, Tuning, engine_number
from planner.costs.engine_links import usual_links
from planner.costs.kernels import kernels

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SPECULATIVE_WIDTH = 4.0
"""Tokens of a sequence in a speculative step: three drafted, one certain."""
OPTIONS: tuple[tuple[bool, bool], ...] = ((False, False), (False, True), (True, False), (True, True))
"""Choices of the open settings (speculation, lockstep); the first is what silence means."""


@dataclass(frozen=True)
class Predicted:
    """Predictions by option and run, shape (options, n), s and tokens/s; nan where an option is not open."""

    ttft: FloatArray
    tpot: FloatArray
    rate: FloatArray
    tried: IntArray

    def plain(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the predictions with every open setting at its default."""
        return self.ttft[0], self.tpot[0], self.rate[0]

    def best(self, runs: Sequence[ServedRun]) -> IntArray:
        """Return which option is nearest to what was measured, over both metrics."""
        ttft, tpot = (
            np.asarray([run.measured.get(key) or np.nan for run in runs]) for key in ("ttft", "tpot")
        )
        error = np.abs(np.log(self.tpot / tpot)) + 0.5 * np.abs(np.log(self.ttft / ttft))
        return np.asarray(np.argmin(np.where(np.isfinite(error), error, np.inf), axis=0))

    def take(self, options: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the predictions under one option per run."""
        rows = np.arange(len(options))
        return self.ttft[options, rows], self.tpot[options, rows], self.rate[options, rows]


@dataclass
class _Group:
    """Runs of one model, device, engine and set of data types."""

    engine: str
    rows: IntArray
    loop: ClosedLoop
    speculation: tuple[bool, ...]
    lockstep: tuple[bool, ...]
    parts: LoopParts | None = None


class InferenceBatch:
    """Runs grouped so that each group is one vectorised evaluation.

    Call :meth:`prime` once under a calibration, then :meth:`predict` as often as coefficients change.
    """

    def __init__(self, runs: Sequence[ServedRun], calibration: Calibration, *, bounded: bool = True) -> None:
        self.runs, self.calibration = list(runs), calibration
        found: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for index, run in enumerate(self.runs):
            key = (run.model.name, run.device.name, run.engine, run.precisions, run.open_settings)
            found[key].append(index)
        self._groups = [self._group(np.asarray(rows), bounded) for rows in found.values()]

    def _group(self, rows: IntArray, bounded: bool) -> _Group:
        runs = [self.runs[row] for row in rows]
        first, calibration = runs[0], self.calibration
        degrees = EngineDegrees(*np.asarray([run.degrees for run in runs], dtype=float).T)
        load = Load(*np.asarray([(run.prompt, run.output, run.clients) for run in runs], dtype=float).T)
        steps = StepModel(
            first.model, degrees, first.precisions, kernels(first.device, calibration),
            usual_links(first.device, first.engine, calibration),
        )  # fmt: skip
        own = {
            name: engine_number(calibration, name, first.engine)
            for name in ("memory_share", "reserved", "block", "chunk", "max_batch", "reserve")
        }
        kept = load.prompt + own["reserve"] * load.output
        held = capacity(
            first.model, degrees, first.precisions, first.device.memory.value, kept,
            share=own["memory_share"], reserved=own["reserved"], block=own["block"],
        )  # fmt: skip
        held = np.minimum(held, own["max_batch"] * degrees.adp) if bounded else np.full_like(held, np.inf)
        speculation, lockstep = (
            (False, True) if name in first.open_settings else (False,) for name in ("speculation", "lockstep")
        )
        widths = [[SPECULATIVE_WIDTH if how else 1.0] for how in speculation]
        loop = ClosedLoop(steps, load, held, chunk=own["chunk"], width=widths)
        return _Group(first.engine, rows, loop, speculation, lockstep)

    def prime(self, tunings: Mapping[str, tuple[Tuning, Policy]]) -> None:
        """Compute the steps of every group at the batch that holds under some coefficients."""
        for group in self._groups:
            tuning, policy = tunings[group.engine]
            group.parts = group.loop.parts(group.loop.solve(tuning, policy).batch)

    def predict(self, tunings: Mapping[str, tuple[Tuning, Policy]]) -> Predicted:
        """Return what the primed steps cost under coefficients by engine."""
        shape = (len(OPTIONS), len(self.runs))
        ttft, tpot, rate = (np.full(shape, np.nan) for _ in range(3))
        tried = np.ones(len(self.runs), dtype=np.int64)
        for group in self._groups:
            tuning, policy = tunings[group.engine]
            assert group.parts is not None, "prime() comes first"
            for lockstep in group.lockstep:
                seen = group.loop.latency(group.parts, tuning, policy, lockstep=lockstep)
                options = [OPTIONS.index((how, lockstep)) for how in group.speculation]
                places = np.ix_(np.asarray(options), group.rows)
                ttft[places], tpot[places] = seen.ttft, seen.tpot
                rate[places] = seen.output_rate(group.loop.load)
            tried[group.rows] = len(group.lockstep) * len(group.speculation)
        return Predicted(ttft, tpot, rate, tried)


def profiles(calibration: Calibration, engines: Sequence[str]) -> dict[str, tuple[Tuning, Policy]]:
    """Return the coefficients of engines under a calibration."""
    return {one: profile(calibration, one) for one in engines}


def predict_runs(runs: Sequence[ServedRun], calibration: Calibration, *, bounded: bool = True) -> Predicted:
    """Return the predictions of runs under a calibration.

    Parameters
    ----------
    bounded
        Whether memory limits the batch; else it is as stated.
    """
    batch = InferenceBatch(runs, calibration, bounded=bounded)
    found = profiles(calibration, sorted({run.engine for run in runs}))
    batch.prime(found)
    return batch.predict(found)
