"""Training jobs: a JobSet with one pod a node, ranks numbered as the plan numbers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.deploy.affinity import (
    apart,
    gpu_resource,
    gpu_tolerations,
    machine_labels,
    node_affinity,
    uses_hostnames,
)
from planner.deploy.arguments import megatron_arguments
from planner.deploy.capacity import HostMemory, server_memory
from planner.deploy.context import Context, job_name, show_share
from planner.deploy.errors import DeployError
from planner.deploy.names import dns_label, literal
from planner.deploy.pods import (
    PLAN_FOLDER,
    Container,
    Volume,
    claim_volumes,
    gpu_environment,
    home_environment,
    pod_spec,
    resources,
    scratch_bytes,
    scratch_volumes,
    shared_memory,
)
from planner.deploy.ranks import BIND, RankTables, check_hosts, rank_tables, training_shares
from planner.deploy.services import network_policy, service_account
from planner.deploy.shares import Share, nccl_environment
from planner.deploy.target import TRAINING_IMAGE
from planner.placement.plan import TrainingPlan
from planner.workload import TrainingJob

Json = dict[str, Any]
REPLICATED_JOB = "node"
PORT = 29500
LARGEST_MAP = 2**20 - 2**14
"""Bytes that fit into a ConfigMap beside its metadata (the API server's limit is 1 MiB)."""
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def training_objects(context: Context, job: TrainingPlan) -> list[Json]:
    """Return all objects of a training job."""
    shares = context.reader(job).shares(job.ranks())
    training_shares(job, shares)
    name = job_name(job)
    base, selector = context.labels(name, name, "trainer", name), {"app.kubernetes.io/name": name}
    named = uses_hostnames([share.node for share in shares], context.target)
    tables = rank_tables(shares, context.target.nic_names, by_index=not named)
    check_hosts(tables.hosts)
    return [
        service_account(context, job, name, base),
        _config_map(context, job, tables),
        _job_set(context, job, shares),
        network_policy(context, name, base, selector, [], selector),
    ]


def map_name(job: TrainingPlan) -> str:
    """Return the name of the ConfigMap with the rank tables."""
    return dns_label(f"{job_name(job)}-ranks", limit=50)


def _config_map(context: Context, job: TrainingPlan, tables: RankTables) -> Json:
    name, size = job_name(job), sum(len(text) for text in tables.files.values())
    if size > LARGEST_MAP:
        raise DeployError(f"job {job.name!r}: the rank tables take {size} bytes, more than a ConfigMap holds")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": context.meta(map_name(job), context.labels(name, name, "trainer", name)),
        "data": tables.files,
    }


def _memory(context: Context, job: TrainingPlan, shares: Sequence[Share]) -> tuple[HostMemory, int]:
    """Return memory and CPUs that every node can give to its ranks."""
    memory = []
    for share in shares:
        wanted = server_memory(job, share, job.strategy.num_ranks, [], context.target.sizing)
        memory.append(
            wanted.within(context.capacity.memory(share), f"job {job.name!r} on node {share.node.name!r}")
        )
    least = min(memory, key=lambda one: one.total)
    return least, min(context.capacity.cores(share) for share in shares)


def torchrun(nodes: int, ranks: int, node_rank: str, master: str) -> list[str]:
    """Return the launcher of the ranks of one node."""
    return [
        "torchrun",
        "--no-python",
        f"--nnodes={nodes}",
        f"--nproc-per-node={ranks}",
        f"--node-rank={node_rank}",
        "--rdzv-backend=static",
        f"--rdzv-endpoint={master}:{PORT}",
        "--max-restarts=0",
    ]


def training_arguments(context: Context, job: TrainingPlan) -> list[str]:
    """Return the trainer's arguments that the plan decides."""
    spec = context.jobs.get(job.name)
    model = context.models.get(job.name)
    return megatron_arguments(job, spec if isinstance(spec, TrainingJob) else None, model)


