"""One replica of a serving job: where it runs, and the containers of its pods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.deploy.affinity import gpu_resource
from planner.deploy.arguments import (
    MOVED_CACHES,
    layer_partition,
    model_path,
    vllm_arguments,
    vllm_group_arguments,
)
from planner.deploy.capacity import SHARED, HostMemory, server_memory, weight_bytes
from planner.deploy.context import Context, show_share
from planner.deploy.names import literal
from planner.deploy.pods import (
    DRAIN,
    Container,
    Volume,
    claim_volume,
    claim_volumes,
    gpu_environment,
    home_environment,
    http_probes,
    resources,
    scratch_bytes,
    scratch_volumes,
    shared_memory,
)
from planner.deploy.shares import Share, nccl_environment
from planner.deploy.stages import (
    SERVER,
    WORKER,
    Pool,
    addresses,
    beside,
    memory_modes,
    pools,
    stage_container,
)
from planner.deploy.target import SERVING_IMAGE
from planner.placement.plan import Replica, ServingPlan
from planner.workload import ServingJob

CACHE_PORT = 5600
"""Port by which vLLM's NixlConnector tells where caches lie (its documented default)."""


@dataclass(frozen=True)
class Placed:
    """A replica read against the topology: shares of nodes, pools in its pod and pools elsewhere.

    Attributes
    ----------
    moves
        Whether caches of requests move between this replica and those of another pool.
    """

    replica: Replica
    shares: tuple[Share, ...]
    local: tuple[Pool, ...]
    remote: tuple[Pool, ...]
    moves: bool = False

    def show(self) -> str:
        """Return where the replica runs, as text."""
        gpus = " + ".join(show_share(share) for share in self.shares)
        stages = [
            f"{pool.name} on {pool.node.name}/{pool.numa} cores {pool.placement.core_list}"
            for pool in self.local
        ]
        return "; ".join([f"{self.replica.name}: {gpus}", *stages])


def place(context: Context, job: ServingPlan, replica: Replica, *, moves: bool = False) -> Placed:
    """Return a replica read against the topology."""
    shares = context.reader(job).shares(replica.gpus())
    found = pools(context, job, replica)
    leader = shares[0] if shares else None
    local = tuple(pool for pool in found if beside(pool, leader))
    return Placed(replica, tuple(shares), local, tuple(pool for pool in found if pool not in local), moves)


def cache_environment() -> dict[str, str | tuple[str]]:
    """Return the variables by which servers find one another's caches."""
    return {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": ("status.podIP",),
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(CACHE_PORT),
    }


def start_budget(context: Context, job: ServingPlan) -> float:
    """Return the longest time that a server may take to start, s: reading the weights, and all the rest."""
    sizing = context.target.sizing
    return sizing.start_overhead + weight_bytes(job) / sizing.load_rate


def grace_period(job: ServingPlan) -> int:
    """Return the seconds to finish requests in flight: twice the 99th percentile latency, and a reserve."""
    return math.ceil(DRAIN + 30 + 2 * job.prediction.latency_p99)


def host_memory(context: Context, job: ServingPlan, item: Placed, share: Share) -> HostMemory:
    """Return the host memory of the GPU processes of one node of a replica."""
    ranks = sum(one.num_gpus for one in item.shares)
    transfers = item.replica.transfers if share is item.shares[0] else []
    wanted = server_memory(job, share, ranks, transfers, context.target.sizing)
    return wanted.within(context.capacity.memory(share), f"job {job.name!r} on node {share.node.name!r}")


def _volumes(context: Context, job: ServingPlan, memory: HostMemory) -> list[Volume]:
    """Return the volumes of a server; weights that lie elsewhere than under ``/models`` need no claim."""
    target, program = context.target, context.target.program(job.name)
    volumes = [
        shared_memory(memory.parts[SHARED]),
        *scratch_volumes(target.sizing, cache=True),
        *claim_volumes(program.claims),
    ]
    if target.model_claim is not None and model_path(job.model, program).startswith("/models/"):
        volumes.append(claim_volume("models", "/models", target.model_claim, read_only=True))
    return volumes


def server_container(
    context: Context, job: ServingPlan, item: Placed, share: Share, order: Sequence[int], ports: Sequence[str]
) -> Container:
    """Return the container of the GPU processes of one node of a replica."""
    target, program = context.target, context.target.program(job.name)
    sizing, vendor = target.sizing, context.vendor(job, item.shares)
    head, spans = share is item.shares[0], len(item.shares) > 1
    spec = context.jobs.get(job.name)
    path = model_path(job.model, program)
    arguments = vllm_arguments(job, spec if isinstance(spec, ServingJob) else None, path, str(target.port))
    arguments = [literal(word) for word in (*arguments, *program.arguments)]
    if item.moves:
        arguments.append(literal(MOVED_CACHES))
    if spans:
        arguments += vllm_group_arguments(
            len(item.shares), "$(LWS_WORKER_INDEX)", "$(LWS_LEADER_ADDRESS)", head=head
        )
    env: dict[str, str | tuple[str]] = {
        **gpu_environment(order, vendor, mig=job.mig is not None),
        **layer_partition(job),
        **home_environment(),
        **(nccl_environment(ports) if spans else {}),
        **(addresses(job, item.local, item.remote) if head else {}),
        **(memory_modes(item.replica) if head else {}),
        **({"VLLM_HOST_IP": ("status.podIP",)} if spans else {}),
        **(cache_environment() if item.moves else {}),
        **program.env,
    }
    devices = {gpu_resource(vendor, job.mig, target): share.num_gpus}
    rdma = {target.rdma_resource: 1} if spans and target.rdma_resource else {}
    memory = host_memory(context, job, item, share)
    return Container(
        name=SERVER if head else WORKER,
        image=program.image or SERVING_IMAGE,
        resources=resources(
            context.capacity.cores(share),
            memory.total,
            scratch_bytes(sizing, cache=True),
            {**devices, **rdma},
        ),
        command=[literal(word) for word in program.command or ("vllm", "serve")],
        arguments=arguments,
        env=env,
        ports={
            **({"http": target.port} if head else {}),
            **({"caches": CACHE_PORT} if item.moves else {}),
        },
        volumes=_volumes(context, job, memory),
        probes=http_probes("http", start_budget(context, job)) if head else {},
        capabilities=["IPC_LOCK"] if rdma else [],
        lifecycle={"preStop": {"sleep": {"seconds": DRAIN}}} if head else {},
    )


def pod_containers(context: Context, job: ServingPlan, item: Placed) -> list[Container]:
    """Return the containers of the pod of a single-node replica, or of the leader of a group."""
    share = item.shares[0]
    server = server_container(
        context, job, item, share, share.container_order, share.nics(context.target.nic_names)
    )
    shared = [volume for volume in server.volumes if volume.name == "shm"]
    stages = [stage_container(context, job, pool, index, shared) for index, pool in enumerate(item.local)]
    return [server, *stages]
