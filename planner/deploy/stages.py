"""CPU stages: containers beside the server on its node, or workloads of their own on other nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.affinity import evenly, kubernetes_arch, node_affinity
from planner.deploy.capacity import num_workers, stage_memory, stage_named
from planner.deploy.context import Context, job_name, numbered
from planner.deploy.names import dns_label, literal, natural_key, variable_part
from planner.deploy.pods import (
    Container,
    Volume,
    pod_spec,
    resources,
    scratch_bytes,
    scratch_volumes,
    socket_probes,
)
from planner.deploy.services import deployment, disruption_budget, network_policy, service, service_account
from planner.deploy.shares import Share
from planner.deploy.target import STAGE_IMAGE
from planner.placement.plan import CpuPlacement, Replica, ServingPlan
from planner.topology.cluster import Node
from planner.workload import CpuStage

Json = dict[str, Any]
FIRST_PORT = 9000
SERVER, WORKER = GPU_CONTAINERS = ("server", "worker")


@dataclass(frozen=True)
class Pool:
    """A pool of workers of one stage of one replica, on whole cores of one NUMA domain."""

    replica: str
    placement: CpuPlacement
    stage: CpuStage | None
    node: Node
    numa: str

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.placement.stage

    @property
    def arch(self) -> str:
        """Architecture of the host."""
        return self.node.machine.numa_named(self.numa).arch


def pools(context: Context, job: ServingPlan, replica: Replica) -> list[Pool]:
    """Return the pools of a replica in the order of the plan."""
    reader, spec = context.reader(job), context.jobs.get(job.name)
    found = []
    for placement in replica.stages:
        node, numa = reader.stage_place(replica, placement)
        found.append(Pool(replica.name, placement, stage_named(spec, placement.stage), node, numa))
    return found


def beside(pool: Pool, share: Share | None) -> bool:
    """Return whether a pool runs in the pod of the GPU processes: same node, same architecture."""
    return (
        share is not None
        and pool.node.name == share.node.name
        and kubernetes_arch(pool.arch) == kubernetes_arch(share.arch)
    )


def stage_container(
    context: Context, job: ServingPlan, pool: Pool, index: int, shared: Sequence[Volume]
) -> Container:
    """Return the container of a pool: whole cores, its memory, workers held to the memory next to them.

    Notes
    -----
    The kubelet picks the cores: with its static CPU policy and one NUMA node per container they are next to
    one memory, so that ``numactl --localalloc`` is right wherever that is, while a host's domain number
    would be wrong as soon as plan and kubelet differ.
    """
    target, program = context.target, context.target.program(job.name, pool.name)
    workers = num_workers(pool.stage, pool.placement)
    memory = stage_memory(pool.stage, pool.placement, workers, target.sizing)
    command = ["numactl", "--localalloc", "--", *(program.command or ("stage-worker",)), *program.arguments]
    env = {
        "PLANNER_STAGE": pool.name,
        "PLANNER_WORKERS": str(workers),
        "PLANNER_PREFETCH": str(pool.placement.prefetch),
        "PLANNER_PORT": str(FIRST_PORT + index),
        "OMP_NUM_THREADS": str(pool.stage.parallel if pool.stage else 1),
        "HOME": "/tmp",
        **program.env,
    }
    port = f"stage-{index}"
    return Container(
        name=container_name(pool.name),
        image=program.image or STAGE_IMAGE,
        resources=resources(
            pool.placement.cores * target.sizing.threads_per_core,
            memory.total,
            scratch_bytes(target.sizing, cache=False),
            {},
        ),
        command=[literal(word) for word in command],
        env=env,
        ports={port: FIRST_PORT + index},
        volumes=[*scratch_volumes(target.sizing, cache=False), *shared],
        probes=socket_probes(port),
    )


def container_name(stage: str) -> str:
    """Return the name of a stage's container, which is never that of a GPU container."""
    name = dns_label(stage)
    return f"stage-{name}" if name in GPU_CONTAINERS else name


