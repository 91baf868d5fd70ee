"""All-reduces of an engine on the usual machine of a device: its own kernels inside a domain, NCCL across."""

from __future__ import annotations

import numpy as np

from planner.costs.coefficients import Calibration
from planner.costs.domains import attachment, payload_rate
from planner.costs.engine import AllReduce, FloatArray, engine_number
from planner.costs.engine_collectives import engine_surface, surface_all_reduce
from planner.costs.kept import kept
from planner.topology import Device

MEASURED = 8.0
"""Largest group for which engines' kernels were measured; larger ones inside a domain take as long."""


@kept
def usual_links(device: Device, engine: str, calibration: Calibration) -> AllReduce:
    """Return the all-reduce of an engine on machines in which a device usually comes.

    Inside a domain (``engine_domain`` GPUs) the engine's measured kernels; a group of several domains also
    moves :math:`2 (d - 1) / d` of the message over the network, in ``d`` steps, for its ``d`` domains.
    """
    joined = attachment(device, calibration)
    domain = engine_number(calibration, "domain", device.name)
    rate = engine_number(calibration, "network_rate", device.name)
    latency = engine_number(calibration, "network_step", device.name)

    if calibration.engines:
        surface = engine_surface(device, calibration, engine)
        link = payload_rate(joined.rate, device, surface.link, calibration)

    def seconds(size: FloatArray, group: FloatArray) -> FloatArray:
        near = np.minimum(group, domain)
        if calibration.engines:
            inside = surface_all_reduce(surface, size, np.minimum(near, MEASURED), link)
        else:
            start = engine_number(calibration, "message_start", device.name)
            inside = np.where(near > 1, start + 2.0 * (near - 1.0) / near * size / joined.rate, 0.0)
        if np.all(group <= domain):
            return inside
        domains = np.ceil(group / domain)
        network = np.where(domains > 1, 2.0 * (domains - 1.0) * (latency + size / domains / rate / near), 0.0)
        return np.asarray(inside + network)

    return seconds
