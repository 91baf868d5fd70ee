"""Which GPUs, cores and network ports of which node a set of ranks has: the plan, read node by node."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.deploy.cores import domain_cores, parse_cores
from planner.deploy.errors import DeployError
from planner.deploy.names import is_host_name
from planner.placement.plan import CpuPlacement, Replica
from planner.placement.records import Binding
from planner.schema import expand
from planner.topology.cluster import Node, Topology
from planner.topology.machine import MachineType

_PORT = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_RDMA = re.compile(
    r"(mlx[0-9]|bnxt_re|irdma|hfi1|qedr|rocep|roceo|ibp|ibs|rdmap|efa|erdma|hns|rxe|siw|mana).*"
)
_SOCKET = re.compile(r"(eth|en[opsx]|ib[0-9]|bond|hsn|lan|team|br-).*")


@dataclass(frozen=True)
class Place:
    """Where one rank runs on its node.

    Attributes
    ----------
    gpu, numa, nic
        Parts of the machine by name.
    cores
        Cores of the process; empty where neither the plan nor the machine says.
    stated
        Whether the plan states the binding, rather than the machine implying it.
    """

    gpu: str
    numa: str
    cores: frozenset[int]
    nic: str | None
    stated: bool


@dataclass(frozen=True)
class Share:
    """What a set of ranks has of one node: places in rank order, and the ranks themselves."""

    node: Node
    ranks: tuple[int, ...]
    places: tuple[Place, ...]

    @property
    def machine(self) -> MachineType:
        """Type of the node."""
        return self.node.machine

    @property
    def num_gpus(self) -> int:
        """Number of GPUs, one a rank."""
        return len(self.places)

    @cached_property
    def host_order(self) -> tuple[int, ...]:
        """Positions of the GPUs on the machine, in rank order."""
        position = {gpu.name: index for index, gpu in enumerate(self.machine.gpus)}
        return tuple(position[place.gpu] for place in self.places)

    @property
    def container_order(self) -> tuple[int, ...]:
        """Positions of the GPUs in a container that sees only these, in rank order."""
        shown = sorted(self.host_order)
        return tuple(shown.index(number) for number in self.host_order)

    @property
    def takes_whole_node(self) -> bool:
        """Whether no GPU of the node is left to others."""
        return self.num_gpus == len(self.machine.gpus)

    @property
    def cores(self) -> frozenset[int]:
        """Cores of all the ranks that state theirs."""
        return frozenset().union(*(place.cores for place in self.places if place.stated))

    @property
    def numas(self) -> tuple[str, ...]:
        """NUMA domains in the order of the machine."""
        used = {place.numa for place in self.places}
        return tuple(domain.name for domain in self.machine.numa if domain.name in used)

    @property
    def arch(self) -> str:
        """Architecture of the host."""
        return self.machine.numa_named(self.places[0].numa).arch

    def nics(self, names: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Return the network ports that the plan binds, by their names in the operating system."""
        used = {place.nic for place in self.places if place.nic is not None}
        ordered = [nic.name for nic in self.machine.nics if nic.name in used]
        return tuple((names or {}).get(name, name) for name in ordered)


def host_name(node: Node) -> str:
    """Return the value of ``kubernetes.io/hostname`` of a node.

    Raises
    ------
    DeployError
        If the name of the node cannot be that of a host.
    """
    name = node.labels.get("kubernetes.io/hostname", node.name)
    if not is_host_name(name):
        raise DeployError(
            f"node {node.name!r} cannot be a host name; rename it, or give its label kubernetes.io/hostname"
        )
    return name


def rdma_ports(names: Sequence[str]) -> list[str]:
    """Return those of some network ports that are named like RDMA devices."""
    return [name for name in names if _PORT.fullmatch(name) and _RDMA.fullmatch(name)]


def socket_ports(names: Sequence[str]) -> list[str]:
    """Return those of some network ports that are named like network interfaces."""
    return [
        name
        for name in names
        if _PORT.fullmatch(name) and _SOCKET.fullmatch(name) and not _RDMA.fullmatch(name)
    ]


def nccl_environment(names: Sequence[str]) -> dict[str, str]:
    """Return the variables that hold NCCL to some network ports.

    ``=`` asks for exact names, as ``mlx5_1`` alone would also match ``mlx5_10`` (NCCL User Guide, environment
    variables). Where ports are named like neither RDMA devices nor interfaces the choice is left to NCCL,
    which would use none at all if it were held to names that do not exist; ``PLANNER_NICS`` says what was
    planned.
    """
    if found := rdma_ports(names):
        return {"NCCL_IB_HCA": "=" + ",".join(found)}
    if found := socket_ports(names):
        return {"NCCL_SOCKET_IFNAME": "=" + ",".join(found)}
    planned = [name for name in names if _PORT.fullmatch(name)]
    return {"PLANNER_NICS": ",".join(planned)} if planned else {}


