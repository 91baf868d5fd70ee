"""The placement problem of one job: everything that the judge and a solver need, and nothing of either."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from planner.costs import Calibration, DeviceRates, JobShape, device_rates
from planner.costs.kernels import Kernels, kernels
from planner.costs.measured_host import as_measured
from planner.costs.offload import host_share
from planner.costs.serving import ServingRates, serving_rates
from planner.errors import WorkloadError
from planner.placement.graphs import OperatorsProblem
from planner.placement.job_problem import JobProblem
from planner.placement.recommender_problem import RecommenderProblem
from planner.topology import MachineType, Topology
from planner.workload import BYTES_PER_ELEMENT, AnyJob, Model, ServingJob, TrainingJob, Transformer


@dataclass(frozen=True)
class TrainingProblem(JobProblem):
    """A training job on GPUs of one device model."""

    job: TrainingJob
    model: Transformer

    @cached_property
    def rates(self) -> DeviceRates:
        """Rates of the device at the job's data type."""
        return device_rates(self.device, self.job.precision, self.calibration)

    @property
    def machines(self) -> list[MachineType]:
        """The kinds of machine that the GPUs are in."""
        nodes = dict.fromkeys(gpu.split("/", 1)[0] for gpu in self.hierarchy.gpus)
        return list({id(m): m for m in (self.topology.node_of[node].machine for node in nodes)}.values())

    @cached_property
    def shape(self) -> JobShape:
        """What the formulas need of the job."""
        job = self.job
        return JobShape(
            self.model, job.sequence, job.global_batch, job.flash_attention,
            BYTES_PER_ELEMENT[job.precision], job.precision, job.stack,
            host=host_share(self.machines),
        )  # fmt: skip

    @cached_property
    def kernels(self) -> Kernels:
        """Kernel times of the device."""
        return kernels(self.device, self.calibration)


@dataclass(frozen=True)
class ServingProblem(JobProblem):
    """A serving job on GPUs of one device model."""

    job: ServingJob
    model: Transformer

    @cached_property
    def rates(self) -> ServingRates:
        """Rates of the device at the job's data type, and its kernels."""
        return serving_rates(self.device, self.job.precision, self.calibration, graphs=self.job.cuda_graphs)


Problem = TrainingProblem | ServingProblem | RecommenderProblem | OperatorsProblem
_PROBLEMS: dict[str, type[JobProblem]] = {
    "training": TrainingProblem,
    "serving": ServingProblem,
    "recommender": RecommenderProblem,
    "operators": OperatorsProblem,
}


@overload
def make_problem(
    job: TrainingJob, model: Model, topology: Topology, calibration: Calibration,
    gpus: list[str] | None = None,
) -> TrainingProblem: ...  # fmt: skip


@overload
def make_problem(
    job: ServingJob, model: Model, topology: Topology, calibration: Calibration,
    gpus: list[str] | None = None,
) -> ServingProblem: ...  # fmt: skip


@overload
def make_problem(
    job: AnyJob, model: Model, topology: Topology, calibration: Calibration, gpus: list[str] | None = None
) -> Problem: ...


def make_problem(
    job: AnyJob,
    model: Model,
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
    topology = as_measured(topology, calibration)
    chosen = list(topology.gpus) if gpus is None else gpus
    if not chosen:
        raise WorkloadError(f"job {job.name!r} needs a GPU and topology {topology.name!r} has none left")
    devices = {topology.device(gpu).name: topology.device(gpu) for gpu in chosen}
    if len(devices) > 1 and job.kind != "recommender":
        names = ", ".join(sorted(devices))
        raise WorkloadError(f"job {job.name!r}: GPUs of several models ({names}); choose those of one")
    position = {gpu: index for index, gpu in enumerate(topology.gpus)}
    indices = [position[gpu] for gpu in chosen]
    whole = indices == list(range(len(position)))
    hierarchy = topology.hierarchy if whole else topology.hierarchy.subset(indices)
    device = next(iter(devices.values()))
    made = _PROBLEMS[job.kind](job, model, topology, hierarchy, device, calibration)
    assert isinstance(made, Problem)
    return made


def connected_groups(topology: Topology) -> list[list[str]]:
    """Return the GPUs by device model and by connected part of the machine, largest group first."""
    outermost = topology.hierarchy.levels[-1].domain_of
    groups: dict[tuple[str, int], list[str]] = {}
    for index, gpu in enumerate(topology.gpus):
        groups.setdefault((topology.device(gpu).name, int(outermost[index])), []).append(gpu)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0]))


def groups_for(job: AnyJob, topology: Topology) -> list[list[str]]:
    """Return the groups of GPUs that a job may run on; a recommender may also mix device models."""
    groups = connected_groups(topology)
    if job.kind != "recommender" or len({topology.device(group[0]).name for group in groups}) < 2:
        return groups
    outermost = topology.hierarchy.levels[-1].domain_of
    joined: dict[int, list[str]] = {}
    for index, gpu in enumerate(topology.gpus):
        joined.setdefault(int(outermost[index]), []).append(gpu)
    mixed = [gpus for gpus in joined.values() if gpus not in groups]
    return [*groups, *sorted(mixed, key=lambda group: (-len(group), group[0]))]


def gpu_numbers(problem: Problem, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the numbers of GPUs in the problem's hierarchy.

    Raises
    ------
    KeyError
        If a name is not among them.
    """
    position = {gpu: index for index, gpu in enumerate(problem.hierarchy.gpus)}
    return np.asarray([position[name] for name in names], dtype=np.int64)
