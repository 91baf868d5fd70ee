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
    whole_pods = context.whole_pods
    if context.target.portable:
        spanning, whole_pods = _alike(context, spanning), _alike(context, whole_pods)
    loose, whole = Kubelet(topology_manager="best-effort"), Kubelet(topology_scope="pod")
    needed = dict.fromkeys(whole_pods, whole) | dict.fromkeys(spanning, loose)
    return {node.name: stated or needed.get(node.name, Kubelet()) for node in context.topology.nodes}


def _alike(context: Context, names: set[str]) -> set[str]:
    """Return the nodes of the machine types of some nodes."""
    types = {node.machine.name for node in context.topology.nodes if node.name in names}
    return {node.name for node in context.topology.nodes if node.machine.name in types}


def staged_nodes(context: Context) -> set[str]:
    """Return the nodes on which every stage lies on the NUMA domain of the GPUs of its replica."""
    together: dict[str, bool] = {}
    for job in context.plan.jobs:
        reader = context.reader(job)
        for pool in job.pools() if isinstance(job, ServingPlan) else ():
            for replica in pool.replicas:
                for share in reader.shares(replica.gpus())[:1]:
                    places = [reader.stage_place(replica, stage) for stage in replica.stages]
                    beside = [numa for node, numa in places if node.name == share.node.name]
                    alike = bool(beside) and {*beside} == {*share.numas}
                    together[share.node.name] = together.get(share.node.name, True) and alike
    return {name for name, alike in together.items() if alike} - spanning_nodes(context)


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
