"""The links of a measured training run: shipped machines of the device, nodes joined by their ports."""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from planner.costs import Fabric, fabric
from planner.costs.coefficients import Calibration
from planner.costs.strategy import Candidates, IntArray, Spans
from planner.topology import Device, Hierarchy, Level, load_topology
from planner.topology.resolve import shipped_devices


def network_rate(text: str, per_node: int) -> float | None:
    """Return the rate per GPU, bytes/s, that a system's description states, such as ``800 Gb/s per node``."""
    found = re.search(r"([0-9.]+) Gb/s[^,;]*?per (node|GPU)", text)
    if found is None:
        return None
    rate = float(found[1]) * 1e9 / 8
    return rate / per_node if found[2] == "node" else rate


@cache
def links(machine: str, latency: float, per_node: int, rate: float | None) -> Hierarchy:
    """Return two domains of a shipped machine joined by a network.

    Parameters
    ----------
    latency
        Of the network beside that of the machine's outermost level, s.
    rate
        Network rate per GPU, bytes/s; that of the machine's ports when absent.
    """
    topology = load_topology(machine)
    levels, part = topology.hierarchy.levels, topology.nodes[0].machine
    ports = sum(nic.bandwidth.value for nic in part.nics) / max(1, len(part.gpus))
    inner, outer = levels[0], levels[-1]
    size = max(per_node, int(inner.capacities.max())) if inner.name == "nvlink" else per_node
    gpus = tuple(f"gpu{index}" for index in range(2 * size))
    domain = np.repeat(np.arange(2), size)
    near = Level(inner.name, domain, inner.rate, inner.latency, inner.in_switch_reduction, inner.provenance)
    far = Level("fabric", np.zeros(2 * size, dtype=np.int64), rate or ports,
                outer.latency + latency, False, "vendor")  # fmt: skip
    return Hierarchy(gpus, (near, far))


def machine_links(device: Device, per_node: int, system: str, calibration: Calibration) -> tuple[Fabric, int]:
    """Return the fabric of a run and the number of GPUs in its innermost domain."""
    usual = shipped_devices().usual_machine(device)
    found = links(usual.machine, usual.network_latency.value, per_node, network_rate(system, per_node))
    return fabric(found, calibration), int(found.levels[0].capacities.max())


def nested_spans(many: Candidates, inner: int) -> Spans:
    """Return the spans of ranks in Megatron's order, tensor innermost, then context, data, pipeline.

    Parameters
    ----------
    inner
        GPUs of the innermost domain.
    """

    def share(size: IntArray, stride: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        near = np.clip(inner // np.maximum(stride, 1), 1, size)
        return np.stack([near, size], axis=1).astype(float)

    data = many.dp * many.cp
    plane = data * many.tp
    one = np.ones_like(many.tp)
    return Spans(
        share(many.tp, one), share(many.cp, many.tp), share(data, many.tp), share(many.ep, one),
        share(np.maximum(1, plane // many.ep), many.ep), np.where(many.ranks <= inner, 0, 1),
    )  # fmt: skip
