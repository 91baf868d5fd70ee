"""The placement problem of one job: everything that the judge and a solver need, and nothing of either."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from planner.costs import Calibration, DeviceRates, JobShape, device_rates
from planner.costs.kernels import Kernels, kernels
from planner.costs.measured_host import as_measured
from planner.costs.offload import host_share
from planner.costs.serving_records import ServingRates, serving_rates
from planner.errors import WorkloadError
from planner.placement.ensemble_problem import EnsembleProblem
from planner.placement.graphs import OperatorsProblem
from planner.placement.job_problem import JobProblem, price_of_a_gpu
from planner.placement.plan import Strategy
from planner.placement.recommender_problem import RecommenderProblem
from planner.topology import MachineType, Topology
from planner.workload import BYTES_PER_ELEMENT, AnyJob, Model, Precision, ServingJob, TrainingJob, Transformer

Figure = TypeVar("Figure", float, NDArray[np.float64])


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

    @cached_property
    def gpu_price(self) -> float:
        """Price of a GPU, USD/h: its share of that of its machine, the dearest for all."""
        return price_of_a_gpu(self.topology, self.hierarchy.gpus, f"objective 'cost' of {self.job.name!r}")

    def value(self, gpus: Figure, latency: Figure) -> Figure:
        """Return the objective of plans that take so many GPUs and such a latency (99th percentile, s)."""
        if self.job.objective == "gpus":
            return gpus
        return gpus * self.gpu_price if self.job.objective == "cost" else latency

    @property
    def unit(self) -> str:
        """Unit of the objective."""
        return {"gpus": "GPUs", "cost": "USD/h"}.get(self.job.objective, "s")

    def in_types(self, strategy: Strategy) -> ServingProblem:
        """Return the problem in the data types of a strategy, the job's own where it names none."""
        types = {name: getattr(strategy, name) for name in TYPES}
        named = {name: value for name, value in types.items() if value is not None}
        key = tuple(named.items())
        if not named:
            return self
        if key not in self._typed:
            found = replace(self, job=self.job.model_copy(update=named))
            found.__dict__["fabric"] = self.fabric  # the same machine
            self._typed[key] = found
        return self._typed[key]

    @cached_property
    def _typed(self) -> dict[tuple[tuple[str, Precision], ...], ServingProblem]:
        return {}


TYPES = ("precision", "expert_precision", "kv_precision")
"""Components of a served model that have a data type: weights, routed experts, key-value cache."""


def allowed_types(job: ServingJob, component: str) -> list[Precision | None]:
    """Return the data types that a job allows for one of `TYPES`; ``None`` stands for its own."""
    listed: list[Precision] | None = getattr(job.degrees, component)
    return [None] if listed is None else list(listed)


Problem = TrainingProblem | ServingProblem | RecommenderProblem | OperatorsProblem | EnsembleProblem
_PROBLEMS: dict[str, type[JobProblem]] = {
    "training": TrainingProblem,
    "serving": ServingProblem,
    "recommender": RecommenderProblem,
    "operators": OperatorsProblem,
    "ensemble": EnsembleProblem,
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
