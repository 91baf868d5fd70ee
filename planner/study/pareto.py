"""Price against time: what numbers of nodes give to a job, and which of them nothing beats on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import InfeasibleError, TopologyError, WorkloadError
from planner.placement import JobPlan
from planner.solve import Budget
from planner.study.fleet import Worth
from planner.study.inputs import Documents
from planner.workload import ResolvedJob, ServingJob, TrainingJob, Transformer


@dataclass(frozen=True)
class Offer:
    """A plan of a job on some nodes of one kind.

    Attributes
    ----------
    price
        Price of the nodes, USD/h.
    value
        The job's objective: step time or p99 latency, s.
    """

    machine: str
    nodes: int
    price: float
    value: float
    plan: JobPlan

    @property
    def per_step(self) -> float:
        """Price of a step (or of the time of a request at the 99th percentile), USD."""
        return self.price * self.value / 3600.0


def offers(documents: Documents, budget: Budget, job: str | None = None) -> list[Offer]:
    """Return what each machine with a price gives in 1, 2, 4, ... nodes and all of them, cheapest first.

    All nodes of an offer serve one job: a service may divide them in replicas or in pools.

    Raises
    ------
    TopologyError
        If no machine states a price.
    WorkloadError
        If there is no such job, or it runs no transformer.
    InfeasibleError
        If the job fits on none of the offers.
    NoPlanError
        If the time ended first.
    """
    resolved = _job(documents, job)
    worth = Worth(documents, budget)
    found: list[Offer] = []
    priced = {name: part.nodes[0].machine.price for name, part in worth.machines.items()}
    if all(price is None for price in priced.values()):
        raise TopologyError(
            f"no machine of {documents.topology.name!r} states a 'price'; add it in USD/h or use --price"
        )
    for machine, price in priced.items():
        part = worth.machines[machine]
        for count in _counts(len(part.nodes)) if price is not None else []:
            alone = worth.together(resolved, machine, count)
            if alone is not None and price is not None:
                found.append(Offer(machine, count, price * count, alone.value, alone.plan()))
    if not found:
        raise InfeasibleError(f"job {resolved.job.name!r} fits on no number of nodes that has a price")
    return sorted(found, key=lambda offer: (offer.price, offer.value))


def with_prices(documents: Documents, prices: Mapping[str, float]) -> Documents:
    """Return documents whose machines have other prices, USD/h.

    Raises
    ------
    TopologyError
        If the topology has no machine of a name.
    """
    topology = documents.topology
    known = {machine.name: machine for machine in topology.machine_types}
    for name in prices:
        if name not in known:
            have = ", ".join(known)
            raise TopologyError(f"topology {topology.name!r} has no machine {name!r} to price; it has {have}")
    priced = {name: replace(known[name], price=price) for name, price in prices.items()}
    nodes = tuple(
        replace(node, machine=priced.get(node.machine.name, node.machine)) for node in topology.nodes
    )
    return replace(documents, topology=replace(topology, nodes=nodes)) if prices else documents


def _job(documents: Documents, name: str | None) -> ResolvedJob:
    jobs = {one.job.name: one for one in documents.workload.jobs}
    if name is not None and name not in jobs:
        raise WorkloadError(f"the workload has no job {name!r}; it has {', '.join(jobs)}")
    found = next(iter(jobs.values())) if name is None else jobs[name]
    if not isinstance(found.job, TrainingJob | ServingJob) or not isinstance(found.model, Transformer):
        raise WorkloadError(f"job {found.job.name!r}: only jobs that run a transformer get offers at a price")
    return found


def _counts(most: int) -> list[int]:
    return sorted({*(2**power for power in range(most.bit_length())), most})


def pareto(found: Sequence[Offer]) -> list[Offer]:
    """Return the offers that no other one beats in price without being slower, cheapest first."""
    front: list[Offer] = []
    for offer in sorted(found, key=lambda offer: (offer.price, offer.value)):
        if not front or offer.value < front[-1].value:
            front.append(offer)
    return front


def cheapest(found: Sequence[Offer], target: float) -> Offer:
    """Return the offer of least price that is at least as fast as a target, s.

    Raises
    ------
    InfeasibleError
        If none is.
    """
    enough = [offer for offer in found if offer.value <= target]
    if not enough:
        fastest = min(offer.value for offer in found)
        raise InfeasibleError(f"no offer takes at most {target:g} s; the fastest takes {fastest:.4g} s")
    return min(enough, key=lambda offer: (offer.price, offer.value))


def fastest(found: Sequence[Offer], price: float) -> Offer:
    """Return the fastest offer within a price, USD/h.

    Raises
    ------
    InfeasibleError
        If none is within it.
    """
    within = [offer for offer in found if offer.price <= price]
    if not within:
        least = min(offer.price for offer in found)
        raise InfeasibleError(f"no offer costs at most {price:g} USD/h; the cheapest costs {least:g}")
    return min(within, key=lambda offer: (offer.value, offer.price))
