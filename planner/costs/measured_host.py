"""Figures of hosts that a calibration measured, in place of those that a topology states."""

from __future__ import annotations

from dataclasses import replace

from planner.costs.coefficients import Calibration
from planner.costs.host import REFERENCE_VECTOR_BITS
from planner.topology import MachineType, Topology

CORE_SPEED = "core_speed"
"""Coefficient: throughput of one core of the calibrated host, relative to the reference core."""


def as_measured(topology: Topology, calibration: Calibration) -> Topology:
    """Return a topology whose hosts have the core speed that the calibration measured on them.

    That holds for machines with a device that the calibration is for; others stay as their document says.
    """
    if CORE_SPEED not in calibration.coefficients or not calibration.devices:
        return topology
    kinds = {id(node.machine): _machine(node.machine, calibration) for node in topology.nodes}
    nodes = tuple(replace(node, machine=kinds[id(node.machine)]) for node in topology.nodes)
    return replace(topology, nodes=nodes)


def _machine(machine: MachineType, calibration: Calibration) -> MachineType:
    if not any(gpu.device in calibration.devices for gpu in machine.gpus):
        return machine
    speed = calibration.coefficients[CORE_SPEED]
    figure = type(machine.numa[0].core_speed)(value=speed.value, provenance="measured", source=speed.source)
    changes = {"core_speed": figure, "vector_bits": REFERENCE_VECTOR_BITS}  # measured with its own vectors
    domains = tuple(domain.model_copy(update=changes) for domain in machine.numa)
    return replace(machine, numa=domains)
