"""Documents of kind ``topology/1`` and ``devices/1``: machines, nodes, fabric, accelerators."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from planner.schema import (
    BandwidthFigure,
    BytesFigure,
    Document,
    Figure,
    FlopsFigure,
    LatencyFigure,
    Name,
    PowerFigure,
    PriceFigure,
    RatioFigure,
    Record,
    expand,
)

DType = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "fp4", "int8"]
LinkKind = Literal["nvlink", "nvlink-c2c", "pcie", "xgmi", "socket", "ethernet", "infiniband"]
SwitchKind = Literal["nvswitch", "pcie", "leaf", "spine", "core"]
Addressing = Literal["ats", "hmm", "none"]


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _expandable(pattern: str) -> str:
    expand(pattern)
    return pattern


def _without_slash(pattern: str) -> str:
    if "/" in pattern:
        raise ValueError(f"{pattern!r} holds '/', which separates a node from its part")
    return pattern


F = TypeVar("F", bound=Figure)


def _positive(figure: F) -> F:
    if figure.value <= 0:
        raise ValueError("must be above zero")
    return figure


Rate = Annotated[BandwidthFigure, AfterValidator(_positive)]
Size = Annotated[BytesFigure, AfterValidator(_positive)]
Compute = Annotated[FlopsFigure, AfterValidator(_positive)]
Factor = Annotated[RatioFigure, AfterValidator(_positive)]
Ranged = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_expandable)]
"""A name, or a range that stands for several: ``gpu[0-7]``."""
Part = Annotated[Ranged, AfterValidator(_without_slash)]
"""The name of a node or of a part of a machine, or a range of them."""
Names = Annotated[
    list[Ranged],
    BeforeValidator(_one_or_many, json_schema_input_type=str | list[Ranged]),
    Field(min_length=1),
]


class MigProfile(Record):
    """One partition profile of a GPU that supports Multi-Instance GPU.

    Attributes
    ----------
    compute, memory
        Share of the streaming multiprocessors and of memory (capacity and bandwidth), 0 to 1.
    instances
        How many of this profile fit on one GPU.
    """

    name: str
    compute: float = Field(gt=0, le=1)
    memory: float = Field(gt=0, le=1)
    instances: int = Field(ge=1)
    starts: list[int] = Field(default_factory=list)


class Device(Record):
    """An accelerator model: what the vendor states and what was measured on it.

    Attributes
    ----------
    peak
        Dense peak rate by data type, FLOP/s.
    matmul
        Best measured matrix-multiply rate by data type, FLOP/s, where somebody published one.
    memory, memory_bandwidth
        Capacity, bytes, and rate, bytes/s, of the device memory.
    copy_engines
        Copies between host and device that can run at once.
    aliases
        Other names under which measurements and tools know the model; case and ``_``, ``-``, blanks are one.
    multiprocessors
        Streaming multiprocessors (compute units) that the part has enabled.
    """

    name: Name
    aliases: list[str] = Field(default_factory=list)
    vendor: str = "nvidia"
    architecture: str
    peak: dict[DType, Compute]
    matmul: dict[DType, Compute] = Field(default_factory=dict)
    memory: Size
    memory_bandwidth: Rate
    multiprocessors: Factor | None = None
    power: PowerFigure | None = None
    copy_engines: int = Field(default=2, ge=1)
    mig: list[MigProfile] = Field(default_factory=list)
    price: PriceFigure | None = None
    note: str | None = None


class UsualMachine(Record):
    """The shipped machine that stands for one of which only the GPUs are named.

    Attributes
    ----------
    device, architecture
        Devices that it stands for: one model, else all of an architecture, else all others.
    network_latency
        Least latency between such nodes, s, where nobody says how they are cabled.
    """

    device: Name | None = None
    architecture: str | None = None
    machine: Name
    network_latency: LatencyFigure
    source: str


class DeviceCatalogue(Document):
    """Document ``devices/1``: accelerator models by name."""

    kind: ClassVar[str] = "devices"
    version: ClassVar[int] = 1
    sources: dict[str, str] = Field(default_factory=dict)
    usual_machines: list[UsualMachine] = Field(default_factory=list)
    devices: list[Device]

    def usual_machine(self, device: Device) -> UsualMachine:
        """Return the machine that stands for those of a device: by model, by architecture, else the last.

        Raises
        ------
        LookupError
            If the catalogue lists none.
        """
        names = (device.name, device.architecture)
        for entry in self.usual_machines:
            if entry.device == names[0]:
                return entry
        for entry in self.usual_machines:
            if entry.device is None and entry.architecture in (names[1], None):
                return entry
        raise LookupError(f"no usual machine for {device.name!r}")


class NumaDomain(Record):
    """One NUMA domain: cores that share a memory controller.

    Attributes
    ----------
    cores
        Number of physical cores.
    core_list
        Operating-system numbers of the cores, such as ``0-7,16-23``; counted up when absent.
    core_speed
        Scalar throughput of one core relative to the reference core (1.0: one Xeon Platinum 8480C core).
    vector_bits
        Width of the vector unit, bits; 0 when there is none.
    memory, memory_bandwidth
        Capacity, bytes, and streaming rate of the whole domain, bytes/s.
    """

    name: Part
    arch: str
    cpu: str | None = None
    cores: int = Field(ge=1)
    core_list: str | None = None
    core_speed: Factor
    vector_bits: int = Field(default=0, ge=0)
    memory: Size
    memory_bandwidth: Rate

    @model_validator(mode="after")
    def _one_number_per_core(self) -> NumaDomain:
        if self.core_list is not None and len(self.core_numbers) != self.cores:
            raise ValueError(f"core_list names {len(self.core_numbers)} cores but 'cores' says {self.cores}")
        return self

    @property
    def core_numbers(self) -> tuple[int, ...]:
        """Operating-system numbers of the cores, empty where the document lists none."""
        return (
            () if self.core_list is None else tuple(int(number) for number in expand(f"[{self.core_list}]"))
        )


class Gpu(Record):
    """One GPU of a machine, of a device model, attached next to a NUMA domain."""

    name: Part
    device: Name
    numa: Part
    addressing: Addressing = "none"


class Switch(Record):
    """A switch inside a machine or of the fabric.

    Attributes
    ----------
    in_switch_reduction
        Whether the switch reduces in flight (NVLink SHARP, InfiniBand SHARP).
    """

    name: Part
    kind: SwitchKind
    in_switch_reduction: bool = False


class Nic(Record):
    """A network port of a machine, next to a NUMA domain.

    Attributes
    ----------
    bandwidth
        Payload rate of the port, bytes/s, in each direction.
    rail
        Number of the rail that the port is cabled to, in a rail-optimised fabric.
    """

    name: Part
    numa: Part
    bandwidth: Rate
    rail: int | None = Field(default=None, ge=0)


class Link(Record):
    """A physical channel between two parts, both directions.

    Attributes
    ----------
    between
        The two ends. Ranges expand: two ranges of one length pair up, a range and a single name
        give one link each.
    bandwidth
        Payload rate from the first end to the second, bytes/s.
    reverse_bandwidth
        Payload rate of the other direction, bytes/s; equal when absent.
    duplex
        Capacity of both directions together, bytes/s; their sum when absent.
    in_place, reverse_in_place
        Payload rate of loads and stores from the first end to the second and back, bytes/s, where it was
        measured and differs from that of copies.
    latency
        Time of an empty message, s.
    coherent
        Whether loads and stores cross the link with cache coherence.
    """

    between: tuple[Ranged, Ranged]
    kind: LinkKind
    bandwidth: Rate
    reverse_bandwidth: Rate | None = None
    duplex: Rate | None = None
    in_place: Rate | None = None
    reverse_in_place: Rate | None = None
    latency: LatencyFigure
    coherent: bool = False


class Mesh(Record):
    """A full mesh of equal links among the named parts (a dancehall of GPUs, of sockets)."""

    among: Names
    kind: LinkKind
    bandwidth: Rate
    latency: LatencyFigure
    coherent: bool = False


class Machine(Record):
    """A template: the parts of one kind of node and the links between them.

    ``preset`` takes all parts from a shipped machine of that name.
    """

    name: Name
    preset: Name | None = None
    description: str | None = None
    numa: list[NumaDomain] = Field(default_factory=list)
    gpus: list[Gpu] = Field(default_factory=list)
    switches: list[Switch] = Field(default_factory=list)
    nics: list[Nic] = Field(default_factory=list)
    links: list[Link] = Field(default_factory=list)
    meshes: list[Mesh] = Field(default_factory=list)
    price: PriceFigure | None = None

    @model_validator(mode="after")
    def _parts_or_preset(self) -> Machine:
        if self.preset is None and not self.numa:
            raise ValueError("a machine needs at least one NUMA domain under 'numa', or a 'preset'")
        own = (self.numa, self.gpus, self.switches, self.nics, self.links, self.meshes)
        if self.preset is not None and any(own):
            raise ValueError("a machine has either a 'preset' or its own parts, not both")
        return self


class NodeGroup(Record):
    """Nodes of one machine kind: ``node-[0-7]``."""

    name: Part
    machine: Name
    labels: dict[str, str] = Field(default_factory=dict)


class FabricLayout(Record):
    """A regular fabric given by its shape rather than link by link.

    Attributes
    ----------
    shape
        ``single-switch``: every NIC on one switch; ``rail-optimised``: NIC *i* of every node of a pod
        on leaf *i*; ``fat-tree``: all NICs of a node on one leaf.
    nodes_per_leaf
        Nodes of one pod (rail-optimised) or of one leaf (fat-tree).
    oversubscription
        Capacity of a leaf towards its nodes over that towards the spines; 1 is non-blocking.
    hop_latency
        Latency of one switch crossing with its cable, s.
    """

    shape: Literal["single-switch", "rail-optimised", "fat-tree"]
    kind: Literal["infiniband", "ethernet"] = "infiniband"
    nodes_per_leaf: int = Field(default=32, ge=1)
    oversubscription: Factor | None = None
    hop_latency: LatencyFigure
    in_network_reduction: bool = False


class Fabric(Record):
    """What joins the nodes: a regular layout, or switches and links one by one (several roots allowed).

    Ends of explicit links are switches, or ``NODE/PART`` for a part of a node.
    """

    layout: FabricLayout | None = None
    switches: list[Switch] = Field(default_factory=list)
    links: list[Link] = Field(default_factory=list)


class TopologyDocument(Document):
    """Document ``topology/1``: a machine or a cluster.

    A document without ``nodes`` describes one node of its only machine.
    """

    kind: ClassVar[str] = "topology"
    version: ClassVar[int] = 1
    name: Name
    description: str | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    devices: list[Device] = Field(default_factory=list)
    machines: list[Machine] = Field(min_length=1)
    nodes: list[NodeGroup] = Field(default_factory=list)
    fabric: Fabric | None = None
