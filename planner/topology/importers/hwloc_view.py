"""What an hwloc export tells beyond a plain host: PCI functions, distances, memory attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.topology.importers.views import HostView


@dataclass(frozen=True)
class PciFunction:
    """One PCI function.

    Attributes
    ----------
    class_code, vendor, device
        Class with subclass, and identity; 0 where the export does not tell.
    link
        Payload of its PCI Express link as hwloc works it out, bytes/s; None where unknown.
    nodes
        NUMA nodes next to it, those of GPU memory included.
    devices
        Names that the operating system and the GPU libraries have for it.
    """

    address: str
    class_code: int = 0
    vendor: int = 0
    device: int = 0
    link: float | None = None
    nodes: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distances:
    """A matrix between objects.

    Attributes
    ----------
    type
        Type of the objects; None where they are of several.
    objects
        Operating-system numbers of NUMA nodes and processors, else PCI addresses or ``TYPE:NUMBER``.
    values
        Row by row, in the unit of the matrix: a ratio, or MB/s.
    """

    name: str
    type: str | None
    objects: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MemoryValue:
    """One value of a memory attribute; ``target`` is a NUMA node, or None for another object."""

    target: int | None
    value: int
    initiator: str | None


@dataclass(frozen=True)
class MemoryAttribute:
    """An attribute of memory such as ``Bandwidth`` (MB/s) or ``Latency`` (ns)."""

    name: str
    values: tuple[MemoryValue, ...]


@dataclass(frozen=True)
class HwlocView(HostView):
    """A host as hwloc exported it.

    Attributes
    ----------
    version
        Version of the export's form; ``1`` where it does not say.
    functions
        PCI functions by address, bridges left out.
    displays
        VGA chips on which nothing is computed.
    nvswitches
        Addresses of NVSwitches.
    subtypes
        What hwloc calls a NUMA node, such as ``GPUMemory``, by its number.
    peer_rates
        Rate between two GPUs, or from a GPU to all NVSwitches (``("GPU0", "NVSwitch")``), bytes/s.
    """

    version: str = "1"
    functions: Mapping[str, PciFunction] = field(default_factory=dict)
    displays: tuple[str, ...] = ()
    nvswitches: tuple[str, ...] = ()
    subtypes: Mapping[int, str] = field(default_factory=dict)
    distances: tuple[Distances, ...] = ()
    memory_attributes: tuple[MemoryAttribute, ...] = ()
    peer_rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
