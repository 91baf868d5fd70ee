"""Serving in two pools: servers that compute prompts, servers that generate, and a router before them."""

from __future__ import annotations

from typing import Any

from planner.deploy.affinity import node_affinity
from planner.deploy.arguments import check_degrees
from planner.deploy.context import Context, job_name
from planner.deploy.groups import leader_worker_sets
from planner.deploy.names import dns_label, literal
from planner.deploy.pods import (
    Container,
    pod_spec,
    resources,
    scratch_bytes,
    scratch_volumes,
    socket_probes,
)
from planner.deploy.servers import Placed, place
from planner.deploy.services import deployment, disruption_budget, network_policy, service, service_account
from planner.deploy.single import deployments
from planner.deploy.stages import SERVER, stage_objects
from planner.deploy.target import GIB
from planner.deploy.validate import pod_templates
from planner.placement.plan import ServingPlan

Json = dict[str, Any]
ROLES = ("prefill", "decode")
ROUTER = "router"
ROUTER_IMAGE = "registry.example.org/pool-router:1.0.0"


def pool_objects(context: Context, job: ServingPlan) -> list[Json]:
    """Return all objects of a serving job in two pools.

    The label ``role`` tells their pods apart. The router hands a request to a server of the first pool and
    then, with its cache, to one of the second; which program does that is the target's (``JOB/router``).
    """
    name, remote = job_name(job), []
    base, selector = context.labels(name, name, SERVER, name), {"app.kubernetes.io/name": name}
    objects: list[Json] = [service_account(context, job, name, base)]
    for role, part in zip(ROLES, job.pools(), strict=True):
        check_degrees(part)
        placed = [place(context, part, replica, moves=True) for replica in part.replicas]
        remote += [pool for item in placed for pool in item.remote]
        objects += _servers(context, part, placed, role)
        chosen = {**selector, "app.kubernetes.io/component": SERVER, context.target.key("role"): role}
        objects.append(service(context, dns_label(f"{name}-{role}"), base, chosen, "http", 80))
    objects += _router(context, job)
    objects.append(disruption_budget(context, name, base, selector))
    objects.append(network_policy(context, name, base, selector, ["http"], selector))
    return objects + stage_objects(context, job, remote)


def _servers(context: Context, part: ServingPlan, placed: list[Placed], role: str) -> list[Json]:
    """Return the workloads of a pool: Deployments of what fits on a node, LeaderWorkerSets of the rest."""
    own = dns_label(f"{job_name(part)}-{role}")
    single = [item for item in placed if len(item.shares) == 1]
    spanning = [item for item in placed if len(item.shares) > 1]
    several = dns_label(f"{own}-group") if single else own
    found = [
        *deployments(context, part, single, own),
        *leader_worker_sets(context, part, several, spanning),
    ]
    for item in found:
        for template in pod_templates(item):
            template["metadata"]["labels"] = {
                **template["metadata"]["labels"],
                context.target.key("role"): role,
            }
    return found


def _router(context: Context, job: ServingPlan) -> list[Json]:
    """Return the router, on any of the nodes of the job, and the service that clients reach it by."""
    name, target = job_name(job), context.target
    program, own = target.program(job.name, ROUTER), dns_label(f"{job_name(job)}-{ROUTER}")
    labels = context.labels(name, own, ROUTER, name)
    nodes = list(
        {
            gpu.partition("/")[0]: context.topology.node_of[gpu.partition("/")[0]] for gpu in job.gpus()
        }.values()
    )
    container = Container(
        name=ROUTER,
        image=program.image or ROUTER_IMAGE,
        resources=resources(1, GIB, scratch_bytes(target.sizing, cache=False), {}),
        command=[literal(word) for word in program.command or ("pool-router",)],
        arguments=[
            *(f"--{role}=http://{dns_label(f'{name}-{role}')}:80" for role in ROLES),
            f"--port={target.port}",
            *(literal(word) for word in program.arguments),
        ],
        env={"HOME": "/tmp", **program.env},
        ports={"http": target.port},
        volumes=scratch_volumes(target.sizing, cache=False),
        probes=socket_probes("http"),
    )
    archs = [domain.arch for node in nodes for domain in node.machine.numa[:1]]
    affinity = node_affinity(nodes, archs, target)
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    pod = pod_spec(target, name, [container], affinity=affinity, tolerations=tolerations, grace=30)
    chosen = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": ROUTER}
    return [
        deployment(context, own, labels, context.annotations(job), 1, pod, 300),
        service(context, name, labels, chosen, "http", 80),
    ]
