"""The container that runs the ranks of one node of a training job."""

from __future__ import annotations

from collections.abc import Sequence

from planner.deploy.affinity import gpu_resource
from planner.deploy.arguments import megatron_arguments
from planner.deploy.capacity import SHARED, HostMemory, server_memory
from planner.deploy.context import Context, job_name
from planner.deploy.names import dns_label, literal
from planner.deploy.pods import (
    PLAN_FOLDER,
    Container,
    Volume,
    claim_volumes,
    gpu_environment,
    home_environment,
    resources,
    scratch_bytes,
    scratch_volumes,
    shared_memory,
)
from planner.deploy.ranks import BIND, NodeGroup
from planner.deploy.shares import Share, nccl_environment
from planner.deploy.target import TRAINING_IMAGE
from planner.placement.plan import TrainingPlan
from planner.workload import TrainingJob

PORT = 29500
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
# Nodes of several groups are numbered one group after the other.
_OFFSET = """\
rank="$((NODE_RANK + NODE_OFFSET))"
export PLANNER_NODE="${PLANNER_NODE:-$rank}"
exec torchrun --node-rank="$rank" "$@"
"""


def map_name(job: TrainingPlan) -> str:
    """Return the name of the ConfigMap with the rank tables."""
    return dns_label(f"{job_name(job)}-ranks", limit=50)


def training_arguments(context: Context, job: TrainingPlan) -> list[str]:
    """Return the trainer's arguments that the plan decides."""
    spec = context.jobs.get(job.name)
    return megatron_arguments(
        job, spec if isinstance(spec, TrainingJob) else None, context.models.get(job.name)
    )


def trainer_environment(job: TrainingPlan) -> dict[str, str]:
    """Return the variables that the trainer reads.

    One hardware queue keeps kernels and collectives in the order that Megatron-LM issues them; its fully
    sharded mode asks for the default instead.
    """
    sharded = job.strategy.sharding in ("gradients", "parameters")
    return {} if sharded else {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}


def group_memory(context: Context, job: TrainingPlan, shares: Sequence[Share]) -> HostMemory:
    """Return the host memory that every node of a group can give to its ranks."""
    found = []
    for share in shares:
        wanted = server_memory(job, share, job.strategy.num_ranks, [], context.target.sizing)
        found.append(
            wanted.within(context.capacity.memory(share), f"job {job.name!r} on node {share.node.name!r}")
        )
    return min(found, key=lambda one: one.total)


def trainer(
    context: Context, job: TrainingPlan, group: NodeGroup, master: str, nodes: int, *, named: bool
) -> Container:
    """Return the container of a group of nodes.

    Parameters
    ----------
    master
        Host where all processes meet.
    nodes
        Nodes of the whole job.
    named
        Whether processes find their ranks by the name of their node rather than by its number.
    """
    target, program, shares = context.target, context.target.program(job.name), group.shares
    vendor, whole = context.vendor(job, shares), all(share.takes_whole_node for share in shares)
    orders = {share.container_order for share in shares}
    order = orders.pop() if len(orders) == 1 else tuple(range(group.num_ranks))
    ports = list(dict.fromkeys(port for share in shares for port in share.nics(target.nic_names)))
    env: dict[str, str | tuple[str]] = {
        **_node_environment(group, nodes, named=named),
        "PLANNER_DEVICES": "own",
        "PLANNER_BIND": "soft" if whole else "local",
        **gpu_environment(order, vendor, mig=False),
        **nccl_environment(ports),
        **trainer_environment(job),
        **home_environment(),
        **program.env,
    }
    memory = group_memory(context, job, shares)
    cpus = min(context.capacity.cores(share) for share in shares)
    rdma = {target.rdma_resource: 1} if target.rdma_resource and nodes > 1 else {}
    words = [*(program.command or ("python3", "pretrain_gpt.py")), *training_arguments(context, job)]
    return Container(
        name="trainer",
        image=program.image or TRAINING_IMAGE,
        resources=resources(
            cpus,
            memory.total,
            scratch_bytes(target.sizing, cache=True),
            {gpu_resource(vendor, None, target): group.num_ranks} | rdma,
        ),
        command=_torchrun(group, nodes, master),
        arguments=[literal(word) for word in (*words, *program.arguments)],
        env=env,
        ports={"rendezvous": PORT},
        volumes=_volumes(context, job, memory),
        capabilities=["IPC_LOCK"] if rdma else [],
    )


def _node_environment(group: NodeGroup, nodes: int, *, named: bool) -> dict[str, str | tuple[str]]:
    """Return the variables that number a node and name it in the table of nodes."""
    env: dict[str, str | tuple[str]] = {"NODE_RANK": (_INDEX,)}
    if len(group.shares) < nodes:
        env["NODE_OFFSET"] = str(group.offset)
    if named:
        env["PLANNER_NODE"] = ("spec.nodeName",)
    elif len(group.shares) == nodes:
        env["PLANNER_NODE"] = (_INDEX,)
    return env


def _torchrun(group: NodeGroup, nodes: int, master: str) -> list[str]:
    words = [
        "--no-python",
        f"--nnodes={nodes}",
        f"--nproc-per-node={group.num_ranks}",
        "--rdzv-backend=static",
        f"--rdzv-endpoint={master}:{PORT}",
        "--max-restarts=0",
        "bash",
        f"{PLAN_FOLDER}/{BIND}",
    ]
    if len(group.shares) == nodes:
        return ["torchrun", "--node-rank=$(NODE_RANK)", *words]
    return ["bash", "-euc", literal(_OFFSET), "torchrun", *words]


def _volumes(context: Context, job: TrainingPlan, memory: HostMemory) -> list[Volume]:
    tables = {"configMap": {"name": map_name(job), "defaultMode": 0o444}}
    return [
        shared_memory(memory.parts[SHARED]),
        *scratch_volumes(context.target.sizing, cache=True),
        Volume("plan", PLAN_FOLDER, tables, read_only=True),
        *claim_volumes(context.target.program(job.name).claims),
    ]
