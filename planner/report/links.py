"""Links by how busy they are: simulated where a simulation is at hand, else as the plan predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.placement.plan import Plan
from planner.simulate.result import LinkUse, SimulationResult


@dataclass(frozen=True)
class BusyLink:
    """One directed link with its use.

    Attributes
    ----------
    utilisation
        Mean share of the rate in use.
    simulated
        The exact record, where a simulation gave one.
    """

    source: str
    target: str
    kind: str
    rate: float
    utilisation: float
    simulated: LinkUse | None = None


def busiest_links(
    plan: Plan, simulation: SimulationResult | None, most: int | None = 10
) -> Sequence[BusyLink]:
    """Return the busiest links first; all of them without ``most``."""
    if simulation is not None and simulation.links:
        links = [BusyLink(x.source, x.target, x.kind, x.rate, x.mean, x) for x in simulation.links]
    else:
        links = [BusyLink(x.source, x.target, x.kind, x.rate, x.utilisation) for x in plan.links]
    ordered = sorted(links, key=lambda link: (-link.utilisation, link.source, link.target))
    return ordered if most is None else ordered[:most]


def link_loads(plan: Plan, simulation: SimulationResult | None) -> dict[tuple[str, str], float]:
    """Return utilisation by directed link; simulated values replace predicted ones."""
    loads = {(link.source, link.target): link.utilisation for link in plan.links}
    if simulation is not None:
        loads.update({(link.source, link.target): link.mean for link in simulation.links})
    return loads
