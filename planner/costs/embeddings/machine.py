"""What a machine offers embedding tables: rates of every rank, and which paths ranks share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.costs.coefficients import Calibration
from planner.costs.embeddings.shards import FloatArray, IntArray
from planner.topology import Router
from planner.topology.machine import Edge

Hop = tuple[str, str]
Traffic = Mapping[Hop, float]
"""Bytes that cross each hop for each byte that a rank moves."""

MOST_HOSTS = 8
"""Other hosts whose routes stand for those of all: routes to the others differ inside the fabric only."""
OWN_SIDE = 0.5
"""Hops that carry no more of a rank's bytes than this share of its main hop belong to the receivers."""
EFFICIENCY = {
    "nvlink": "nvlink_efficiency",
    "xgmi": "nvlink_efficiency",
    "nvlink-c2c": "staged_efficiency",
    "socket": "staged_efficiency",
    "pcie": "pcie_efficiency",
    "infiniband": "network_efficiency",
    "ethernet": "network_efficiency",
}


@dataclass(frozen=True)
class SharedPath:
    """The resource that limits each rank when all ranks move data in one pattern.

    Attributes
    ----------
    group : ndarray, shape (ranks,)
        Number of the resource; ranks of one number share it.
    seconds : ndarray, shape (ranks,)
        Time that the resource is busy for each byte that the rank moves, s/byte.
    """

    group: IntArray
    seconds: FloatArray


@dataclass(frozen=True)
class EmbeddingMachine:
    """Ranks of a machine, host by host.

    Attributes
    ----------
    local_size
        Ranks on each host.
    gather : ndarray, shape (ranks,)
        Rate of random rows from GPU memory, bytes/s.
    exchange, inside, outside
        Paths to all other ranks, to those of the same host, and to the same place on the other hosts.
    fetch, store
        Paths from host memory and back, row by row.
    line : ndarray, shape (ranks,)
        Bytes that the smallest access to host memory moves.
    """

    local_size: int
    gather: FloatArray
    exchange: SharedPath
    inside: SharedPath
    outside: SharedPath
    fetch: SharedPath
    store: SharedPath
    line: FloatArray

    @property
    def num_ranks(self) -> int:
        """Number of ranks."""
        return len(self.gather)


def embedding_machine(
    router: Router, gpus: Sequence[str], domains: Sequence[str], local_size: int, calibration: Calibration
) -> EmbeddingMachine:
    """Return what the ranks of a cluster offer embedding tables.

    Parameters
    ----------
    gpus, domains
        GPU ``NODE/GPU`` of each rank, host by host, and the domain ``NODE/NUMA`` of its host memory.
    local_size
        Ranks on each host.

    Raises
    ------
    TopologyError
        If nothing joins two of the parts.
    """
    world = len(gpus)
    hosts = world // local_size
    number = calibration.number

    def to(rank: int, others: Sequence[int]) -> Traffic:
        """Return the traffic of a rank that spreads its bytes evenly over other ranks."""
        crossed: Counter[Hop] = Counter(
            hop for other in others for hop in router.hops(gpus[rank], gpus[other])
        )
        return {hop: count / len(others) for hop, count in crossed.items()}

    def peers(rank: int) -> list[int]:
        host = rank // local_size
        return [other for other in range(host * local_size, (host + 1) * local_size) if other != rank]

    def abroad(rank: int) -> list[int]:
        steps = sorted({max(1, round(k * hosts / MOST_HOSTS)) for k in range(MOST_HOSTS)} - {hosts})
        return [(rank + step * local_size) % world for step in steps if hosts > 1]

    def everyone(rank: int) -> Traffic:
        near, far = to(rank, peers(rank)), to(rank, abroad(rank))
        others = max(world - 1, 1)
        joint: dict[Hop, float] = defaultdict(float)
        for traffic, weight in ((near, (local_size - 1) / others), (far, (world - local_size) / others)):
            for hop, part in traffic.items():
                joint[hop] += part * weight
        return joint

    def wire(hop: Hop) -> float:
        edge = router.edge(hop)
        return edge.busy_rate * number(EFFICIENCY[edge.kind])

    ranks = range(world)
    devices = [router.topology.device(gpu) for gpu in gpus]
    gather = np.array([device.memory_bandwidth.value for device in devices]) * number("gather_efficiency")
    fetch, store = (_host_path(router, gpus, domains, calibration, back=back) for back in (False, True))
    return EmbeddingMachine(
        local_size,
        gather,
        _bottlenecks([everyone(rank) for rank in ranks], wire),
        _bottlenecks([to(rank, peers(rank)) for rank in ranks], wire),
        _bottlenecks([to(rank, abroad(rank)) for rank in ranks], wire),
        fetch,
        store,
        np.full(world, number("coherent_line")),
    )


def _host_path(
    router: Router, gpus: Sequence[str], domains: Sequence[str], calibration: Calibration, *, back: bool
) -> SharedPath:
    """Return the path between host memory and GPUs, the memory itself included."""
    memory: dict[Hop, float] = {}
    traffic: list[Traffic] = []
    for gpu, domain in zip(gpus, domains, strict=True):
        node, name = domain.split("/", 1)
        found = router.topology.node_of[node].machine.numa_named(name)
        memory[domain, domain] = found.memory_bandwidth.value * calibration.number("memory_efficiency")
        hops = router.hops(gpu, domain) if back else router.hops(domain, gpu)
        traffic.append({(domain, domain): 1.0} | dict.fromkeys(hops, 1.0))

    def rate(hop: Hop) -> float:
        if hop in memory:
            return memory[hop]
        edge = router.edge(hop)
        return row_rate(edge, calibration)

    return _bottlenecks(traffic, rate)


def row_rate(edge: Edge, calibration: Calibration) -> float:
    """Return the rate of random rows over a link to host memory, bytes/s.

    A share of what loads and stores reach where the link is coherent, else of what copies reach.
    """
    whole = edge.rate
    if edge.coherent:
        loads = calibration.number("coherent_access_efficiency")
        whole = edge.rate * loads if edge.in_place is None else edge.in_place
    return whole * calibration.number("host_gather_efficiency")


def _mainly(crossed: Traffic) -> list[Hop]:
    """Return the hops that a good part of a rank's bytes cross: those on its own side of the network."""
    most = max(crossed.values(), default=0.0)
    return [hop for hop, part in crossed.items() if part > OWN_SIDE * most]


def _bottlenecks(traffic: Sequence[Traffic], rate: Callable[[Hop], float]) -> SharedPath:
    """Return the hop that limits each rank when all move as many bytes, the first of equally busy ones.

    The time per byte is such that a group's members together keep their resource as busy as all ranks do
    that cross it.
    """
    busy: dict[Hop, float] = defaultdict(float)
    for crossed in traffic:
        for hop, part in crossed.items():
            busy[hop] += part / rate(hop)
    slowest = [max(_mainly(crossed), key=lambda hop: busy[hop], default=None) for crossed in traffic]
    members = Counter(slowest)
    numbers: dict[object, int] = {}
    group = [numbers.setdefault(hop if hop else rank, len(numbers)) for rank, hop in enumerate(slowest)]
    seconds = [busy[hop] / members[hop] if hop else 0.0 for hop in slowest]
    return SharedPath(np.array(group, dtype=np.int64), np.array(seconds))
