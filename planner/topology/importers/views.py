"""What one dump says about a machine or a fabric, before anything is concluded from it.

Every field that a format does not state stays ``None``: unknown is recorded as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Remark:
    """A repair or a doubt, with the line that it is about (0: the whole file)."""

    line: int
    text: str


@dataclass(frozen=True)
class GpuView:
    """One GPU.

    Attributes
    ----------
    bus_id
        PCI address ``dddd:bb:dd.f`` in lower case.
    numa
        Number of the host NUMA node next to it.
    addressing
        ``ats``, ``hmm`` or ``none``, as the driver reports.
    c2c
        Whether a coherent chip-to-chip link to the host is enabled.
    clique
        NVLink domain and clique, ``CLUSTER.CLIQUE``, where the GPU is in one.
    """

    name: str
    bus_id: str | None = None
    product: str | None = None
    memory: float | None = None
    numa: int | None = None
    memory_numa: int | None = None
    addressing: str | None = None
    c2c: bool | None = None
    clique: str | None = None
    mig: str | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None


@dataclass(frozen=True)
class NicView:
    """One network adapter; ``speeds`` are the rates of its ports, bytes/s."""

    name: str
    bus_id: str | None = None
    numa: int | None = None
    ports: int | None = None
    speeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class NumaView:
    """One NUMA node.

    Attributes
    ----------
    cpus
        Operating-system numbers of its processors; empty for a node without processors.
    device_memory
        Whether the node is the memory of a GPU rather than of the host.
    """

    number: int
    cpus: tuple[int, ...] | None = None
    memory: float | None = None
    distances: Mapping[int, float] = field(default_factory=dict)
    device_memory: bool = False
    package: int | None = None


@dataclass(frozen=True)
class HostView:
    """One host.

    Attributes
    ----------
    gpu_links
        Number of direct GPU-to-GPU links by pair of GPU names, in name order, and their kind.
    switch_links
        Number of links from a GPU to switches.
    path_classes
        Class of the path (``NV4``, ``PIX``, ``PXB``, ``PHB``, ``NODE``, ``SYS``, ...) by pair of names.
    bridges
        PCI bridges above a device, outermost first, by its bus id.
    unknown_functions
        Bus ids of PCI functions whose role the dump does not tell.
    """

    format: str
    gpus: tuple[GpuView, ...] = ()
    nics: tuple[NicView, ...] = ()
    numa: tuple[NumaView, ...] = ()
    gpu_links: Mapping[tuple[str, str], int] = field(default_factory=dict)
    link_kind: str | None = None
    link_rate: float | None = None
    switch_links: Mapping[str, int] = field(default_factory=dict)
    path_classes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    bridges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown_functions: tuple[str, ...] = ()
    arch: str | None = None
    vendor: str | None = None
    cpu: str | None = None
    packages: int | None = None
    cores: int | None = None
    processors: int | None = None
    driver: str | None = None
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class FabricView:
    """Switches, nodes and blocks of a fabric.

    Attributes
    ----------
    parents
        Switch above each switch or node; a switch without one is a root.
    links
        Ends of every cable once, with the rate in bytes/s where stated.
    blocks
        Nodes by block or NVLink domain.
    """

    format: str
    switches: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    parents: Mapping[str, str] = field(default_factory=dict)
    links: tuple[tuple[str, str, float | None], ...] = ()
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    block_sizes: tuple[int, ...] = ()
    remarks: tuple[Remark, ...] = ()
