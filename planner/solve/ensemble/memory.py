"""Host memory of an ensemble: workers of the pools, and what copies pin next to the GPUs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planner.placement.ensemble_design import Key
from planner.placement.ensemble_problem import Domain
from planner.solve.ensemble.choices import Choices
from planner.solve.ensemble.places import Places
from planner.solve.ensemble.ways import Ways
from planner.solve.expressions import Expression, add_up

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

GRAIN = 1_000_000
"""Parts of a memory that sizes are counted in, rounded up."""
Pin = tuple["cp_model.IntVar", Key, float]
"""Whether a copy is pinned, the class and GPU stage that it feeds or drains, bytes per unit."""


class HostMemory:
    """Hold the pinned buffers of every domain to their budget, and all host memory to what there is."""

    def __init__(self, choices: Choices, places: Places, ways: Ways) -> None:
        self.model, self.problem = choices.model, choices.problem
        self.choices, self.places = choices, places
        self.pins = [pin for pin in self._pins(ways) if pin[2] > 0.0]
        for domain in self.problem.domains:
            self._hold(domain)

    def _pins(self, ways: Ways) -> list[Pin]:
        found = []
        for ((index, request), mode, direction), chosen in ways.modes.items():
            if mode == "pinned-copy":
                way = self.problem.ways[index]
                stage = way.target if direction == "in" else way.source
                assert stage is not None
                found.append((chosen, (stage, request), self.problem.pinned_bytes(way, stage)))
        return found

    def _hold(self, domain: Domain) -> None:
        free = 1.0 - self.problem.calibration.number("memory_margin")
        room = domain.numa.memory.value
        budget = room * self.problem.job.allow.pinned
        most = sum(size * self._most(key, domain.index) for _, key, size in self.pins)
        workers = self._workers(domain.index, room * free)
        resident = sum(
            max((option.workers for _, option in self.choices.options_of(stage)), default=0) * own.cpu.memory
            for stage, own in enumerate(self.problem.stages)
            if own.cpu is not None
        )
        pinned = {
            place: self._pinned(chosen, key, domain.index)
            for place, (chosen, key, _) in enumerate(self.pins)
            if most > budget or most + resident > room * free
        }
        if most > budget:
            self.model.add(add_up(self._parts(pinned, budget)) <= (GRAIN if budget else 0))
        if most + resident > room * free:
            self.model.add(add_up(self._parts(pinned, room * free)) + workers <= GRAIN)

    def _parts(self, pinned: dict[int, cp_model.IntVar], room: float) -> list[Expression]:
        """Return the sizes of the pinned buffers in parts of some room."""
        return [
            (math.ceil(self.pins[place][2] / room * GRAIN) if room else 1) * units
            for place, units in pinned.items()
        ]

    def _workers(self, domain: int, room: float) -> Expression:
        found: list[Expression] = []
        for stage, own in enumerate(self.problem.stages):
            if (stage, domain) in self.places.cores and own.cpu is not None:
                each = math.ceil(own.cpu.memory / own.cpu.parallel / room * GRAIN)
                found.append(each * self.places.cores[stage, domain])
        return add_up(found)

    def _most(self, key: Key, domain: int) -> int:
        return max(
            (self.places.most(domain, each.profile) for _, each in self.choices.columns_of(key)), default=0
        )

    def _pinned(self, chosen: cp_model.IntVar, key: Key, domain: int) -> cp_model.IntVar:
        """Return the units of a class at a stage in a domain, 0 where their copies are not pinned."""
        most = self._most(key, domain)
        units = self.model.new_int_var(0, most, f"pinned[{key},{domain},{chosen.index}]")
        for leader in self.places.leaders(key):
            follows = self.places.follows(key, leader)
            here = self.places.led(leader, domain)
            self.model.add(units >= here).only_enforce_if([chosen, follows])
        return units
