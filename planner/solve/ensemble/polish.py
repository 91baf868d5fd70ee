"""Decisions on which the objective does not depend: fewer workers where they change nothing, usual modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.costs.access import MODES, MemoryMode
from planner.placement import EnsembleProblem
from planner.placement.ensemble_design import Design, Key, Pools
from planner.placement.ensemble_judge import Judged
from planner.placement.ensemble_records import host_problems


def polished(problem: EnsembleProblem, design: Design) -> Design:
    """Return a design with the same percentiles, fewer cores and, of equally fast modes, the first in use."""
    tails = Judged(problem, design).tails

    def as_good(other: Design) -> bool:
        judged = Judged(problem, other)
        return judged.stable and judged.tails == tails and not list(host_problems(judged))

    for key, mode in design.modes.items():
        design = _usual_mode(problem, design, key, mode, as_good=as_good)
    for place, pools in enumerate(design.pools):
        least = _least_workers(design, place, pools, as_good=as_good)
        design = _with(design, place, replace(pools, workers=least))
    return design


def _usual_mode(
    problem: EnsembleProblem, design: Design, key: Key, mode: MemoryMode, *, as_good: Callable[[Design], bool]
) -> Design:
    """Return a design with the first memory mode, in the order of `MODES`, that is as fast for a copy."""
    way, judged = problem.ways[key[0]], Judged(problem, design)
    inwards = way.target is not None and (way.target, key[1]) in judged.group_of
    size = problem.size(way, problem.classes[key[1]])
    for other in MODES[: MODES.index(mode)]:
        if other in problem.prices.host_copy(size, "in" if inwards else "out"):
            changed = replace(design, modes={**design.modes, key: other})
            if Judged(problem, changed).ways[key].fine <= judged.ways[key].fine and as_good(changed):
                return changed
    return design


def _with(design: Design, place: int, pools: Pools) -> Design:
    return replace(design, pools=(*design.pools[:place], pools, *design.pools[place + 1 :]))


def _least_workers(design: Design, place: int, pools: Pools, *, as_good: Callable[[Design], bool]) -> int:
    """Return the fewest workers of some pools that change no percentile: latency falls with workers."""
    low, high = 0, pools.workers
    while high - low > 1:
        middle = (low + high) // 2
        if as_good(_with(design, place, replace(pools, workers=middle))):
            high = middle
        else:
            low = middle
    return high
