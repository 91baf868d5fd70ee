"""What the problems of all kinds of job share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.costs import Calibration, Fabric, fabric
from planner.errors import WorkloadError
from planner.topology import Device, Hierarchy, MachineType, Topology
from planner.workload import AnyJob, Model
from planner.workload.limits import Budget


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

    @cached_property
    def num_gpus(self) -> int:
        """Number of GPUs that may be used."""
        return gpus_within(self.job.budget, self.topology, self.hierarchy.gpus)


def gpus_within(budget: Budget, topology: Topology, gpus: Sequence[str]) -> int:
    """Return how many of some GPUs a budget allows.

    A GPU costs its share of the price of its machine; where shares differ, all count with the dearest, so
    that any choice is within the budget.

    Raises
    ------
    WorkloadError
        If there is a limit on the price and a machine states none.
    """
    most = len(gpus) if budget.gpus is None else min(budget.gpus, len(gpus))
    if budget.price is None or not gpus:
        return most
    dearest = price_of_a_gpu(topology, gpus, f"a budget of {budget.price:g} USD/h")
    return most if dearest == 0.0 else min(most, int(budget.price / dearest * (1 + 1e-12)))


def price_of_a_gpu(topology: Topology, gpus: Sequence[str], who: str) -> float:
    """Return the share of a GPU in the price of its machine, the largest among some GPUs, USD/h.

    Raises
    ------
    WorkloadError
        If a machine states no price; it says that ``who`` needs it.
    """
    nodes = {gpu.split("/", 1)[0] for gpu in gpus}
    machines = {topology.node_of[node].machine.name: topology.node_of[node].machine for node in nodes}
    dearest = 0.0
    for name, machine in sorted(machines.items()):
        if machine.price is None:
            raise WorkloadError(
                f"{who} needs the price of machine {name!r}; state it in the "
                "topology, for instance 'price: 30 USD/h'"
            )
        dearest = max(dearest, machine.price / len(machine.gpus))
    return dearest


def free_cores(problem: JobProblem, machine: MachineType, numa: str) -> int:
    """Return the cores of a NUMA domain that CPU stages may use: some stay with the engine of each GPU."""
    kept = problem.calibration.number("host_cores_per_gpu") * sum(gpu.numa == numa for gpu in machine.gpus)
    return max(0, machine.numa_named(numa).cores - int(kept))
