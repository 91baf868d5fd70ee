"""What simulation has taught a search: strategies whose simulated percentiles break a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.placement import ServingProblem, Strategy

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
    """

    device: str
    strategy: Strategy
    reason: str

    def __str__(self) -> str:
        s = self.strategy
        copies = f", adp {s.adp}" if s.adp > 1 else ""
        return f"tp {s.tp}, pp {s.pp}, ep {s.ep}{copies}, {s.dp} replicas ({self.reason})"


def allowed(problem: ServingProblem, strategies: Sequence[Strategy], cuts: Sequence[Cut]) -> list[Strategy]:
    """Return the strategies that no cut leaves out."""
    left_out = {cut.strategy for cut in cuts if cut.device == problem.device.name}
    return [strategy for strategy in strategies if strategy not in left_out]


def sentence(cuts: Sequence[Cut]) -> str:
    """Return what was left out and why, for the proof of a plan; empty without cuts."""
    if not cuts:
        return ""
    shown = "; ".join(map(str, cuts[:SHOWN]))
    more = f"; and {len(cuts) - SHOWN} more" if len(cuts) > SHOWN else ""
    return f"left out, as their simulation breaks a limit: {shown}{more}"
