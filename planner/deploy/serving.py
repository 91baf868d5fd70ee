"""Serving jobs: all objects."""

from __future__ import annotations

from typing import Any

from planner.deploy.arguments import check_degrees
from planner.deploy.context import Context, job_name
from planner.deploy.disaggregated import pool_objects
from planner.deploy.groups import leader_worker_sets
from planner.deploy.names import dns_label
from planner.deploy.servers import place
from planner.deploy.services import disruption_budget, network_policy, service, service_account
from planner.deploy.single import deployments
from planner.deploy.stages import SERVER, stage_objects
from planner.placement.plan import ServingPlan

Json = dict[str, Any]


def serving_objects(context: Context, job: ServingPlan) -> list[Json]:
    """Return all objects of a serving job."""
    if job.prefill is not None:
        return pool_objects(context, job)
    check_degrees(job)
    placed = [place(context, job, replica) for replica in job.replicas]
    name = job_name(job)
    base, selector = context.labels(name, name, SERVER, name), {"app.kubernetes.io/name": name}
    objects: list[Json] = []
    if any(item.shares for item in placed):
        servers = {**selector, "app.kubernetes.io/component": SERVER}
        spans = any(len(item.shares) > 1 for item in placed)
        objects.append(service_account(context, job, name, base))
        single = [item for item in placed if len(item.shares) == 1]
        objects += deployments(context, job, single, name)
        several = dns_label(f"{name}-group") if single else name
        objects += leader_worker_sets(
            context, job, several, [item for item in placed if len(item.shares) > 1]
        )
        objects.append(service(context, name, base, servers, "http", 80))
        objects.append(disruption_budget(context, name, base, selector))
        objects.append(network_policy(context, name, base, selector, ["http"], selector if spans else None))
    return objects + stage_objects(context, job, [pool for item in placed for pool in item.remote])
