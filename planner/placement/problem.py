"""The placement problem of one job: everything that the judge and a solver need, and nothing of either."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs import Calibration, DeviceRates, Fabric, JobShape, device_rates, fabric
from planner.costs.kernels import Kernels, kernels
from planner.costs.serving import ServingRates, serving_rates
from planner.errors import WorkloadError
from planner.topology import Device, Hierarchy, Topology
from planner.workload import BYTES_PER_ELEMENT, ServingJob, TrainingJob, Transformer


@dataclass(frozen=True)
class JobProblem:
    """A job on GPUs of one device model: what both kinds of job share.

    Attributes
    ----------
    hierarchy
        Locality of the GPUs that may be used.
    """

    job: TrainingJob | ServingJob
    model: Transformer
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


@dataclass(frozen=True)
class TrainingProblem(JobProblem):
    """A training job on GPUs of one device model."""

    job: TrainingJob

    @cached_property
    def rates(self) -> DeviceRates:
        """Rates of the device at the job's data type."""
        return device_rates(self.device, self.job.precision, self.calibration)

    @cached_property
    def shape(self) -> JobShape:
        """What the formulas need of the job."""
        job = self.job
        return JobShape(
            self.model, job.sequence, job.global_batch, job.flash_attention,
            BYTES_PER_ELEMENT[job.precision], job.precision, job.stack,
        )  # fmt: skip

    @cached_property
    def kernels(self) -> Kernels:
        """Kernel times of the device."""
        return kernels(self.device, self.calibration)


@dataclass(frozen=True)
class ServingProblem(JobProblem):
    """A serving job on GPUs of one device model."""

    job: ServingJob

    @cached_property
    def rates(self) -> ServingRates:
        """Rates of the device at the job's data type, and its kernels."""
        return serving_rates(self.device, self.job.precision, self.calibration, graphs=self.job.cuda_graphs)


Problem = TrainingProblem | ServingProblem


def make_problem(
    job: TrainingJob | ServingJob,
    model: Transformer,
    topology: Topology,
    calibration: Calibration,
    gpus: list[str] | None = None,
) -> Problem:
    """Return the problem of a job on some of the GPUs of a topology, all of them by default.

    Raises
    ------
    WorkloadError
        If there is no GPU, or the GPUs are of several device models.
    """
    chosen = list(topology.gpus) if gpus is None else gpus
    if not chosen:
        raise WorkloadError(f"job {job.name!r} needs a GPU and topology {topology.name!r} has none left")
    devices = {topology.device(gpu).name: topology.device(gpu) for gpu in chosen}
    if len(devices) > 1:
        names = ", ".join(sorted(devices))
        raise WorkloadError(f"job {job.name!r}: GPUs of several models ({names}); choose those of one")
    position = {gpu: index for index, gpu in enumerate(topology.gpus)}
    indices = [position[gpu] for gpu in chosen]
    whole = indices == list(range(len(position)))
    hierarchy = topology.hierarchy if whole else topology.hierarchy.subset(indices)
    device = next(iter(devices.values()))
    if isinstance(job, TrainingJob):
        return TrainingProblem(job, model, topology, hierarchy, device, calibration)
    return ServingProblem(job, model, topology, hierarchy, device, calibration)


def connected_groups(topology: Topology) -> list[list[str]]:
    """Return the GPUs by device model and by connected part of the machine, largest group first."""
    outermost = topology.hierarchy.levels[-1].domain_of
    groups: dict[tuple[str, int], list[str]] = {}
    for index, gpu in enumerate(topology.gpus):
        groups.setdefault((topology.device(gpu).name, int(outermost[index])), []).append(gpu)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0]))


def gpu_numbers(problem: Problem, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the numbers of GPUs in the problem's hierarchy.

    Raises
    ------
    KeyError
        If a name is not among them.
    """
    position = {gpu: index for index, gpu in enumerate(problem.hierarchy.gpus)}
    return np.asarray([position[name] for name in names], dtype=np.int64)
