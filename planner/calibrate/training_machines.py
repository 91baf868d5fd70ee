"""The links of a measured training run: shipped machines of the device, nodes joined by their ports."""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from planner.costs import Fabric, fabric
from planner.costs.coefficients import Calibration
from planner.costs.strategy import Candidates, IntArray, Spans
from planner.topology import Device, Hierarchy, Level, load_topology

MACHINES = {
    "volta": "dgx2",
    "ampere": "dgx-a100",
    "hopper": "dgx-h100",
    "blackwell": "dgx-b200",
    "v100-sxm2-16": "dgx1-v100",
    "v100-sxm2-32": "dgx1-v100",
    "h200-sxm": "hgx-h200",
    "gb200": "gb200-nvl72",
    "b300-sxm": "dgx-b300",
    "gb300": "gb300-nvl72",
    "mi300x": "mi300x-8",
}
"""Shipped machine of a device, else of its architecture."""
FALLBACK = "dgx-h100"
NETWORK_LATENCY = 2e-6
"""Least latency between nodes where no fabric is cabled, s."""


def network_rate(text: str, per_node: int) -> float | None:
    """Return the rate per GPU, bytes/s, that a system's description states, such as ``800 Gb/s per node``."""
    found = re.search(r"([0-9.]+) Gb/s[^,;]*?per (node|GPU)", text)
    if found is None:
        return None
    rate = float(found[1]) * 1e9 / 8
    return rate / per_node if found[2] == "node" else rate


@cache
def links(device: str, architecture: str, per_node: int, rate: float | None) -> Hierarchy:
    """Return two domains of the device's machine joined by a network.

    Parameters
    ----------
    rate
        Network rate per GPU, bytes/s; that of the machine's ports when absent.
    """
    topology = load_topology(MACHINES.get(device, MACHINES.get(architecture, FALLBACK)))
    levels, machine = topology.hierarchy.levels, topology.nodes[0].machine
    ports = sum(nic.bandwidth.value for nic in machine.nics) / max(1, len(machine.gpus))
    inner, outer = levels[0], levels[-1]
    size = max(per_node, int(inner.capacities.max())) if inner.name == "nvlink" else per_node
    gpus = tuple(f"gpu{index}" for index in range(2 * size))
    domain = np.repeat(np.arange(2), size)
    near = Level(inner.name, domain, inner.rate, inner.latency, inner.in_switch_reduction, inner.provenance)
    far = Level("fabric", np.zeros(2 * size, dtype=np.int64), rate or ports or 12.5e9,
                outer.latency + NETWORK_LATENCY, False, "vendor")  # fmt: skip
    return Hierarchy(gpus, (near, far))


def machine_links(device: Device, per_node: int, system: str, calibration: Calibration) -> tuple[Fabric, int]:
    """Return the fabric of a run and the number of GPUs in its innermost domain."""
    found = links(device.name, device.architecture, per_node, network_rate(system, per_node))
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
