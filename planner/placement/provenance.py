"""How much of an objective rests on assumed numbers."""

from __future__ import annotations

from collections.abc import Iterator

from planner.costs import device_rates
from planner.costs.collectives import efficiency_name
from planner.placement.ensemble_problem import EnsembleProblem
from planner.placement.graphs import OperatorsProblem
from planner.placement.mixed import AnyProblem, MixedTrainingProblem
from planner.placement.plan import JobPlan, ServingPlan
from planner.placement.problem import Problem, ServingProblem, TrainingProblem

_COEFFICIENTS = {
    "gemm": ("matmul_efficiency",),
    "attention": ("matmul_efficiency", "attention_efficiency"),
    "memory": ("memory_efficiency",),
    "recompute": ("matmul_efficiency",),
    "embedding and head": ("matmul_efficiency",),
    "bubble": ("matmul_efficiency",),
    "imbalance": ("matmul_efficiency",),
    "prefill": ("matmul_efficiency",),
    "decode": ("memory_efficiency",),
    "wait for prefill": ("matmul_efficiency",),
    "variation up to p99": ("memory_efficiency",),
    "gradients and optimizer": ("training.stated.data_overlap",),
    "fsdp": ("training.stated.data_overlap",),
    "lookup": ("memory_efficiency",),
    "gradient of lookup": ("memory_efficiency",),
    "dense": ("matmul_efficiency",),
}
_MEMORY = ("memory", "decode", "variation up to p99", "lookup", "gradient of lookup")
_HOST_LINK = ("prefetch into cache", "transfers in", "transfers out", "busiest link")
_COMMUNICATION = (
    "exchange",
    "gradient exchange",
    "gradients",
    "tp",
    "cp",
    "ep",
    "fsdp",
    "pipeline transfers",
    "move of the cache",
    "gradients and optimizer",
)
_KINDS = {
    "nvlink": ("nvlink", "xgmi"),
    "c2c": ("nvlink-c2c",),
    "pcie": ("pcie",),
    "socket": ("socket",),
}
"""Kinds of link that set the rate of a level inside a machine."""


def assumed_share(problem: AnyProblem, plan: JobPlan) -> float:
    """Return the share of the predicted time that rests on numbers of provenance ``assumed``, 0 to 1.

    A part of the time counts as assumed when a number that dominates it is: the device's rate, an
    efficiency or an overlap, the rate of a level of the machine, or of a host core. Latencies of links do
    not count: messages of megabytes spend a few percent of their time on them. On several device models
    the largest share of any of them counts.
    """
    if isinstance(problem, MixedTrainingProblem):
        return max(assumed_share(kind, plan) for kind in problem.kinds)
    if isinstance(problem, ServingProblem) and isinstance(plan, ServingPlan):
        problem = problem.in_types(plan.strategy)
    parts = plan.prediction.breakdown
    total = sum(parts.values())
    assumed = sum(value for name, value in parts.items() if "assumed" in _behind(problem, name))
    return assumed / total if total > 0 else 0.0


def _behind(problem: Problem, part: str) -> Iterator[str]:
    """Yield the provenances of the numbers that dominate a part of the time."""
    coefficients = problem.calibration.coefficients
    for name in _COEFFICIENTS.get(part, ()):
        yield coefficients[name].provenance
    if part in _HOST_LINK:
        yield from _link_rates(problem)
    elif part == "cpu stages and transfers":
        yield from _host_rates(problem)
    elif part in _COMMUNICATION:
        for level in problem.hierarchy.levels:
            yield coefficients[efficiency_name(level)].provenance
            yield from _level_rates(problem, level.name)
    elif part in _MEMORY:
        yield problem.device.memory_bandwidth.provenance
    else:
        yield from _compute_rates(problem, part)


def _compute_rates(problem: Problem, part: str) -> Iterator[str]:
    """Yield the provenances of the rates at which a job's own parts compute."""
    if isinstance(problem, TrainingProblem | ServingProblem):
        yield problem.rates.provenance
    elif isinstance(problem, OperatorsProblem):
        yield from _operator_rates(problem, part)
    elif isinstance(problem, EnsembleProblem):
        yield from _ensemble_rates(problem, part)
    elif problem.job.dense is not None:
        yield device_rates(problem.device, problem.job.dense.precision, problem.calibration).provenance


def _ensemble_rates(problem: EnsembleProblem, part: str) -> Iterator[str]:
    """Yield the provenances behind a part of the latency of an ensemble."""
    if part == "transfer":
        yield from _link_rates(problem)
    elif part in ("cpu", "cpu queue"):
        for machine in problem.topology.document.machines:
            yield from (domain.core_speed.provenance for domain in machine.numa)
    else:
        works = [stage.gpu for stage in problem.stages if stage.gpu is not None and not stage.gpu.measured]
        for precision in dict.fromkeys(work.precision for work in works):
            yield device_rates(problem.device, precision, problem.calibration).provenance


def _operator_rates(problem: OperatorsProblem, part: str) -> Iterator[str]:
    """Yield the provenances behind operators of which only operations and bytes are known."""
    if part == "compute" and any(op.flops or op.traffic for op in problem.model.operators):
        yield device_rates(problem.device, problem.job.precision, problem.calibration).provenance
        yield problem.calibration.coefficients["matmul_efficiency"].provenance


def _level_rates(problem: Problem, level: str) -> Iterator[str]:
    """Yield the provenances of the link rates, without latencies, that make a level."""
    kinds = _KINDS.get(level)
    for machine in problem.topology.document.machines:
        if kinds is None:
            yield from (nic.bandwidth.provenance for nic in machine.nics)
            continue
        yield from (link.bandwidth.provenance for link in machine.links if link.kind in kinds)
        yield from (mesh.bandwidth.provenance for mesh in machine.meshes if mesh.kind in kinds)


def _host_rates(problem: Problem) -> Iterator[str]:
    """Yield the provenances of the speeds of host cores and of the links of the host."""
    for machine in problem.topology.document.machines:
        yield from (domain.core_speed.provenance for domain in machine.numa)
    yield from _link_rates(problem)


def _link_rates(problem: Problem) -> Iterator[str]:
    """Yield the provenances of the rates of links inside hosts."""
    for machine in problem.topology.document.machines:
        yield from (
            link.bandwidth.provenance for link in machine.links if link.kind not in ("nvlink", "xgmi")
        )
