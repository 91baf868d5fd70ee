"""The judge of ensembles: the latency of every class under a design, in whole ticks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from planner.costs.ensemble import TAIL
from planner.placement.ensemble_design import Design, Group, Key
from planner.placement.ensemble_plan import Carrier
from planner.placement.ensemble_problem import SHARES, TICK, EnsembleProblem, Levels, Way
from planner.placement.ensemble_units import Part, UnitTable, pool_part, square, unit_table, whole

MILLI = 1000
TAIL_MILLI = round(TAIL * MILLI)
"""`TAIL` in thousandths: percentiles are whole numbers of ``TICK / (MILLI * SHARES)``."""
FINE = MILLI * SHARES


@dataclass(frozen=True)
class Moved:
    """Time of a class on a way.

    Attributes
    ----------
    fine
        Mean time in `SHARES`-ths of a tick.
    local, node
        Shares that stay within a domain and within a node, in `SHARES`-ths.
    """

    fine: int
    carrier: Carrier
    local: int
    node: int
    levels: Levels

    @property
    def seconds(self) -> float:
        """Mean time, s."""
        return self.fine * TICK / SHARES


def deviation(variance: int) -> int:
    """Return the standard deviation in ticks, rounded up."""
    root = math.isqrt(variance)
    return root if root * root == variance else root + 1


def seconds(fine: int) -> float:
    """Return a percentile in s."""
    return fine * TICK / FINE


class Judged:
    """A design on a problem: times of every class at every stage and on every way.

    Raises
    ------
    KeyError
        If the design does not serve a class at a stage.
    """

    def __init__(self, problem: EnsembleProblem, design: Design) -> None:
        self.problem, self.design = problem, design
        self.group_of = {key: group for group in design.groups for key in group.keys}
        self.pools_of = {pools.stage: pools for pools in design.pools}

    @cached_property
    def stage_parts(self) -> dict[Key, Part | None]:
        """Times at the stages; ``None`` where pool or unit is too busy."""
        found: dict[Key, Part | None] = {}
        for pools in self.design.pools:
            domain = self.problem.domains[pools.domains[0]]
            parts = pool_part(self.problem, pools.stage, domain, len(pools.domains), pools.workers)
            found |= {(pools.stage, one): part for one, part in enumerate(parts)}
        for group in self.design.groups:
            table = self.tables[group]
            for key in group.keys:
                mean, spread = float(table.mean[key][0]), float(table.variance[key][0])
                names = ("batch wait", "gpu queue", "gpu")
                split = dict(zip(names, (float(part[0]) for part in table.split[key]), strict=True))
                finite = math.isfinite(mean) and math.isfinite(spread)
                found[key] = Part(whole(mean), square(spread), split) if finite else None
        return found

    @cached_property
    def tables(self) -> dict[Group, UnitTable]:
        """Times at a unit of each group, for its own settings."""
        return {group: self._table(group) for group in self.design.groups}

    def _table(self, group: Group) -> UnitTable:
        tenants = group.tenants
        return unit_table(
            self.problem,
            [(tenant.stage, tenant.classes) for tenant in tenants],
            group.profile,
            group.count,
            [np.array([float(tenant.batch)]) for tenant in tenants],
            [np.array([tenant.window]) for tenant in tenants],
            [np.array([tenant.high]) for tenant in tenants],
        )

    def dealt(self, stage: int | None, request: int) -> tuple[int, ...] | None:
        """Return the shares of the domains in a stage's requests, in `SHARES`-ths; ``None`` outside."""
        if stage is None:
            return None
        many = len(self.problem.domains)
        if stage in self.pools_of:
            domains = self.pools_of[stage].domains
            return tuple(SHARES // len(domains) if index in domains else 0 for index in range(many))
        group = self.group_of[stage, request]
        return tuple(SHARES * units // group.count for units in group.units)

    def moved(self, index: int, request: int) -> Moved:
        """Return the time of a class on a way."""
        way = self.problem.ways[index]
        carrier, levels = self._carried(index, way, request)
        left, right = self.dealt(way.source, request), self.dealt(way.target, request)
        local = node = SHARES
        if left is not None and right is not None and carrier != "none":
            local = sum(map(min, left, right))
            node = sum(
                min(sum(left[one] for one in members), sum(right[one] for one in members))
                for members in self.problem.node_members
            )
        fine = SHARES * levels[0] + (levels[1] - levels[0]) * (SHARES - local)
        fine += (levels[2] - levels[1]) * (SHARES - node)
        return Moved(fine, carrier, local, node, levels)

    def _carried(self, index: int, way: Way, request: int) -> tuple[Carrier, Levels]:
        problem, prices = self.problem, self.problem.prices
        size = problem.size(way, problem.classes[request])
        first = way.source is not None and (way.source, request) in self.group_of
        last = way.target is not None and (way.target, request) in self.group_of
        if first and last:
            assert way.source is not None
            assert way.target is not None
            left, right = self.group_of[way.source, request], self.group_of[way.target, request]
            if left == right:
                return "none", (0, 0, 0)
            peer = prices.peer_copy(size) if left.profile is None and right.profile is None else None
            return ("staged-copy", prices.staged_copy(size)) if peer is None else ("peer-copy", peer)
        if first or last:
            options = prices.host_copy(size, "out" if first else "in")
            return "host-copy", options[self.design.modes[index, request]]
        if way.source is None or way.target is None:
            return "none", (0, 0, 0)
        return "hand-over", prices.hand_over(size)

    @cached_property
    def ways(self) -> dict[Key, Moved]:
        """Times on all ways, by way and class."""
        many = range(len(self.problem.classes))
        return {
            (index, request): self.moved(index, request)
            for index in range(len(self.problem.ways))
            for request in many
        }

    @property
    def stable(self) -> bool:
        """Whether every pool and unit keeps up with its requests."""
        return all(part is not None for part in self.stage_parts.values())

    def path_times(self, request: int) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """Yield every path with its mean and its 99th percentile, in ``TICK / FINE``."""
        index = {(way.source, way.target): place for place, way in enumerate(self.problem.ways)}
        for path in self.problem.model.paths:
            stops = (None, *path, None)
            moves = [index[pair] for pair in pairwise(stops)]
            parts = [self.stage_parts[stage, request] for stage in path]
            mean = SHARES * sum(part.mean for part in parts if part is not None)
            mean += sum(self.ways[place, request].fine for place in moves)
            spread = deviation(sum(part.variance for part in parts if part is not None))
            yield path, MILLI * mean, MILLI * mean + SHARES * TAIL_MILLI * spread

    def slowest(self, request: int) -> tuple[tuple[int, ...], int, int]:
        """Return the path whose 99th percentile is largest, its mean and its percentile."""
        return max(self.path_times(request), key=lambda each: (each[2], each[1]))

    @cached_property
    def tails(self) -> tuple[int, ...]:
        """99th percentile of every class, in ``TICK / FINE``."""
        return tuple(self.slowest(request)[2] for request in range(len(self.problem.classes)))

    def taken(self) -> dict[int, dict[str | None, int]]:
        """Return the units in use by domain and profile."""
        found: dict[int, dict[str | None, int]] = defaultdict(lambda: defaultdict(int))
        for group in self.design.groups:
            for index, units in enumerate(group.units):
                if units:
                    found[index][group.profile] += units
        return found
