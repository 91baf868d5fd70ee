"""What the simulation of an ensemble is made of: stations, moves between them, classes of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from planner.simulate.batcher import BatcherPolicy

OUTSIDE = ""
"""Where requests come from and go to, as a station."""


class Work(NamedTuple):
    """What a batch takes on a GPU: time of all kernels, s, and how many there are."""

    seconds: float
    kernels: int = 1


BatchWork: TypeAlias = Callable[[int], Work]
"""Work of a batch by its size."""


Place: TypeAlias = tuple[str, ...]
"""Node, NUMA domain and compute of a station, as far as it has them: nearer ones share more."""


@dataclass(frozen=True)
class PoolSpec:
    """Workers of a CPU stage in one NUMA domain.

    Attributes
    ----------
    service
        Time of a request, s, by class.
    buffers
        Finished results that may wait for the stage after; a worker that finds no buffer waits with its own.
    """

    name: str
    stage: str
    place: Place
    workers: int
    service: Mapping[str, float]
    buffers: int


@dataclass(frozen=True)
class InstanceSpec:
    """One instance of a GPU stage: a batcher, and a stream on the compute of a GPU or of a slice.

    Attributes
    ----------
    gpu
        Name of the compute that it shares with other instances.
    priority
        Of its stream; lower is more urgent.
    """

    name: str
    stage: str
    place: Place
    gpu: str
    policy: BatcherPolicy
    work: BatchWork
    priority: int = 0


@dataclass(frozen=True)
class Move:
    """Bytes of a request that go from one station to another.

    Attributes
    ----------
    route
        Links, by their place in the network.
    latency
        Fixed part, s.
    cap
        Highest rate, bytes/s.
    engine
        Copy engines that do it; ``None`` for loads and stores in place and for hand-overs on the host.
    blocking
        Whether the worker that made the bytes waits until they are there, as for copies from pageable memory.
    """

    name: str
    route: tuple[int, ...]
    size: float
    latency: float
    cap: float
    engine: str | None = None
    blocking: bool = False


@dataclass(frozen=True)
class StepSpec:
    """A stage on the way of a class of requests.

    Attributes
    ----------
    inputs
        Steps whose results it needs, by number; none where requests enter.
    stations
        Where it can be done, each with its share of the requests.
    units
        Units of work of a request.
    """

    stage: str
    inputs: tuple[int, ...]
    stations: Mapping[str, float]
    units: int = 1


@dataclass(frozen=True)
class ClassSpec:
    """Requests of one kind.

    Attributes
    ----------
    rate
        Offered rate, requests/s.
    steps
        The stages, each after its inputs; the same for all classes.
    cv
        Coefficient of variation of the times between arrivals; 0: all equal.
    limit
        Limit of the 99th percentile of the latency, s.
    """

    name: str
    rate: float
    steps: tuple[StepSpec, ...]
    cv: float = 1.0
    limit: float | None = None


@dataclass(frozen=True)
class EnsembleLayout:
    """All of an ensemble.

    Attributes
    ----------
    moves
        By class, and by the stations that they go from and to; pairs without an entry need none.
    engines
        Copies at once by copy engines that share a queue.
    """

    classes: tuple[ClassSpec, ...]
    pools: tuple[PoolSpec, ...]
    instances: tuple[InstanceSpec, ...]
    moves: Mapping[tuple[str, str, str], tuple[Move, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    engines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