def trainer_environment(job: TrainingPlan) -> dict[str, str]:
    """Return the variables that the trainer reads.

    One hardware queue keeps kernels and collectives in the order that Megatron-LM issues them; its fully
    sharded mode asks for the default instead.
    """
    return (
        {} if job.strategy.sharding in ("gradients", "parameters") else {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
    )


def _trainer(context: Context, job: TrainingPlan, shares: Sequence[Share]) -> Container:
    target, program, first = context.target, context.target.program(job.name), shares[0]
    sizing, vendor, name = target.sizing, context.vendor(job, shares), job_name(job)
    named = uses_hostnames([share.node for share in shares], target)
    master = f"{name}-{REPLICATED_JOB}-0-0.{name}"
    command = torchrun(len(shares), first.num_gpus, "$(NODE_RANK)", master)
    command.append(f"{PLAN_FOLDER}/{BIND}")
    trainer = [
        *(program.command or ("python3", "pretrain_gpt.py")),
        *training_arguments(context, job),
        *program.arguments,
    ]
    orders = {share.container_order for share in shares}
    order = orders.pop() if len(orders) == 1 else tuple(range(first.num_gpus))
    ports = list(dict.fromkeys(port for share in shares for port in share.nics(target.nic_names)))
    env: dict[str, str | tuple[str]] = {
        "NODE_RANK": (_INDEX,),
        "PLANNER_NODE": ("spec.nodeName" if named else _INDEX,),
        "PLANNER_DEVICES": "own",
        "PLANNER_BIND": "soft" if all(share.takes_whole_node for share in shares) else "local",
        **gpu_environment(order, vendor, mig=False),
        **nccl_environment(ports),
        **trainer_environment(job),
        **home_environment(),
        **program.env,
    }
    memory, cpus = _memory(context, job, shares)
    rdma = {target.rdma_resource: 1} if target.rdma_resource and len(shares) > 1 else {}
    tables = Volume(
        "plan", PLAN_FOLDER, {"configMap": {"name": map_name(job), "defaultMode": 0o555}}, read_only=True
    )
    return Container(
        name="trainer",
        image=program.image or TRAINING_IMAGE,
        resources=resources(
            cpus,
            memory.total,
            scratch_bytes(sizing, cache=True),
            {gpu_resource(vendor, None): first.num_gpus} | rdma,
        ),
        command=command,
        arguments=[literal(word) for word in trainer],
        env=env,
        ports={"rendezvous": PORT},
        volumes=[
            shared_memory(first.num_gpus * sizing.shm_per_rank),
            *scratch_volumes(sizing, cache=True),
            tables,
            *claim_volumes(program.claims),
        ],
        capabilities=["IPC_LOCK"] if rdma else [],
    )


def _job_set(context: Context, job: TrainingPlan, shares: Sequence[Share]) -> Json:
    target, name = context.target, job_name(job)
    labels = context.labels(name, name, "trainer", name)
    affinity = node_affinity([share.node for share in shares], [share.arch for share in shares], target)
    if not all(share.takes_whole_node for share in shares):
        affinity |= apart({"app.kubernetes.io/name": name})
    pod = pod_spec(
        target,
        name,
        [_trainer(context, job, shares)],
        affinity=affinity,
        restart="Never",
        grace=120,
        tolerations=gpu_tolerations(context.vendor(job, shares)),
    )
    template: Json = {"metadata": {"labels": labels}, "spec": pod}
    if target.queue and target.topology_label:
        template["metadata"]["annotations"] = {
            "kueue.x-k8s.io/podset-preferred-topology": target.topology_label
        }
    count = len(shares)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": context.meta(name, labels, _annotations(context, job, shares)),
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
            "failurePolicy": {"maxRestarts": 3, "restartStrategy": "Recreate"},
            "successPolicy": {"operator": "All"},
            "ttlSecondsAfterFinished": 7 * 86400,
            "replicatedJobs": [
                {
                    "name": REPLICATED_JOB,
                    "replicas": 1,
                    "template": {
                        "spec": {
                            "parallelism": count,
                            "completions": count,
                            "completionMode": "Indexed",
                            "backoffLimit": 0,
                            "template": template,
                        }
                    },
                }
            ],
        },
    }


def _annotations(context: Context, job: TrainingPlan, shares: Sequence[Share]) -> dict[str, str]:
    memory, _ = _memory(context, job, shares)
    nodes = [share.node for share in shares]
    if uses_hostnames(nodes, context.target):
        how = (
            "pods are held to the planned nodes; bind.sh gives each process the rank that the plan puts there"
        )
    else:
        picked = "; ".join(
            f"{machine}: {', '.join(f'{key}={value}' for key, value in sorted(labels.items()))}"
            for machine, labels in sorted(machine_labels(nodes, context.target).items())
        )
        how = (
            f"{len(nodes)} nodes are too many to list, so pods are held to the machine types by labels "
            f"({picked}); which of these nodes runs which node rank is up to the scheduler"
        )
    first, last = show_share(shares[0]), show_share(shares[-1])
    text = first if len(shares) == 1 else f"{len(shares)} nodes, from {first} to {last}"
    return context.annotations(job, placement=text, node_choice=how, host_memory=str(memory))
