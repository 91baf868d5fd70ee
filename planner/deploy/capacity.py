"""What every node has to give: cores and memory for GPU processes beside the CPU stages of all jobs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner import units
from planner.deploy.cores import parse_cores
from planner.deploy.errors import DeployError
from planner.deploy.shares import Reader, Share
from planner.deploy.target import GIB, Sizing
from planner.placement.plan import CpuPlacement, JobPlan, ModelPlan, Plan, ServingPlan, TrainingPlan, Transfer
from planner.topology.cluster import Node, Topology
from planner.workload import AnyJob, CpuStage, ServingJob

MIB = float(2**20)
LEAST = 0.25
"""Share of the stated host memory that GPU processes have to get."""
SHARED = "shared memory"


@dataclass(frozen=True)
class HostMemory:
    """Memory that a container asks for.

    Attributes
    ----------
    parts, spare
        Bytes by part; where a node has less, ``spare`` parts are given up first.
    least
        Share of ``parts`` that is needed in any case, 0 to 1.
    """

    parts: Mapping[str, float]
    spare: Mapping[str, float]
    least: float = 1.0

    @property
    def total(self) -> float:
        """All parts together, whole GiB, bytes."""
        return math.ceil(round((sum(self.parts.values()) + sum(self.spare.values())) / GIB, 6)) * GIB

    def within(self, limit: float, who: str) -> HostMemory:
        """Return the memory cut so that it fits into ``limit`` bytes.

        Raises
        ------
        DeployError
            If what is needed in any case exceeds the limit.
        """
        limit = math.floor(limit / GIB) * GIB
        if self.total <= limit:
            return self
        needed = sum(self.parts.values())
        if needed * self.least > limit:
            parts = ", ".join(f"{name} {units.show(size, 'bytes')}" for name, size in self.parts.items())
            raise DeployError(
                f"{who} needs {units.show(needed * self.least, 'bytes')} of host memory (wanted: {parts}), "
                f"but its part of the node is {units.show(limit, 'bytes')}; lower the sizes of the target"
            )
        if needed > limit:
            return HostMemory({name: size * limit / needed for name, size in self.parts.items()}, {})
        share = (limit - needed) / sum(self.spare.values())
        return HostMemory(self.parts, {name: size * share for name, size in self.spare.items()})

    def __str__(self) -> str:
        named = {**self.parts, **self.spare}
        return ", ".join(f"{name} {units.show(size, 'bytes')}" for name, size in named.items() if size > 0)


def weight_bytes(job: ModelPlan) -> float:
    """Return the bytes of weights (for training: with the optimizer's states) of all devices of one replica.

    The part of the plan's memory whose name begins with ``weights`` or ``parameters``; everything where no
    part is named so.
    """
    strategy = job.strategy
    devices = strategy.tp * strategy.cp * (strategy.dp if isinstance(job, TrainingPlan) else 1)
    total = 0.0
    for stage in job.memory:
        named = [size for name, size in stage.parts.items() if name.startswith(("weights", "parameters"))]
        total += devices * (sum(named) if named else stage.total)
    return total


def server_memory(
    job: ModelPlan, share: Share, ranks: int, transfers: Sequence[Transfer], sizing: Sizing
) -> HostMemory:
    """Return the host memory of the GPU processes of one pod.

    Parameters
    ----------
    ranks
        Ranks among which the weights of the job or replica are divided.

    Notes
    -----
    Weights pass through host memory while they are read (the page cache counts against the container) and,
    in training, while a checkpoint is written. Pinned copies keep two buffers per request in flight.
    """
    in_flight = job.batching.max_batch if isinstance(job, ServingPlan) else 1
    pinned = sum(2 * move.size * in_flight for move in transfers if move.mode == "pinned-copy")
    parts = {
        "processes": share.num_gpus * sizing.rank_memory,
        SHARED: share.num_gpus * sizing.shm_per_rank,
        "pinned buffers": pinned,
    }
    passing = "weights" if isinstance(job, ServingPlan) else "checkpoint"
    return HostMemory(parts, {passing: weight_bytes(job) * share.num_gpus / ranks}, LEAST)


def stage_memory(stage: CpuStage | None, placement: CpuPlacement, workers: int, sizing: Sizing) -> HostMemory:
    """Return the memory of a pool of workers: resident bytes, and what is prefetched between stages."""
    each = stage.memory if stage is not None and stage.memory > 0 else sizing.worker_memory
    moved = (stage.bytes_in + stage.bytes_out) * placement.prefetch if stage is not None else 0.0
    return HostMemory({"workers": workers * each, "prefetched": workers * moved, "process": GIB / 2}, {})


def pods_of(job: JobPlan) -> list[list[str]]:
    """Return the GPUs of each group of processes that work together: a replica, else the whole job."""
    if isinstance(job, ServingPlan):
        return [replica.gpus() for pool in job.pools() for replica in pool.replicas]
    return [job.gpus()]


def num_workers(stage: CpuStage | None, placement: CpuPlacement) -> int:
    """Return how many requests a pool works on at once."""
    return max(1, placement.cores // (stage.parallel if stage is not None else 1))


class Capacity:
    """The cores and the memory of each node that are left for GPU processes.

    Raises
    ------
    DeployError
        If the CPU stages, one core for each pod and one for the kubelet exceed the cores of a node.
    """

    def __init__(self, plan: Plan, topology: Topology, jobs: Mapping[str, AnyJob], sizing: Sizing) -> None:
        self.sizing = sizing
        self._gpus: dict[str, int] = defaultdict(int)
        self._pods: dict[str, int] = defaultdict(int)
        self._stage_cores: dict[str, int] = defaultdict(int)
        self._stage_lists: dict[str, set[int]] = defaultdict(set)
        self._stage_memory: dict[str, float] = defaultdict(float)
        for job in plan.jobs:
            reader = Reader(job.name, job.bindings, topology)
            self._count_gpus(job)
            if isinstance(job, ServingPlan):
                self._count_stages(job, reader, jobs.get(job.name))
        for name in [*self._gpus, *self._stage_cores]:
            if name in topology.node_of:
                self._check(topology.node_of[name])

    def cores(self, share: Share) -> int:
        """Return the whole logical CPUs of the GPU processes of a share."""
        node, sizing = share.node, self.sizing
        left, pods = self._left(node), self._pods[node.name]
        left -= min(sizing.system_cores, max(1, left - pods))
        fair = left * share.num_gpus // max(1, self._gpus[node.name])
        own = len(share.cores - self._stage_lists[node.name]) or sizing.cores_per_rank * share.num_gpus
        return max(1, min(own, fair)) * sizing.threads_per_core

    def memory(self, share: Share) -> float:
        """Return the most host memory of the GPU processes of a share, bytes."""
        node = share.node
        whole = sum(domain.memory.value for domain in node.machine.numa) * (1 - self.sizing.system_memory)
        return (whole - self._stage_memory[node.name]) * share.num_gpus / max(1, self._gpus[node.name])

    def _left(self, node: Node) -> int:
        return sum(domain.cores for domain in node.machine.numa) - self._stage_cores[node.name]

    def _count_gpus(self, job: JobPlan) -> None:
        for gpus in pods_of(job):
            nodes = [gpu.partition("/")[0] for gpu in gpus]
            for node in nodes:
                self._gpus[node] += 1
            for node in set(nodes):
                self._pods[node] += 1

    def _count_stages(self, job: ServingPlan, reader: Reader, spec: AnyJob | None) -> None:
        for replica in (one for pool in job.pools() for one in pool.replicas):
            for placement in replica.stages:
                node, _ = reader.stage_place(replica, placement)
                stage = stage_named(spec, placement.stage)
                self._stage_cores[node.name] += placement.cores
                self._stage_lists[node.name] |= parse_cores(placement.core_list)
                workers = num_workers(stage, placement)
                self._stage_memory[node.name] += stage_memory(stage, placement, workers, self.sizing).total

    def _check(self, node: Node) -> None:
        left, pods = self._left(node), self._pods[node.name]
        if left < pods + 1:
            total = left + self._stage_cores[node.name]
            raise DeployError(
                f"node {node.name!r} has {total} cores: the CPU stages take {total - left}, which leaves "
                f"{left} for {pods} pods with GPUs and the kubelet; plan fewer cores for the stages"
            )


def stage_named(job: AnyJob | None, name: str) -> CpuStage | None:
    """Return a CPU stage of a job by name, ``None`` where the workload does not have it."""
    if not isinstance(job, ServingJob):
        return None
    return next((stage for stage in (*job.before, *job.after) if stage.name == name), None)
