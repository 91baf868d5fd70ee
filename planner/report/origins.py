"""Where the numbers of a machine come from: how many were measured, stated, or assumed, and by whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from planner.report.names import DASH
from planner.report.wording import shown
from planner.schema import Figure
from planner.topology import Topology, TopologyDocument

ORDER = ("measured", "vendor", "nccl-constant", "assumed")


@dataclass(frozen=True)
class Origin:
    """One figure: its dotted place in the document, the figure as text, who stated it."""

    place: str
    value: str
    provenance: str
    source: str


def origins(topology: Topology) -> list[Origin]:
    """Return every figure of the document with its origin."""
    document: TopologyDocument = topology.document
    return [
        Origin(".".join(place), shown(figure.value, type(figure).dimension), figure.provenance, figure.source)
        for place, figure in _figures(document, ())
    ]


def provenance_counts(found: list[Origin]) -> dict[str, float]:
    """Return how many figures there are of each provenance, strongest first."""
    counts = Counter(origin.provenance for origin in found)
    return {name: float(counts[name]) for name in ORDER if counts[name]}


def _figures(value: object, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Figure]]:
    if isinstance(value, Figure):
        yield place, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _figures(getattr(value, name), (*place, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _figures(item, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _figures(item, (*place, _label(item, index)))


def _label(item: object, index: int) -> str:
    """Return what tells an item of a list apart: its name, its ends, or its number."""
    name = getattr(item, "name", None)
    if isinstance(name, str):
        return name
    ends = getattr(item, "between", None)
    return f" {DASH} ".join(ends) if isinstance(ends, tuple) else str(index)
