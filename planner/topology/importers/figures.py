"""Figures with their reasons, made from what a dump says and what the data file of rates adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel

from planner.schema import BandwidthFigure, BytesFigure, Figure
from planner.topology.importers.rates import GpuFacts, HostRule, link_rates
from planner.topology.importers.views import GpuView, HostView

DUMP = "dump"
"""Source key of what the dump itself states."""
LANES = 16
_UNKNOWN_GENERATION = 3
F = TypeVar("F", BandwidthFigure, BytesFigure)


def scaled(figure: F, factor: float, *, certain: bool = True) -> F:
    """Return a figure times a factor; what is not certain counts as assumed."""
    provenance = figure.provenance if certain else "assumed"
    return type(figure).of(figure.value * factor, provenance, figure.source)


def pcie_rate(gpu: GpuView, facts: GpuFacts | None) -> BandwidthFigure:
    """Return the rate of a GPU's PCI Express link, as reported, else as the device is made for.

    An unknown generation of an unknown device counts as 3, as NCCL counts it.
    """
    rates = link_rates()
    generation = gpu.pcie_generation or (facts.pcie if facts else _UNKNOWN_GENERATION)
    known = gpu.pcie_generation is not None and gpu.pcie_width is not None
    fastest = max(rates.pcie)
    width = gpu.pcie_width or LANES
    return scaled(
        rates.pcie[min(generation, fastest)], width / LANES, certain=known and generation <= fastest
    )


def gpu_link_rate(view: HostView, facts: GpuFacts | None) -> BandwidthFigure:
    """Return the payload rate of one direct link between GPUs."""
    if facts is not None and facts.link_rate is not None:
        return facts.link_rate
    return link_rates().links.xgmi if view.link_kind == "xgmi" else link_rates().links.nvlink


def socket_rate(view: HostView, model: int | None, *, c2c: bool) -> BandwidthFigure:
    """Return the rate between two NUMA domains; it is assumed where the CPU model that decides is unknown."""
    rules = link_rates().sockets
    rule = next(
        rule
        for rule in rules
        if rule.vendor in (None, view.vendor)
        and rule.arch in (None, view.arch)
        and rule.c2c in (None, c2c)
        and (rule.model is None or (model is not None and model >= rule.model))
    )
    decided = model is not None or not any(other.model for other in rules if other.vendor == rule.vendor)
    return scaled(rule.rate, 1.0, certain=decided or rule.vendor is None)


def host_rule(arch: str, *, c2c: bool) -> HostRule:
    """Return what the cores of a host are taken for."""
    return next(rule for rule in link_rates().hosts if rule.arch in (None, arch) and rule.c2c in (None, c2c))


def sources_of(record: BaseModel) -> Iterator[str]:
    """Yield the source key of every figure in a record."""
    waiting: list[object] = [record]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Figure):
            yield value.source
        elif isinstance(value, BaseModel):
            waiting.extend(getattr(value, name) for name in type(value).model_fields)
        elif isinstance(value, list | tuple):
            waiting.extend(value)
