"""Recommenders on a topology: ranks, memory, and the costs of tables and of the dense part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs import device_rates
from planner.costs.collectives import all_reduce
from planner.costs.embeddings import (
    KERNELS,
    EmbeddingCosts,
    FlatCluster,
    Kernel,
    OptionSpace,
    TopologyCosts,
    TorchRecCosts,
    embedding_machine,
)
from planner.errors import WorkloadError
from planner.placement.groups import members_per_domain
from planner.placement.job_problem import JobProblem
from planner.placement.tables import TableProblem
from planner.topology import Device, Router
from planner.workload import BYTES_PER_ELEMENT, EmbeddingTable, RecommenderJob
from planner.workload.tables import Tier

TIERS: Mapping[Kernel, Tier] = {
    "dense": "gpu",
    "fused": "gpu",
    "fused_uvm": "host",
    "fused_uvm_caching": "cached",
}
TRAINED_PARAMETER = 16.0
"""Bytes for a trainable parameter of the dense part: weights and gradients of 2 bytes, fp32 weights and two
Adam moments (Rajbhandari et al., "ZeRO", SC 2020)."""


@dataclass(frozen=True)
class RecommenderProblem(JobProblem):
    """Embedding tables and a dense part on GPUs, of several device models too."""

    job: RecommenderJob
    model: tuple[EmbeddingTable, ...]

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """GPUs of the ranks, node by node, as many on each: as many GPUs as may be used in this way."""
        by_node: dict[str, list[str]] = {}
        for gpu in self.hierarchy.gpus:
            by_node.setdefault(gpu.split("/", 1)[0], []).append(gpu)
        options = []
        for local in range(1, max(map(len, by_node.values())) + 1):
            nodes = [gpus[:local] for gpus in by_node.values() if len(gpus) >= local]
            chosen = nodes[: self.num_gpus // local]
            options.append((len(chosen) * local, local, chosen))
        _, _, best = max(options, key=lambda option: option[:2])
        return tuple(gpu for gpus in best for gpu in gpus)

    @cached_property
    def local_size(self) -> int:
        """Ranks on each node."""
        return max(Counter(gpu.split("/", 1)[0] for gpu in self.ranks).values())

    @property
    def local_batch(self) -> float:
        """Samples per rank."""
        return self.job.global_batch / len(self.ranks)

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """NUMA domains ``NODE/NUMA`` of the nodes in use that have GPUs in use."""
        return tuple(dict.fromkeys(self.domain_of(gpu) for gpu in self.ranks))

    def domain_of(self, gpu: str) -> str:
        """Return the NUMA domain of a GPU."""
        node, name = gpu.split("/", 1)
        machine = self.topology.node_of[node].machine
        return f"{node}/{next(part.numa for part in machine.gpus if part.name == name)}"

    @cached_property
    def dense_bytes(self) -> float:
        """Bytes of the dense part on every rank."""
        dense = self.job.dense
        if dense is None:
            return 0.0
        training = self.job.mode == "training"
        return dense.parameters * (TRAINED_PARAMETER if training else BYTES_PER_ELEMENT[dense.precision])

    @cached_property
    def dense_seconds(self) -> float:
        """Time of the dense part, s: products at the device's rate, and the sum of its gradients.

        Backward takes twice as long as forward.
        """
        dense = self.job.dense
        if dense is None:
            return 0.0
        slowest = min(
            device_rates(device, dense.precision, self.calibration).matmul for device in self.devices
        )
        rate = slowest * self.calibration.number("matmul_efficiency")
        if self.job.mode == "inference":
            return dense.flops * self.local_batch / rate
        return 3.0 * dense.flops * self.local_batch / rate + self._gradient_seconds(
            dense.parameters * BYTES_PER_ELEMENT[dense.precision]
        )

    def _gradient_seconds(self, size: float) -> float:
        if len(self.ranks) < 2 or size <= 0.0:
            return 0.0
        position = {gpu: index for index, gpu in enumerate(self.hierarchy.gpus)}
        group = np.array([[position[gpu] for gpu in self.ranks]])
        members = members_per_domain(group, self.hierarchy)[None, :]
        sizes = np.array([size])
        return float(all_reduce(sizes, np.array([float(group.size)]), members, self.fabric).time(sizes)[0])

    @cached_property
    def embedding_costs(self) -> EmbeddingCosts:
        """The cost model that the job names."""
        if self.job.costs == "topology":
            return self.topology_costs
        return TorchRecCosts(
            self.model,
            self.flat_cluster,
            self.local_batch,
            self.job.optimizer,
            training=self.job.mode == "training",
        )

    @cached_property
    def topology_costs(self) -> TopologyCosts:
        """The model of this machine, whatever model the job names."""
        domains = [self.domain_of(gpu) for gpu in self.ranks]
        router, training = Router(self.topology), self.job.mode == "training"
        machine = embedding_machine(router, self.ranks, domains, self.local_size, self.calibration)
        return TopologyCosts(self.model, machine, self.local_batch, self.job.optimizer, training)

    @cached_property
    def flat_cluster(self) -> FlatCluster:
        """The machine as two levels of bandwidth, as the public planner sees it."""
        memory = min(device_rates(device, "fp32", self.calibration).memory for device in self.devices)
        inside, outside = self._exchange_rates(memory)
        return FlatCluster(
            len(self.ranks),
            self.local_size,
            min(self.gpu_room),
            min(self.host_room),
            memory,
            self._host_rate(),
            inside,
            outside,
        )

    def _exchange_rates(self, memory: float) -> tuple[float, float]:
        """Return rates per rank within a node and between nodes, bytes/s; one rank exchanges in memory."""
        if len(self.ranks) == 1:
            return memory, memory
        position = {gpu: index for index, gpu in enumerate(self.hierarchy.gpus)}
        local = [position[gpu] for gpu in self.ranks[: self.local_size]]
        everyone = [position[gpu] for gpu in self.ranks]

        def rate(members: list[int]) -> float | None:
            for level, reached in zip(self.hierarchy.levels, self.fabric.rate, strict=True):
                if len(set(level.domain_of[members].tolist())) == 1:
                    return float(reached)
            return None

        outside = rate(everyone)
        if outside is None:
            raise WorkloadError(f"job {self.job.name!r}: nothing joins the GPUs it would run on")
        inside = rate(local) if len(local) > 1 else memory
        return inside or outside, outside

    def _host_rate(self) -> float:
        """Return the rate from host memory to the rank that is served worst, bytes/s."""
        rates = []
        for gpu in self.ranks[: self.local_size]:
            node, name = gpu.split("/", 1)
            way = self.topology.host_route(node, self.domain_of(gpu).split("/", 1)[1], name)
            if way is None:
                raise WorkloadError(f"job {self.job.name!r}: nothing joins {gpu} and its host memory")
            rates.append(way.rate)
        return min(rates)

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """Device model of every rank."""
        return tuple(self.topology.device(gpu) for gpu in self.ranks)

    @cached_property
    def capacities(self) -> tuple[float, ...]:
        """Bytes of every rank's device that a plan may fill, the stated margin kept free."""
        free = 1.0 - self.calibration.number("memory_margin")
        return tuple(device.memory.value * free for device in self.devices)

    @property
    def gpu_room(self) -> tuple[int, ...]:
        """Bytes for tables on each rank, the margin and the dense part taken off."""
        return tuple(max(0, int(capacity - self.dense_bytes)) for capacity in self.capacities)

    @cached_property
    def host_room(self) -> tuple[int, ...]:
        """Bytes for tables in each domain, the margin kept free."""
        free = 1.0 - self.calibration.number("memory_margin")
        found = []
        for domain in self.domains:
            node, name = domain.split("/", 1)
            found.append(int(self.topology.node_of[node].machine.numa_named(name).memory.value * free))
        return tuple(found)

    @cached_property
    def table_problem(self) -> TableProblem:
        """The tables with ranks numbered, their memory, and the cost model."""
        number = {domain: place for place, domain in enumerate(self.domains)}
        kernels = ["dense", *(kernel for kernel in KERNELS[1:] if TIERS[kernel] in self.job.tiers)]
        space = OptionSpace(
            kernels=tuple(
                kernel for kernel in KERNELS if kernel in kernels and TIERS[kernel] in self.job.tiers
            ),
            min_partition=self.job.min_partition,
            free_widths=self.job.free_widths,
            load_factors=tuple(self.job.cache_shares),
        )
        return TableProblem(
            self.embedding_costs,
            space,
            self.gpu_room,
            tuple(number[self.domain_of(gpu)] for gpu in self.ranks),
            self.host_room,
        )