def addresses(job: ServingPlan, local: Sequence[Pool], remote: Sequence[Pool]) -> dict[str, str]:
    """Return the variables that tell a server where its stages listen."""
    found = {
        f"PLANNER_STAGE_{variable_part(pool.name)}": f"localhost:{FIRST_PORT + i}"
        for i, pool in enumerate(local)
    }
    for pool in remote:
        found[f"PLANNER_STAGE_{variable_part(pool.name)}"] = f"{stage_object(job, pool.name)}:{FIRST_PORT}"
    return found


def memory_modes(replica: Replica) -> dict[str, str]:
    """Return the variable that tells a server how the plan moves data between host and device."""
    modes = {move.name: move.mode for move in replica.transfers}
    return {"PLANNER_MEMORY_MODES": json.dumps(modes, sort_keys=True, separators=(",", ":"))} if modes else {}


def stage_object(job: ServingPlan, stage: str) -> str:
    """Return the name of the objects of a stage that has its own workload."""
    return dns_label(f"{job_name(job)}-{dns_label(stage)}")


def stage_objects(context: Context, job: ServingPlan, found: Sequence[Pool]) -> list[Json]:
    """Return the workloads of the pools that run apart from their server, stage by stage."""
    objects: list[Json] = []
    for stage in sorted({pool.name for pool in found}):
        objects += _one_stage(context, job, stage, [pool for pool in found if pool.name == stage])
    return objects


def _one_stage(context: Context, job: ServingPlan, stage: str, found: Sequence[Pool]) -> list[Json]:
    name, part_of = stage_object(job, stage), job_name(job)
    base = context.labels(name, name, "stage", part_of)
    selector = {"app.kubernetes.io/name": name}
    objects: list[Json] = [service_account(context, job, name, base)]
    groups = _groups(context, job, found)
    for index, (pool, per_node, nodes) in enumerate(groups):
        own = numbered(name, index, len(groups))
        labels = context.labels(name, own, "stage", part_of)
        spread = evenly({"app.kubernetes.io/instance": own}, len(nodes)) if len(nodes) > 1 else []
        affinity = node_affinity(nodes, [pool.arch], context.target)
        pod = pod_spec(
            context.target,
            name,
            [stage_container(context, job, pool, 0, [])],
            affinity=affinity,
            spread=spread,
            grace=30,
        )
        text = "; ".join(
            f"{item.replica}: {item.node.name}/{item.numa} cores {item.placement.core_list}"
            for item in sorted(found, key=lambda item: (natural_key(item.node.name), item.numa, item.replica))
            if item.node in nodes
        )
        objects.append(
            deployment(
                context,
                own,
                labels,
                context.annotations(job, placement=text),
                per_node * len(nodes),
                pod,
                300,
            )
        )
    objects.append(service(context, name, base, selector, "stage-0", FIRST_PORT))
    objects.append(disruption_budget(context, name, base, selector))
    objects.append(network_policy(context, name, base, selector, ["stage-0"], None))
    return objects


def _groups(context: Context, job: ServingPlan, found: Sequence[Pool]) -> list[tuple[Pool, int, list[Node]]]:
    """Return pools that need equal pods, equally many on every node of a group."""
    counts: dict[str, dict[str, int]] = {}
    example: dict[str, Pool] = {}
    for pool in found:
        shape = stage_container(context, job, pool, 0, []).manifest(context.target.user)
        key = json.dumps([shape, kubernetes_arch(pool.arch)], sort_keys=True)
        example.setdefault(key, pool)
        counts.setdefault(key, {}).setdefault(pool.node.name, 0)
        counts[key][pool.node.name] += 1
    return [
        (example[key], count, [context.topology.node_of[name] for name in names])
        for key, count, names in equal_counts(counts)
    ]


def equal_counts(counts: dict[str, dict[str, int]]) -> list[tuple[str, int, list[str]]]:
    """Return key, count and nodes of every group of nodes that hold equally many of one kind of pod."""
    groups: dict[tuple[str, int], list[str]] = {}
    for key, by_node in counts.items():
        for node, count in by_node.items():
            groups.setdefault((key, count), []).append(node)
    rows = [(key, count, sorted(names, key=natural_key)) for (key, count), names in groups.items()]
    return sorted(rows, key=lambda row: (natural_key(row[2][0]), row[1], row[0]))
