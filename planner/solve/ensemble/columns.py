"""What a unit (a GPU or a slice) can be given: tenants with settings, priced by the judge's formulas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from planner.costs.ensemble import gather_window
from planner.placement.ensemble_design import Key, Tenant
from planner.placement.ensemble_problem import SHARES, TICK, EnsembleProblem
from planner.placement.ensemble_units import (
    UnitTable,
    shares_of,
    square,
    unit_bytes,
    unit_room,
    unit_table,
    whole,
)

COUNTS = tuple(count for count in range(1, SHARES + 1) if SHARES % count == 0)
"""Numbers of equal instances or pools that requests can be dealt out to."""
Serving = tuple[int, tuple[int, ...]]
"""A stage and the classes that an instance of it serves."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """Tenants with their settings on ``count`` equal units.

    Attributes
    ----------
    mean, variance
        Ticks and ticks² by stage and class.
    """

    tenants: tuple[Tenant, ...]
    profile: str | None
    count: int
    mean: tuple[int, ...]
    variance: tuple[int, ...]

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """What the tenants serve, in the order of the times."""
        return tuple(key for tenant in self.tenants for key in tenant.keys)

    @property
    def leader(self) -> Key:
        """The stage and class that the group is counted by."""
        return min(self.keys)


def servings(problem: EnsembleProblem) -> list[Serving]:
    """Return what one instance may serve: a GPU stage for all classes, or for some of them."""
    many = range(len(problem.classes))
    sizes = range(1, len(many) + 1) if problem.job.allow.split_classes else (len(many),)
    return [
        (index, classes)
        for index, stage in enumerate(problem.stages)
        if stage.gpu is not None
        for size in sizes
        for classes in combinations(many, size)
    ]


def tenant_sets(problem: EnsembleProblem) -> Iterator[tuple[Serving, ...]]:
    """Yield what may share a unit: up to as many instances as allowed, none serving what another does."""
    known = servings(problem)
    for size in range(1, min(problem.job.allow.tenants, len(known)) + 1):
        for chosen in combinations(known, size):
            keys = [(stage, one) for stage, classes in chosen for one in classes]
            if len(set(keys)) == len(keys):
                yield chosen


def unit_counts(problem: EnsembleProblem, profile: str | None) -> list[int]:
    """Return the numbers of units of a profile that the GPUs of the problem can have."""
    most = problem.num_gpus
    if profile is not None:
        most *= next(each.instances for each in problem.device.mig if each.name == profile)
    return [count for count in COUNTS if count <= most]


def batch_options(problem: EnsembleProblem, serving: Serving, count: int) -> list[tuple[int, float]]:
    """Return batch sizes with windows: requests one by one, and batches gathered at the offered rate."""
    stage, classes = serving
    work = problem.stages[stage].gpu
    assert work is not None
    rates, units = shares_of(problem, stage, classes)
    least = max(units)
    if least > work.max_batch:
        return []
    total = sum(rates)
    each = sum(rate * number for rate, number in zip(rates, units, strict=True)) / total
    sizes = sorted({least, *(size for size in problem.job.allow.batches if least <= size <= work.max_batch)})
    gathered = [(size, gather_window(total / count, each, size)) for size in sizes if size > each]
    most = 2.0 * min(
        problem.classes[one].slo.latency_p99 or np.inf for one in classes
    )  # half of it is the mean
    return [(least, 0.0), *((size, window) for size, window in gathered if 0.0 < window <= most)]


def priorities(problem: EnsembleProblem, chosen: Sequence[Serving]) -> list[tuple[bool, ...]]:
    """Return the ways to give high priority to some tenants of a unit but not to all."""
    options: list[tuple[bool, ...]] = []
    for _, classes in chosen:
        fixed = {problem.classes[one].priority for one in classes} - {None}
        if "high" in fixed:
            options.append((True,))
        elif fixed or not problem.job.allow.priority:
            options.append((False,))
        else:
            options.append((False, True))
    found = {highs if not all(highs) else (False,) * len(highs) for highs in product(*options)}
    return sorted(found)


def columns(problem: EnsembleProblem) -> list[Column]:
    """Return all columns that keep up, fit in memory, and are worse than no other of the same tenants."""
    limits = mean_limits(problem)
    found: list[Column] = []
    for chosen in tenant_sets(problem):
        for profile in problem.profiles:
            least = unit_bytes(problem, [(stage, 1) for stage, _ in chosen])
            if least <= unit_room(problem, profile):
                found.extend(_of_set(problem, chosen, profile, limits))
    return found


def mean_limits(problem: EnsembleProblem) -> list[float]:
    """Return the longest mean time that a class may take at one stage, s."""
    return [request.slo.latency_p99 or np.inf for request in problem.classes]


@dataclass(frozen=True)
class _Settings:
    count: NDArray[np.int64]
    batch: list[FloatArray]
    window: list[FloatArray]
    high: list[NDArray[np.bool_]]


def _settings(problem: EnsembleProblem, chosen: tuple[Serving, ...], profile: str | None) -> _Settings | None:
    """Return all settings of the tenants of a unit that fit in its memory."""
    room = unit_room(problem, profile)
    rows: list[tuple[int, tuple[tuple[int, float], ...], tuple[bool, ...]]] = []
    highs = priorities(problem, chosen)
    for count in unit_counts(problem, profile):
        for options in product(*(batch_options(problem, serving, count) for serving in chosen)):
            sizes = [(stage, size) for (stage, _), (size, _) in zip(chosen, options, strict=True)]
            if unit_bytes(problem, sizes) <= room:
                rows.extend((count, options, high) for high in highs)
    if not rows:
        return None
    many = range(len(chosen))
    return _Settings(
        np.array([row[0] for row in rows]),
        [np.array([float(row[1][place][0]) for row in rows]) for place in many],
        [np.array([row[1][place][1] for row in rows]) for place in many],
        [np.array([row[2][place] for row in rows]) for place in many],
    )


def _of_set(
    problem: EnsembleProblem, chosen: tuple[Serving, ...], profile: str | None, limits: list[float]
) -> Iterator[Column]:
    settings = _settings(problem, chosen, profile)
    if settings is None:
        return
    table = unit_table(
        problem, chosen, profile, settings.count, settings.batch, settings.window, settings.high
    )
    keys = list(table.mean)
    holds = np.all([np.isfinite(table.variance[key]) for key in keys], axis=0)
    holds &= np.all([table.mean[key] <= limits[key[1]] for key in keys], axis=0)
    for count in np.unique(settings.count):
        rows = np.flatnonzero(holds & (settings.count == count))
        for row in rows[_efficient(np.stack(_rounded(table, keys, rows), axis=1))] if len(rows) else ():
            yield _column(chosen, profile, settings, table, int(row))


def _rounded(table: UnitTable, keys: Sequence[Key], rows: NDArray[np.int64]) -> list[FloatArray]:
    means = [np.ceil(table.mean[key][rows] / TICK - 1e-6) for key in keys]
    return means + [np.ceil(table.variance[key][rows] / TICK**2 - 1e-3) for key in keys]


def _efficient(values: FloatArray) -> NDArray[np.int64]:
    """Return the rows than which no other is as small everywhere and smaller somewhere; of equal rows one."""
    order = np.lexsort(values.T[::-1])
    order = order[np.argsort(values[order].sum(axis=1), kind="stable")]
    kept: list[int] = []
    left = order
    while len(left):
        first = left[0]
        kept.append(int(first))
        left = left[(values[left] < values[first]).any(axis=1)]
    return np.array(sorted(kept))


def _column(
    chosen: tuple[Serving, ...], profile: str | None, settings: _Settings, table: UnitTable, row: int
) -> Column:
    tenants = tuple(
        Tenant(
            stage, classes, int(settings.batch[place][row]), float(settings.window[place][row]),
            bool(settings.high[place][row]),
        )
        for place, (stage, classes) in enumerate(chosen)
    )  # fmt: skip
    keys = [key for tenant in tenants for key in tenant.keys]
    return Column(
        tenants, profile, int(settings.count[row]),
        tuple(whole(float(table.mean[key][row])) for key in keys),
        tuple(square(float(table.variance[key][row])) for key in keys),
    )  # fmt: skip
