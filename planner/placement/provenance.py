"""How much of an objective rests on assumed numbers."""

from __future__ import annotations

from planner.placement.plan import ServingPlan, TrainingPlan
from planner.placement.problem import Problem

_COMPUTE = {
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
}


def assumed_share(problem: Problem, plan: TrainingPlan | ServingPlan) -> float:
    """Return the share of the predicted time that rests on numbers of provenance ``assumed``, 0 to 1.

    A part of the time counts as assumed when any number behind it is: the device's rate, the efficiency,
    or, for communication, the rate or latency of a level of the machine or of a host link.
    """
    parts = plan.prediction.breakdown
    total = sum(parts.values())
    assumed = sum(value for name, value in parts.items() if _is_assumed(problem, name))
    return assumed / total if total > 0 else 0.0


def _is_assumed(problem: Problem, part: str) -> bool:
    coefficients = problem.calibration.coefficients
    if part in _COMPUTE:
        names = _COMPUTE[part]
        compute = "matmul_efficiency" in names
        device = problem.rates.provenance if compute else problem.device.memory_bandwidth.provenance
        return device == "assumed" or any(coefficients[name].provenance == "assumed" for name in names)
    if part == "cpu stages and transfers":
        domains = [domain for machine in problem.topology.machine_types for domain in machine.numa]
        edges = [edge for machine in problem.topology.machine_types for edge in machine.edges]
        return any(d.core_speed.provenance == "assumed" for d in domains) or any(
            e.provenance == "assumed" for e in edges
        )
    return any(level.provenance == "assumed" for level in problem.hierarchy.levels)
