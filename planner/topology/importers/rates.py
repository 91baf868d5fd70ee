"""Rates that dumps leave out, as the data file beside this module states them with their sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from planner.errors import TopologyError, nearest
from planner.schema import (
    BandwidthFigure,
    BytesFigure,
    Document,
    LatencyFigure,
    Name,
    RatioFigure,
    Record,
    load,
)
from planner.topology.models import Device

_VENDOR_WORDS = frozenset({"nvidia", "tesla", "amd", "corporation", "graphics", "device"})


class GpuFacts(Record):
    """How a device of the catalogue is named by tools, and what it is attached with.

    Attributes
    ----------
    names
        Product names as tools print them, without the vendor.
    pci
        PCI identities, ``vendor:device``.
    sm
        Number that NCCL calls ``sm``: compute capability, or compute units of an AMD device.
    links, link_rate
        Number of NVLink or xGMI links, and payload of one in each direction, bytes/s.
    pcie
        Generation of PCI Express that the device is made for.
    bridged
        Whether the links exist only on some boards, or where a bridge joins two cards.
    c2c
        Whether the device has a coherent chip-to-chip link to its host.
    """

    device: Name
    names: list[str]
    pci: list[str]
    sm: int
    links: int = 0
    link_rate: BandwidthFigure | None = None
    pcie: int
    bridged: bool = False
    c2c: bool = False


class SocketRule(Record):
    """Rate between NUMA domains of hosts that match; ``model`` is the least CPU model."""

    vendor: str | None = None
    arch: str | None = None
    model: int | None = None
    c2c: bool | None = None
    rate: BandwidthFigure


class HostRule(Record):
    """What a core of hosts that match is taken for."""

    arch: str | None = None
    c2c: bool | None = None
    vector_bits: int
    core_speed: RatioFigure
    memory_per_core: BytesFigure
    rate_per_core: BandwidthFigure


class KindRates(Record):
    """Rates of single links by kind, bytes/s; ``port`` is a network port of unknown speed."""

    nvlink: BandwidthFigure
    xgmi: BandwidthFigure
    c2c: BandwidthFigure
    port: BandwidthFigure


class Latencies(Record):
    """Times of an empty message by kind, s.

    ``root`` is to a PCI Express switch, ``device`` below one, ``cable`` a switch crossing of the network.
    """

    nvlink: LatencyFigure
    root: LatencyFigure
    device: LatencyFigure
    c2c: LatencyFigure
    socket: LatencyFigure
    cable: LatencyFigure


class LinkRates(Document):
    """Document ``link-rates/1``; of the rules for sockets and hosts the first that matches counts.

    Attributes
    ----------
    pcie
        Payload of 16 lanes by generation, bytes/s and direction.
    cores_per_gpu
        Cores taken per GPU where a dump says nothing of the host.
    """

    kind: ClassVar[str] = "link-rates"
    version: ClassVar[int] = 1
    sources: dict[str, str]
    gpus: list[GpuFacts]
    pcie: dict[int, BandwidthFigure]
    links: KindRates
    sockets: list[SocketRule]
    hosts: list[HostRule]
    cores_per_gpu: int = Field(ge=1)
    latencies: Latencies


@cache
def link_rates() -> LinkRates:
    """Return the rates that come with the importers."""
    return load(Path(str(files("planner.topology.importers"))) / "rates.yaml", LinkRates)


def facts_of(device: str) -> GpuFacts | None:
    """Return what is known of a device of the catalogue."""
    return next((facts for facts in link_rates().gpus if facts.device == device), None)


def device_of(product: str, devices: Mapping[str, Device]) -> str:
    """Return the device of the catalogue that a product name or PCI identity stands for.

    Raises
    ------
    TopologyError
        If there is none, with the nearest.
    """
    wanted = normalised(product)
    known: dict[str, str] = {normalised(name): name for name in devices}
    for facts in link_rates().gpus:
        if facts.device in devices:
            known.update({normalised(name): facts.device for name in facts.names})
            if product.lower() in facts.pci:
                return facts.device
    if wanted in known:
        return known[wanted]
    close = nearest(wanted, known)
    hint = f"nearest is {known[close]!r}" if close else f"known are {', '.join(sorted(devices))}"
    raise TopologyError(
        f"no device of the catalogue is a {product!r}; {hint}; "
        "describe it under 'devices', or name one with --device"
    )


def same_product(left: str, right: str) -> bool:
    """Whether two names of products may mean one device: equal when normalised, or known to be the same."""
    if normalised(left) == normalised(right):
        return True
    return bool(_known(left)) and _known(left) == _known(right)


def is_known(product: str) -> bool:
    """Whether a product name or PCI identity stands for a device of the data file."""
    return _known(product) is not None


def _known(product: str) -> str | None:
    wanted = normalised(product)
    for facts in link_rates().gpus:
        if product.lower() in facts.pci or wanted in map(normalised, [facts.device, *facts.names]):
            return facts.device
    return None


def normalised(product: str) -> str:
    """Return a product name in lower case, without the vendor, words joined by one hyphen."""
    words = re.split(r"[^a-z0-9]+", product.lower())
    return "-".join(word for word in words if word and word not in _VENDOR_WORDS)
