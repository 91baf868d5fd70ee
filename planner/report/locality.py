"""How far each group of ranks reaches over the machine: the innermost level that holds all of its GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.placement.plan import ServingPlan, TrainingPlan
from planner.topology import Level, Topology

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES = {"tensor": "TP", "context": "CP", "pipeline": "PP", "data": "DP"}


@dataclass(frozen=True)
class Reach:
    """The groups along one axis of a job.

    Attributes
    ----------
    level
        Innermost level whose domains hold every group; ``None`` where no level does.
    """

    axis: str
    degree: int
    level: Level | None


def reaches(job: TrainingPlan | ServingPlan, topology: Topology) -> Iterator[Reach]:
    """Yield the reach of each axis whose degree is above one."""
    mesh = device_mesh(job, topology)
    if mesh is None:
        return
    for position, axis in ((3, "tensor"), (2, "context"), (0, "pipeline"), (1, "data")):
        if mesh.shape[position] > 1 and not (axis == "data" and isinstance(job, ServingPlan)):
            groups = np.moveaxis(mesh, position, -1).reshape(-1, mesh.shape[position])
            yield Reach(axis, mesh.shape[position], _level_of(groups, topology))


def device_mesh(job: TrainingPlan | ServingPlan, topology: Topology) -> NDArray[np.int64] | None:
    """Return GPU numbers, shape (pp, dp, cp, tp), replicas along dp; ``None`` where they do not fill it."""
    place = {gpu: index for index, gpu in enumerate(topology.gpus)}
    strategy = job.strategy
    if isinstance(job, TrainingPlan):
        ranks = [place.get(gpu, -1) for gpu in job.ranks()]
        shape: tuple[int, ...] = (strategy.pp, strategy.dp, strategy.cp, strategy.tp)
    else:
        ranks = [place.get(gpu, -1) for replica in job.replicas for gpu in replica.gpus()]
        shape = (len(job.replicas), strategy.pp, 1, strategy.tp)
    if len(ranks) != np.prod(shape) or -1 in ranks:
        return None
    mesh = np.asarray(ranks, dtype=np.int64).reshape(shape)
    return mesh if isinstance(job, TrainingPlan) else mesh.swapaxes(0, 1)


def common_level(gpus: list[str], topology: Topology) -> Level | None:
    """Return the innermost level one of whose domains holds all of some GPUs."""
    place = {gpu: index for index, gpu in enumerate(topology.gpus)}
    if any(gpu not in place for gpu in gpus):
        return None
    return _level_of(np.asarray([[place[gpu] for gpu in gpus]], dtype=np.int64), topology)


def _level_of(groups: NDArray[np.int64], topology: Topology) -> Level | None:
    for level in topology.hierarchy.levels:
        domains = level.domain_of[groups]
        if (domains == domains[:, :1]).all():
            return level
    return None
