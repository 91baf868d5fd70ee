"""Policies of the kubelets: what each node must have for a plan, and what a stated policy cannot give."""

from __future__ import annotations

from collections.abc import Iterator

from planner.deploy.capacity import pods_of
from planner.deploy.context import Context
from planner.deploy.platform import Kubelet
from planner.placement.plan import ServingPlan

HOLDING = ("single-numa-node", "restricted")
"""Policies under which a container that fits into one NUMA domain is never spread over two."""


def spanning_nodes(context: Context) -> set[str]:
    """Return the nodes on which a pod takes GPUs of several NUMA domains, which nothing can align."""
    return {
        share.node.name
        for job in context.plan.jobs
        for gpus in pods_of(job)
        for share in context.reader(job).shares(gpus)
        if len(share.numas) > 1
    }


def policies(context: Context) -> dict[str, Kubelet]:
    """Return the policies of every node: the stated ones, else those that the plan needs there.

    Where a plan is portable its pods may go to any node of a machine type, which then all need the same.
    """
    stated, spanning = context.target.platform.kubelet, spanning_nodes(context)
    if context.target.portable:
        types = {node.machine.name for node in context.topology.nodes if node.name in spanning}
        spanning = {node.name for node in context.topology.nodes if node.machine.name in types}
    loose = Kubelet(topology_manager="best-effort")
    return {
        node.name: stated or (loose if node.name in spanning else Kubelet())
        for node in context.topology.nodes
    }


def kubelet_problems(context: Context) -> Iterator[str]:
    """Yield what the stated policies cannot give a plan."""
    stated = context.target.platform.kubelet
    if stated is None:
        return
    pinned = sorted(
        {
            f"{job.name}/{stage.stage}"
            for job in context.plan.jobs
            if isinstance(job, ServingPlan)
            for pool in job.pools()
            for replica in pool.replicas
            for stage in replica.stages
        }
    )
    held = stated.cpu_manager == "static" and stated.topology_manager in HOLDING
    if pinned and not held:
        yield (
            f"the plan holds {', '.join(pinned[:4])} to cores of one NUMA domain, which kubelets with "
            f"cpuManagerPolicy {stated.cpu_manager} and topologyManagerPolicy {stated.topology_manager} do "
            "not do; use static and single-numa-node"
        )
    spanning = sorted(spanning_nodes(context))
    if spanning and stated.topology_manager == "single-numa-node":
        yield (
            f"pods on {', '.join(spanning[:4])} take GPUs of several NUMA domains, which kubelets with "
            "topologyManagerPolicy single-numa-node turn away; use best-effort there, or a smaller tp"
        )
