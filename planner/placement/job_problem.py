"""What the problems of all kinds of job share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from planner.costs import Calibration, Fabric, fabric
from planner.topology import Device, Hierarchy, Topology
from planner.workload import AnyJob, Model


@dataclass(frozen=True)
class JobProblem:
    """A job on GPUs of one device model: what all kinds of job share.

    Attributes
    ----------
    hierarchy
        Locality of the GPUs that may be used.
    """

    job: AnyJob
    model: Model
    topology: Topology
    hierarchy: Hierarchy
    device: Device
    calibration: Calibration

    @cached_property
    def fabric(self) -> Fabric:
        """Rates of the levels, efficiencies applied."""
        return fabric(self.hierarchy, self.calibration, self.device)

    @property
    def capacity(self) -> float:
        """Bytes of a device that a plan may fill, the stated margin kept free."""
        return self.device.memory.value * (1.0 - self.calibration.number("memory_margin"))

    @property
    def num_gpus(self) -> int:
        """Number of GPUs that may be used."""
        limit = self.job.budget.gpus
        return self.hierarchy.num_gpus if limit is None else min(limit, self.hierarchy.num_gpus)
