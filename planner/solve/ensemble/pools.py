"""What a CPU stage can be given: equal pools of workers, priced by the judge's formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.placement.ensemble_problem import Domain, EnsembleProblem
from planner.placement.ensemble_units import pool_part
from planner.solve.ensemble.columns import COUNTS


@dataclass(frozen=True)
class PoolOption:
    """``count`` pools of a stage in domains of one kind.

    Attributes
    ----------
    cores
        Cores of each pool.
    mean, variance
        Ticks and ticks² by class.
    """

    stage: int
    kind: int
    count: int
    workers: int
    cores: int
    mean: tuple[int, ...]
    variance: tuple[int, ...]


def pool_options(problem: EnsembleProblem) -> list[PoolOption]:
    """Return all sizes of pools that keep up, each better than the next smaller one."""
    found: list[PoolOption] = []
    kinds = {domain.kind: domain for domain in problem.domains}
    for index, stage in enumerate(problem.stages):
        if stage.cpu is not None:
            for kind, domain in kinds.items():
                alike = [each for each in problem.domains if each.kind == kind]
                for count in COUNTS:
                    if count <= len(alike):
                        most = max(each.cores for each in alike) // stage.cpu.parallel
                        found.extend(_sizes(problem, index, domain, count, most))
    return found


def _sizes(
    problem: EnsembleProblem, stage: int, domain: Domain, count: int, most: int
) -> Iterator[PoolOption]:
    cpu = problem.stages[stage].cpu
    assert cpu is not None
    before: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    for workers in range(1, most + 1):
        parts = [part for part in pool_part(problem, stage, domain, count, workers) if part is not None]
        if len(parts) == len(problem.classes):
            times = tuple(part.mean for part in parts), tuple(part.variance for part in parts)
            if times != before:
                yield PoolOption(stage, domain.kind, count, workers, workers * cpu.parallel, *times)
            before = times
