"""Where pools and units are: NUMA domains, their cores, GPUs cut into slices, memory."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from planner.costs.host import traffic
from planner.placement.ensemble_design import Key
from planner.placement.ensemble_problem import SHARES
from planner.placement.serving import HOST_BANDWIDTH_SHARE
from planner.placement.slices import patterns
from planner.solve.ensemble.choices import Choices
from planner.solve.ensemble.columns import Column
from planner.solve.expressions import Expression, add_up

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

Lot = tuple[Key, str | None, int]
"""The key that a group is counted by, its profile, its number of units."""
GRAIN = 1_000_000
"""Parts of a memory or of its rate that loads are counted in, rounded up."""


class Places:
    """Integers ``units[lot, domain]`` and booleans ``here[stage, domain]``, held to what the machine has."""

    def __init__(self, choices: Choices) -> None:
        self.model, self.problem, self.choices = choices.model, choices.problem, choices
        self.domains = self.problem.domains
        self._follows: dict[tuple[Key, Key], cp_model.IntVar] = {}
        self.units = self._place_units()
        self.here = self._place_pools()
        self.dealt = {
            key: [self._dealt(key, domain) for domain in range(len(self.domains))] for key in choices.keys
        }
        self.gpus_used = self._cut_gpus()
        self.cores = self._fit_cores()
        self._fit_memory_rate()

    def _place_units(self) -> dict[Lot, list[cp_model.IntVar]]:
        lots: dict[Lot, list[Expression]] = defaultdict(list)
        for index, column in enumerate(self.choices.columns):
            lots[column.leader, column.profile, column.count].append(self.choices.use[index])
        found = {}
        for lot, uses in lots.items():
            _, profile, count = lot
            row = [
                self.model.new_int_var(0, min(count, self.most(domain, profile)), f"units[{lot},{domain}]")
                for domain in range(len(self.domains))
            ]
            chosen = add_up(uses)
            self.model.add(add_up(row) == count * chosen)
            for domain, units in enumerate(row):
                self.model.add(units <= min(count, self.most(domain, profile)) * chosen)
            found[lot] = row
        return found

    def most(self, domain: int, profile: str | None) -> int:
        """Return the units of a profile that a domain can have."""
        most = len(self.domains[domain].gpus)
        if profile is None:
            return most
        return most * next(each.instances for each in self.problem.device.mig if each.name == profile)

    def _place_pools(self) -> dict[int, list[cp_model.IntVar]]:
        found = {}
        for stage in range(len(self.problem.stages)):
            options = self.choices.options_of(stage)
            if not options:
                continue
            row = [self.model.new_bool_var(f"here[{stage},{domain}]") for domain in range(len(self.domains))]
            self.model.add(
                add_up(row) == add_up(option.count * self.choices.pool[index] for index, option in options)
            )
            for domain, here in enumerate(row):
                kind = self.domains[domain].kind
                fitting = [self.choices.pool[index] for index, option in options if option.kind == kind]
                self.model.add(here <= add_up(fitting))
            found[stage] = row
        return found

    def _dealt(self, key: Key, domain: int) -> Expression:
        """Return the share of a domain in a class's requests at a stage, in `SHARES`-ths."""
        if len(self.domains) == 1:
            return SHARES
        stage, _ = key
        name = f"share[{key},{domain}]"
        share = self.model.new_int_var(0, SHARES, name)
        for index, option in self.choices.options_of(stage):
            here = self.here[stage][domain]
            each = SHARES // option.count
            self.model.add(share == each * here).only_enforce_if(self.choices.pool[index])
        for leader in self.leaders(key):
            self.model.add(share == self._led(leader, domain)).only_enforce_if(self.follows(key, leader))
        return share

    def leaders(self, key: Key) -> list[Key]:
        """Return the keys by which groups that may serve a class at a stage are counted."""
        return sorted({column.leader for _, column in self.choices.columns_of(key)})

    def follows(self, key: Key, leader: Key) -> cp_model.IntVar:
        """Return whether the group of a class at a stage is counted by another key."""
        if (key, leader) not in self._follows:
            found = self.model.new_bool_var(f"led[{key},{leader}]")
            led = self.choices.chosen(key, partial(_is_led, leader), ("led", key, leader))
            self.model.add(led == found)
            self._follows[key, leader] = found
        return self._follows[key, leader]

    def led(self, leader: Key, domain: int) -> Expression:
        """Return the units in a domain of the group that is counted by a key."""
        return add_up(row[domain] for (key, _, _), row in self.units.items() if key == leader)

    def _led(self, leader: Key, domain: int) -> Expression:
        return add_up(
            SHARES // count * row[domain] for (key, _, count), row in self.units.items() if key == leader
        )

    def _cut_gpus(self) -> list[Expression]:
        """Fit the units of every domain on its GPUs; return how many GPUs each uses."""
        ways = patterns(self.problem.device) if len(self.problem.profiles) > 1 else []
        used: list[Expression] = []
        for domain, own in enumerate(self.domains):
            most = len(own.gpus)
            cuts = [self.model.new_int_var(0, most, f"cut[{domain},{way}]") for way in range(len(ways))]
            for profile in self.problem.profiles:
                if profile is not None:
                    room = add_up(way.get(profile, 0) * cut for way, cut in zip(ways, cuts, strict=True))
                    self.model.add(self._here(domain, profile) <= room)
            used.append(add_up(cuts) + self._here(domain, None))
            self.model.add(used[-1] <= most)
        self.model.add(add_up(used) <= self.problem.num_gpus)
        return used

    def _here(self, domain: int, profile: str | None) -> Expression:
        return add_up(row[domain] for (_, each, _), row in self.units.items() if each == profile)

    def _fit_cores(self) -> dict[tuple[int, int], Expression]:
        """Fit the pools of every domain on its cores; return the cores by stage and domain."""
        found: dict[tuple[int, int], Expression] = {}
        for stage, row in self.here.items():
            options = self.choices.options_of(stage)
            most = max(option.cores for _, option in options)
            size = add_up(option.cores * self.choices.pool[index] for index, option in options)
            for domain, here in enumerate(row):
                cores = self.model.new_int_var(0, most, f"cores[{stage},{domain}]")
                self.model.add(cores >= size - most * (1 - here))
                found[stage, domain] = cores
            whole = add_up(
                option.count * option.cores * self.choices.pool[index] for index, option in options
            )
            self.model.add(add_up(found[stage, domain] for domain in range(len(row))) >= whole)
        for domain, own in enumerate(self.domains):
            self.model.add(
                add_up(cores for (_, where), cores in found.items() if where == domain) <= own.cores
            )
        return found

    def _fit_memory_rate(self) -> None:
        """Hold the traffic of the pools of a domain to what its memory carries."""
        load = {stage: self._traffic(stage) for stage in self.here}
        for domain, own in enumerate(self.domains):
            room = own.numa.memory_bandwidth.value * HOST_BANDWIDTH_SHARE
            if sum(load.values()) <= room:
                continue
            parts = [
                math.ceil(size / SHARES / room * GRAIN) * self._on_cores(stage, domain)
                for stage, size in load.items()
            ]
            self.model.add(add_up(parts) <= GRAIN)

    def _on_cores(self, stage: int, domain: int) -> Expression:
        """Return the share of a domain in the requests of a stage on host cores, in `SHARES`-ths."""
        found = self.model.new_int_var(0, SHARES, f"hosted[{stage},{domain}]")
        for index, option in self.choices.options_of(stage):
            each = SHARES // option.count
            self.model.add(found >= each * self.here[stage][domain]).only_enforce_if(self.choices.pool[index])
        return found

    def _traffic(self, stage: int) -> float:
        own = self.problem.stages[stage]
        return sum(
            request.rate * traffic(own.cpu_stage(own.units(request))) for request in self.problem.classes
        )


def _is_led(leader: Key, column: Column) -> bool:
    return column.leader == leader
