"""Training states and activations in host memory: what a GPU's share of its host carries, and how fast."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.topology import MachineType
from planner.topology.routes import route

FloatArray = NDArray[np.float64]

OFFLOAD = ("none", "optimizer", "activations", "weights")
"""What lives in host memory: optimizer states; activations; weights, gradients and optimizer states."""
OPTIMIZER, ACTIVATIONS, WEIGHTS = 1, 2, 3


@dataclass(frozen=True)
class HostShare:
    """What each GPU has of its host while all GPUs of the node use it alike.

    Attributes
    ----------
    to_host, to_device
        Rates of copies between GPU and the memory of its NUMA domain, bytes/s.
    memory_bandwidth
        Rate at which the cores stream its part of host memory, bytes/s.
    memory
        Its part of host memory, bytes.
    both
        Rate of both directions together, bytes/s, where they share the capacity of a link.
    """

    to_host: float
    to_device: float
    memory_bandwidth: float
    memory: float
    both: float = math.inf

    def at_once(self, into: FloatArray, out: FloatArray) -> FloatArray:
        """Return the time of copies in both directions at once, s.

        On a link whose directions share a capacity :math:`C`, bytes of the faster direction, rate :math:`r`,
        take :math:`C / r` of it each and those of the slower the rest of two: alone each has its own rate.
        """
        apart = np.maximum(into * _inverse(self.to_device), out * _inverse(self.to_host))
        if self.both >= self.to_host + self.to_device:
            return apart
        quick = min(self.both / max(self.to_host, self.to_device), 1.0)
        weights = (quick, 2.0 - quick) if self.to_device >= self.to_host else (2.0 - quick, quick)
        return np.asarray(np.maximum(apart, (weights[0] * into + weights[1] * out) / self.both))


NO_HOST = HostShare(0.0, 0.0, 0.0, 0.0)
"""Nothing can be offloaded."""


def host_share(machines: Iterable[MachineType]) -> HostShare:
    """Return the share that every GPU of some machines has at least."""
    shares = [share for machine in machines for share in _shares(machine)]
    if not shares:
        return NO_HOST
    return HostShare(
        *(min(getattr(share, name) for share in shares) for name in HostShare.__dataclass_fields__)
    )


def _shares(machine: MachineType) -> list[HostShare]:
    """Return the share of every GPU: hops on the way are divided among the GPUs whose way they are on."""
    beside = Counter(gpu.numa for gpu in machine.gpus)
    ways = {}
    for gpu in machine.gpus:
        there, back = (route(machine.graph, *ends) for ends in ((gpu.name, gpu.numa), (gpu.numa, gpu.name)))
        if there is None or back is None:
            return [NO_HOST]
        ways[gpu.name] = (there, back)
    busy = Counter(hop for both in ways.values() for one in both for hop in one.hops)

    def rate(hops: tuple[tuple[str, str], ...]) -> float:
        return min(float(machine.graph.edges[hop]["edge"].rate) / busy[hop] for hop in hops)

    def both(hops: tuple[tuple[str, str], ...]) -> float:
        edges = ((machine.graph.edges[hop]["edge"], busy[hop]) for hop in hops)
        return min((edge.group_rate / count for edge, count in edges if edge.group_rate), default=math.inf)

    found = []
    for gpu in machine.gpus:
        there, back = ways[gpu.name]
        domain = machine.numa_named(gpu.numa)
        found.append(
            HostShare(
                rate(there.hops),
                rate(back.hops),
                domain.memory_bandwidth.value / beside[gpu.numa],
                domain.memory.value / beside[gpu.numa],
                both(there.hops),
            )
        )
    return found


@dataclass(frozen=True)
class Fetches:
    """Copies of one layer for one micro-batch, s: while it runs forward and while it runs backward.

    Activations leave during the forward pass and come back during the backward pass. Weights come for
    each pass, their gradients leave during the backward pass [1]_. Both directions work at once, and share
    the capacity of a link that has one for both.

    References
    ----------
    .. [1] S. Rajbhandari et al., "ZeRO-Infinity: Breaking the GPU Memory Wall for Extreme Scale Deep
       Learning", SC 2021, sections 5 and 6.
    """

    forward: FloatArray
    backward: FloatArray


def fetches(
    share: HostShare, offload: NDArray[np.int64], kept: FloatArray, weights: FloatArray, gradients: FloatArray
) -> Fetches:
    """Return the copies of a layer that keeps, weighs and learns so many bytes on a rank."""
    kept = np.where(offload == ACTIVATIONS, kept, 0.0)
    weights = np.where(offload == WEIGHTS, weights, 0.0)
    gradients = np.where(offload == WEIGHTS, gradients, 0.0)
    return Fetches(share.at_once(weights, kept), share.at_once(kept + weights, gradients))


def optimizer_seconds(share: HostShare, gradient: float, weight: float, touched: float) -> float:
    """Return the time per parameter of an optimizer step on the host, s.

    The gradient goes to the host, the cores stream gradient and states (Adam is bound by memory), the new
    weight comes back, one after the other [1]_.

    References
    ----------
    .. [1] J. Ren et al., "ZeRO-Offload: Democratizing Billion-Scale Model Training", USENIX ATC 2021,
       sections 4 and 5.
    """
    streamed = touched * _inverse(share.memory_bandwidth)
    return gradient * _inverse(share.to_host) + streamed + weight * _inverse(share.to_device)


def _inverse(rate: float) -> float:
    return 1.0 / rate if rate > 0.0 else float("inf")
