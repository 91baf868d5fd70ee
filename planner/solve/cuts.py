"""What simulation has taught a search: strategies whose simulated percentiles break a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.placement import ServingProblem, Strategy
from planner.placement.ensemble_design import Design
from planner.placement.problem import TYPES

SHOWN = 3
"""Cuts that a sentence spells out; it counts the others."""


@dataclass(frozen=True)
class Cut:
    """A strategy on GPUs of one model that is left out of a search.

    Attributes
    ----------
    device
        Model of the GPUs.
    reason
        What the simulation of its best placement found.
    prefill
        Strategy of the pool for prompts, where there is one.
    """

    device: str
    strategy: Strategy
    reason: str
    prefill: Strategy | None = None

    def __str__(self) -> str:
        if self.prefill is not None:
            return f"prompts on {_shown(self.prefill)}, answers on {_shown(self.strategy)} ({self.reason})"
        return f"{_shown(self.strategy)} ({self.reason})"


def _shown(s: Strategy) -> str:
    copies = f", adp {s.adp}" if s.adp > 1 else ""
    types = "".join(f", {name} {value}" for name in TYPES if (value := getattr(s, name)) is not None)
    return f"tp {s.tp}, pp {s.pp}, ep {s.ep}{copies}, {s.dp} replicas{types}"


Mark = tuple[object, ...]
"""What identifies tenants with their settings, or pools, wherever they are placed."""


@dataclass(frozen=True)
class EnsembleCut:
    """A design of an ensemble that is left out of a search, wherever it would be placed.

    Attributes
    ----------
    marks
        Its groups (tenants, profile, number of units) and its pools (stage, workers, number).
    excess
        By what ratio the simulation of a class exceeded its prediction: limits are held with this margin
        where that is possible.
    reason
        What the simulation found.
    """

    marks: frozenset[Mark]
    excess: tuple[tuple[str, float], ...]
    reason: str

    def __str__(self) -> str:
        return f"a design of {len(self.marks)} groups and pools ({self.reason})"


AnyCut = Cut | EnsembleCut


def marks_of(design: Design) -> frozenset[Mark]:
    """Return what identifies a design wherever it is placed."""
    groups: list[Mark] = [(group.tenants, group.profile, group.count) for group in design.groups]
    pools: list[Mark] = [(pools.stage, pools.workers, len(pools.domains)) for pools in design.pools]
    return frozenset([*groups, *pools])


def allowed(
    problem: ServingProblem, strategies: Sequence[Strategy], cuts: Sequence[AnyCut]
) -> list[Strategy]:
    """Return the strategies that no cut leaves out."""
    device = problem.device.name
    alone = [cut for cut in cuts if isinstance(cut, Cut) and cut.prefill is None]
    left_out = {cut.strategy for cut in alone if cut.device == device}
    return [strategy for strategy in strategies if strategy not in left_out]


def cut_pairs(problem: ServingProblem, cuts: Sequence[AnyCut]) -> frozenset[tuple[Strategy, Strategy]]:
    """Return the strategies of both pools, that for prompts first, that cuts leave out."""
    device = problem.device.name
    own = [cut for cut in cuts if isinstance(cut, Cut) and cut.device == device]
    return frozenset((cut.prefill, cut.strategy) for cut in own if cut.prefill is not None)


def sentence(cuts: Sequence[AnyCut]) -> str:
    """Return what was left out and why, for the proof of a plan; empty without cuts."""
    if not cuts:
        return ""
    shown = "; ".join(map(str, cuts[:SHOWN]))
    more = f"; and {len(cuts) - SHOWN} more" if len(cuts) > SHOWN else ""
    return f"left out, as their simulation breaks a limit: {shown}{more}"
