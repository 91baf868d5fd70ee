r"""Stages on several accelerators that take samples in turn.

A stage whose sample takes :math:`t` on one accelerator, and whose :math:`r` copies sum gradients of
:math:`w` bytes at rate :math:`B` after each round of :math:`r` samples, is busy
:math:`(t + 2 (r - 1) w / (r B)) / r` per sample: the time of a ring all-reduce after that of the sample.
Without gradients it is :math:`t / r`.

References
----------
.. [1] D. Narayanan et al., "PipeDream: Generalized Pipeline Parallelism for DNN Training", SOSP 2019:
   stages replicated over workers, which take mini-batches in turn. There the sum overlaps with the compute.
.. [2] J. Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators", NeurIPS 2020:
   replication as an extension of contiguous max-load splits.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.placement.operators import CPU, OperatorProblem, load

Copies = tuple[int, ...]
"""How many accelerators hold stage 0, 1, ...; stages are numbered as the devices of an assignment."""


def shared_load(seconds: float, weights: float, sync_rate: float, copies: int) -> float:
    """Return the time per sample, s, that each of a stage's accelerators is busy."""
    return (seconds + 2.0 * (copies - 1) / copies * weights / sync_rate) / copies


def stage_load(problem: OperatorProblem, assignment: Sequence[int], stage: int, copies: int) -> float:
    """Return the time per sample, s, that each accelerator of a stage is busy."""
    held = zip(problem.graph.operators, assignment, strict=True)
    weights = sum(op.weights for op, place in held if place == stage)
    return shared_load(load(problem, assignment, stage), weights, problem.sync_rate, copies)


def replicated_load(problem: OperatorProblem, assignment: Sequence[int], copies: Copies) -> float:
    """Return the load, s, of the busiest device."""
    stages = (stage_load(problem, assignment, stage, count) for stage, count in enumerate(copies))
    return max(load(problem, assignment, CPU), max(stages, default=0.0))


def broken_copies(problem: OperatorProblem, assignment: Sequence[int], copies: Copies) -> list[str]:
    """Return the rules that the numbers of copies break."""
    found = []
    if min(copies, default=1) < 1:
        found.append("every stage is on one accelerator at least")
    if sum(copies) > problem.num_accelerators:
        found.append(f"{sum(copies)} accelerators are used, there are {problem.num_accelerators}")
    if max(assignment, default=CPU) >= len(copies):
        found.append("a stage has no accelerators")
    return found
