"""Who uses which GPU and which cores, read from a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import ModelPlan, Plan, Replica, ServingPlan, TrainingPlan
from planner.placement.recommender_plan import RecommenderPlan


@dataclass(frozen=True)
class Use:
    """What one GPU does for one job.

    Attributes
    ----------
    group
        Index into :attr:`Occupancy.groups`: the job and the pipeline stage.
    detail
        The rest, for people: rank, replica, part.
    """

    group: int
    tensor: int
    detail: str


@dataclass(frozen=True)
class UseGroup:
    """All GPUs that do the same: one pipeline stage of one job.

    Attributes
    ----------
    memory_share
        Share of the device memory that the stage takes, or ``None`` where the plan does not say.
    """

    job: str
    stage: int
    label: str
    memory_share: float | None


@dataclass
class Occupancy:
    """Uses by GPU, ``NODE/GPU``, and busy cores by NUMA domain, ``NODE/NUMA``."""

    groups: list[UseGroup] = field(default_factory=list)
    gpus: dict[str, list[Use]] = field(default_factory=dict)
    cores: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def of(self, gpu: str) -> list[Use]:
        """Return what a GPU is used for."""
        return self.gpus.get(gpu, [])

    def main_group(self, gpu: str) -> int | None:
        """Return the first use group of a GPU, which colours it."""
        uses = self.gpus.get(gpu)
        return uses[0].group if uses else None


def occupancy(plan: Plan | None) -> Occupancy:
    """Return who uses what under a plan; nothing without one."""
    result = Occupancy()
    for job in plan.jobs if plan is not None else ():
        shares = {
            stage.stage: stage.total / stage.capacity if stage.capacity else None for stage in job.memory
        }
        first = len(result.groups)
        alone = len(plan.jobs) == 1 if plan is not None else True
        if isinstance(job, OperatorsPlan):
            _add_operators(result, job, shares, alone=alone)
            continue
        if isinstance(job, EnsemblePlan):
            _add_ensemble(result, job)
            continue
        if isinstance(job, RecommenderPlan):
            result.groups.append(
                UseGroup(job.name, 0, job.name, max(filter(None, shares.values()), default=None))
            )
            for rank, gpu in enumerate(job.ranks()):
                result.gpus.setdefault(gpu, []).append(Use(first, 0, f"rank {rank}"))
            continue
        if isinstance(job, ServingPlan) and job.prefill is not None:
            _add_pools(result, job, alone=alone)
            continue
        for stage in range(job.strategy.pp):
            result.groups.append(UseGroup(job.name, stage, _label(job, stage, alone), shares.get(stage)))
        if isinstance(job, TrainingPlan):
            _add_training(result, job, first)
        else:
            _add_serving(result, job, first)
    return result


def _label(job: ModelPlan, stage: int, alone: bool) -> str:
    if job.strategy.pp == 1:
        return job.name
    return f"stage {stage}" if alone else f"{job.name}, stage {stage}"


def _add_operators(
    result: Occupancy, job: OperatorsPlan, shares: Mapping[int, float | None], *, alone: bool
) -> None:
    for place, stage in enumerate(job.stages):
        if stage.devices:
            name = f"stage {place}" if alone else f"{job.name}, stage {place}"
            result.groups.append(UseGroup(job.name, place, name, shares.get(place)))
            for copy, gpu in enumerate(stage.devices):
                use = Use(len(result.groups) - 1, 0, f"{len(stage.operators)} operators, copy {copy}")
                result.gpus.setdefault(gpu, []).append(use)


def _add_training(result: Occupancy, job: TrainingPlan, first: int) -> None:
    tp, dp, cp = job.strategy.tp, job.strategy.dp, job.strategy.cp
    for rank, gpu in enumerate(job.ranks()):
        rest, tensor = divmod(rank, tp)
        rest, context = divmod(rest, cp)
        stage, replica = divmod(rest, dp)
        detail = f"rank {rank}, replica {replica}" + (f", context part {context}" if cp > 1 else "")
        group = first + min(stage, job.strategy.pp - 1)
        result.gpus.setdefault(gpu, []).append(Use(group, tensor, detail))


def _add_pools(result: Occupancy, job: ServingPlan, *, alone: bool) -> None:
    for role, pool in zip(("prompts", "answers"), job.pools(), strict=True):
        first = len(result.groups)
        for record in pool.memory:
            several = f", stage {record.stage}" if pool.strategy.pp > 1 else ""
            label = f"{role}{several}" if alone else f"{job.name}, {role}{several}"
            share = record.total / record.capacity if record.capacity else None
            result.groups.append(UseGroup(job.name, record.stage, label, share))
        _add_serving(result, pool, first)


def _add_serving(result: Occupancy, job: ServingPlan, first: int) -> None:
    tp, pp = job.strategy.tp, job.strategy.pp
    for replica in job.replicas:
        for index, gpu in enumerate(replica.gpus()):
            stage, tensor = divmod(index, tp)
            group = first + min(stage, pp - 1)
            result.gpus.setdefault(gpu, []).append(Use(group, tensor, f"replica {replica.name}"))
        for stage_name, place, cores in cpu_places(replica):
            result.cores.setdefault(place, []).append((f"{job.name}: {stage_name}", cores))


def _add_ensemble(result: Occupancy, job: EnsemblePlan) -> None:
    """Add who uses which GPU and which cores."""
    for place, (_, group) in enumerate(groupby(job.instances, key=lambda one: (one.group, one.stage))):
        instances = list(group)
        first = instances[0]
        label = f"{first.stage}, {', '.join(first.classes)}"
        result.groups.append(UseGroup(job.name, place, label, None))
        for instance in instances:
            use = Use(len(result.groups) - 1, 0, instance.mig or "whole GPU")
            result.gpus.setdefault(instance.gpu, []).append(use)
    for pool in job.pools:
        entry = (f"{job.name}: {pool.stage}", pool.cores)
        result.cores.setdefault(f"{pool.node}/{pool.numa}", []).append(entry)


def cpu_places(replica: Replica) -> list[tuple[str, str, int]]:
    """Return stage name, NUMA domain as ``NODE/NUMA`` and number of cores of the CPU stages of a replica."""
    return [(stage.stage, full_name(stage.numa, replica.node), stage.cores) for stage in replica.stages]


def full_name(part: str, node: str) -> str:
    """Return ``NODE/PART`` of a part that may be named with or without its node."""
    return part if "/" in part else f"{node}/{part}"


def describe(uses: list[Use], groups: list[UseGroup]) -> str:
    """Return the uses of a GPU as one line."""
    return (
        "; ".join(f"{groups[use.group].label}, part {use.tensor}, {use.detail}" for use in uses) or "not used"
    )


Loads = Mapping[tuple[str, str], float]
"""Utilisation, 0 to 1, by directed link ``(source, target)``."""
