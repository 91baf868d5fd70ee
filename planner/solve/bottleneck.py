"""Whether some split of the layers can beat a step time: a bound that looks at every stage by itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from planner.costs import StageCosts
from planner.costs.pipeline import in_flight
from planner.placement import Strategy, TrainingProblem, as_candidates
from planner.solve.bounds import step_bounds

ROUNDING = 1e-9
"""Share of a layer by which a stage may overflow, for rounding."""
Segment = tuple[float, float, float, float]
"""How many layers are alike, and the time, s, the bytes on the device and in host memory that each takes."""


def may_beat(
    problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int, seconds: float
) -> bool:
    """Return whether a split may exist that fits in memory and takes at most some time, s.

    A step of that time leaves a stage at most so much per micro-batch. Stages filled one after the other,
    each with as many of the next layers as its time and memory hold, place all layers if any split does: more
    layers done never leave a later stage with less. The tail of the step counts with its lower bound. Where
    both kinds of layer are there, repeating one counts with the lesser time and the greater saving of both.
    """
    one = as_candidates(strategy)
    least = step_bounds(problem, one, costs.take(np.asarray([row])))
    count = float(costs.num_micro_batches[row]) - 1.0 / strategy.virtual
    rest = seconds - float(least.tail[0]) - float(least.total[0]) / strategy.virtual
    limit = rest / count if count > 0.0 else (float("inf") if rest >= 0.0 else -1.0)
    return Filling(problem, strategy, costs, row).reaches(limit)


@dataclass
class Filling:
    """Stages of one strategy, filled in order."""

    problem: TrainingProblem
    strategy: Strategy
    costs: StageCosts
    row: int

    def __post_init__(self) -> None:
        costs, row, stages = self.costs, self.row, self.strategy.pp
        self.flight = in_flight(stages, self.strategy.virtual, int(costs.num_micro_batches[row]))
        self.again = int(costs.again_layers[row])
        self.number = {
            name: float(getattr(costs, name)[row])
            for name in (
                "dense", "moe", "kept_dense", "kept_moe", "static_dense", "static_moe",
                "host_dense", "host_moe", "host_kept_dense", "host_kept_moe",
            )
        }  # fmt: skip
        model = self.problem.model
        kinds = [name for name, some in _kinds(model.dense_layers, model.layers).items() if some]
        self.slower = min(float(getattr(costs, f"again_{kind}")[row]) for kind in kinds)
        self.saved = max(float(getattr(costs, f"saved_{kind}")[row]) for kind in kinds)

    def reaches(self, seconds: float) -> bool:
        """Return whether stages of at most some time per micro-batch hold all layers."""
        done, total = 0, self.problem.model.layers
        for stage in range(self.strategy.pp):
            most = self._most(stage, max(0, self.problem.model.dense_layers - done), seconds)
            if most < self.strategy.virtual:
                return False
            done += most
        return done >= total

    def _most(self, stage: int, leading: int, seconds: float) -> int:
        """Return how many of the next layers a stage holds, of which some first ones are dense."""
        costs, row, last = self.costs, self.row, self.strategy.pp - 1
        room = self.problem.capacity - float(costs.static_base[row]) - float(costs.peak_working[row])
        host = self.problem.shape.host.memory
        left = seconds - float(costs.hop[row])
        if stage == 0:
            room, host = room - float(costs.static_first[row]), host - float(costs.host_first[row])
            left -= float(costs.first[row])
        if stage == last:
            room, host = room - float(costs.static_last[row]), host - float(costs.host_last[row])
            left -= float(costs.last[row])
        if min(left + ROUNDING * seconds, room, host) < 0.0:
            return -1
        found = 0
        for count, time, size, away in self._segments(stage, leading):
            some = min(count, _times(left, time), _times(room, size), _times(host, away))
            found += int(some)
            if some < count:
                break
            left, room, host = left - some * time, room - some * size, host - some * away
        return found

    def _segments(self, stage: int, leading: int) -> list[Segment]:
        """Return the runs of like layers that a stage would take: by kind, and repeated or not."""
        total = self.problem.model.layers
        ends = sorted({0, min(leading, total), min(self.again, total), total})
        return [
            (
                float(end - start),
                *self._layer(stage, "dense" if start < leading else "moe", start < self.again),
            )
            for start, end in pairwise(ends)
        ]

    def _layer(self, stage: int, kind: str, again: bool) -> tuple[float, float, float]:
        number, flight = self.number, float(self.flight[stage])
        time = number[kind] + (self.slower if again else 0.0)
        kept = max(0.0, number[f"kept_{kind}"] - (self.saved if again else 0.0))
        away = number[f"host_{kind}"] + number[f"host_kept_{kind}"] * flight
        return time, number[f"static_{kind}"] + kept * flight, away


def _kinds(dense: int, layers: int) -> dict[str, bool]:
    """Return which kinds of layer a model has."""
    return {"dense": dense > 0, "moe": dense < layers}


def _times(room: float, each: float) -> float:
    """Return how often something fits, as a whole number; always where it takes nothing."""
    if each <= 0.0:
        return float("inf")
    return float(np.floor(max(room, 0.0) / each + ROUNDING))