class Reader:
    """Reads names of GPUs, NUMA domains and bindings of one job against the topology."""

    def __init__(self, job: str, bindings: Sequence[Binding], topology: Topology) -> None:
        self.job, self.topology = job, topology
        self._bindings: dict[str, list[Binding]] = {}
        for binding in bindings:
            for name in _expand(job, binding.gpu):
                self._bindings.setdefault(name, []).append(binding)
        self._found: dict[tuple[str, ...], list[Share]] = {}
        self._places: dict[tuple[str, str], Place] = {}

    def node(self, name: str) -> Node:
        """Return a node by name.

        Raises
        ------
        DeployError
            If the topology has no such node.
        """
        if name not in self.topology.node_of:
            raise DeployError(f"job {self.job!r}: the topology has no node {name!r}")
        return self.topology.node_of[name]

    def shares(self, gpus: Sequence[str]) -> list[Share]:
        """Return what GPUs ``NODE/GPU``, in rank order, take of each node; nodes in order of first use.

        Raises
        ------
        DeployError
            If the topology lacks a node, a GPU, or a NUMA domain that the plan names.
        """
        key = tuple(gpus)
        if key not in self._found:
            places: dict[str, list[tuple[int, Place]]] = {}
            for rank, full in enumerate(gpus):
                name, _, gpu = full.partition("/")
                places.setdefault(name, []).append((rank, self._place(self.node(name), gpu)))
            self._found[key] = [
                Share(self.node(name), tuple(rank for rank, _ in found), tuple(place for _, place in found))
                for name, found in places.items()
            ]
        return list(self._found[key])

    def stage_place(self, replica: Replica, stage: CpuPlacement) -> tuple[Node, str]:
        """Return the node and the NUMA domain of a CPU stage; ``NODE/NUMA`` overrides the replica's node."""
        prefix, _, rest = stage.numa.partition("/")
        if rest and prefix in self.topology.node_of:
            node, numa = self.topology.node_of[prefix], rest
        else:
            node, numa = self.node(replica.node), stage.numa
        if numa not in {domain.name for domain in node.machine.numa}:
            raise DeployError(f"job {self.job!r}: node {node.name!r} has no NUMA domain {numa!r}")
        return node, numa

    def _place(self, node: Node, gpu: str) -> Place:
        """Return the place of a rank; ranks of like nodes share what one binding says of them all."""
        for binding in self._bindings.get(f"{node.name}/{gpu}", []):
            return self._bound(node, gpu, binding)
        key = (node.machine.name, gpu)
        if key not in self._places:
            fitting = sorted(self._bindings.get(gpu, []), key=lambda one: not _fits(node.machine, gpu, one))
            self._places[key] = self._bound(node, gpu, fitting[0] if fitting else None)
        return self._places[key]

    def _bound(self, node: Node, gpu: str, binding: Binding | None) -> Place:
        machine = node.machine
        part = next((part for part in machine.gpus if part.name == gpu), None)
        if part is None:
            raise DeployError(f"job {self.job!r}: node {node.name!r} has no GPU {gpu!r}")
        if binding is None:
            return Place(gpu, part.numa, _even_cores(machine, gpu, part.numa), None, stated=False)
        numa, nic = binding.numa.removeprefix(f"{node.name}/"), binding.nic
        if numa not in {domain.name for domain in machine.numa}:
            raise DeployError(f"job {self.job!r}: node {node.name!r} has no NUMA domain {numa!r}")
        cores = parse_cores(binding.cores) or _even_cores(machine, gpu, numa)
        nic = None if nic is None else nic.removeprefix(f"{node.name}/")
        return Place(gpu, numa, cores, nic, stated=bool(binding.cores.strip()))


def _fits(machine: MachineType, gpu: str, binding: Binding) -> bool:
    """Return whether a binding by bare GPU name can be one of this machine type, rather than of another."""
    cores = domain_cores(machine).get(binding.numa, frozenset())
    beside = any(part.name == gpu and part.numa == binding.numa for part in machine.gpus)
    return beside and parse_cores(binding.cores) <= cores


def _expand(job: str, pattern: str) -> list[str]:
    try:
        return expand(pattern)
    except ValueError as error:
        raise DeployError(f"job {job!r}: {error}") from error


def _even_cores(machine: MachineType, gpu: str, numa: str) -> frozenset[int]:
    """Return an equal part of a NUMA domain's cores for each GPU that is next to it."""
    neighbours = [part.name for part in machine.gpus if part.numa == numa]
    cores = sorted(domain_cores(machine)[numa])
    if gpu not in neighbours or not cores:
        return frozenset(cores)
    each, index = max(1, len(cores) // len(neighbours)), neighbours.index(gpu)
    return frozenset(cores[index * each : (index + 1) * each])
