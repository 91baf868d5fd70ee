"""Whether some split of the layers can beat a step time: a bound that looks at every stage by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs import StageCosts
from planner.costs.pipeline import in_flight
from planner.placement import Strategy, TrainingProblem, as_candidates
from planner.placement.recompute import repeat_choices
from planner.solve.bounds import step_bounds

ROUNDING = 1e-9
"""Share of its time and memory by which a stage may overflow, for rounding."""
FloatArray = NDArray[np.float64]


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
        choices = repeat_choices(self.problem) if self.strategy.recompute == "block" else [0]
        self.choices = np.asarray(choices) * self.strategy.virtual
        self.counts = np.arange(self.problem.model.layers + 1)
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
        done, total, leading = 0, self.problem.model.layers, self.problem.model.dense_layers
        for stage in range(self.strategy.pp):
            most = self._most(stage, max(0, leading - done) if leading < total else total, seconds)
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
        number, flight = self.number, float(self.flight[stage])
        dense = np.minimum(self.counts, leading)
        moe = self.counts - dense

        def needed(name: str) -> FloatArray:
            return np.asarray(number[f"{name}dense"] * dense + number[f"{name}moe"] * moe)

        over = needed("static_") + needed("kept_") * flight - room
        again, enough = self._repeats(over, self.saved * flight)
        away = needed("host_") + needed("host_kept_") * flight
        slack = 1.0 + ROUNDING
        time = needed("") + self.slower * again
        good = enough & (time <= left * slack + ROUNDING * seconds) & (away <= host * slack)
        return int(np.flatnonzero(good)[-1]) if good.any() else -1

    def _repeats(self, over: FloatArray, saved: float) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return for every count of layers how many a stage has to repeat, and whether that makes room.

        Parameters
        ----------
        over
            Bytes by which the layers exceed the room if none is repeated.
        saved
            By how many bytes less a repeated layer takes.
        """
        excess = over - ROUNDING * self.problem.capacity
        least = (
            np.ceil(np.maximum(excess, 0.0) / saved) if saved > 0.0 else np.where(excess > 0.0, np.inf, 0.0)
        )
        place = np.searchsorted(self.choices, least)
        chosen = self.choices[np.minimum(place, len(self.choices) - 1)]
        enough = (least <= self.counts) & (place < len(self.choices))
        return np.minimum(chosen, self.counts).astype(float), enough


def _kinds(dense: int, layers: int) -> dict[str, bool]:
    """Return which kinds of layer a model has."""
    return {"dense": dense > 0, "moe": dense < layers}
