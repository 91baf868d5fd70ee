"""Offers at a price: the front holds what nothing beats, targets and budgets pick from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import InfeasibleError, TopologyError
from planner.placement import ServingPlan, check_job, make_problem
from planner.solve import Budget, solve_job
from planner.study.inputs import Documents
from planner.study.pareto import Offer, cheapest, fastest, offers, pareto, with_prices
from planner.topology import load_topology
from planner.workload import Transformer
from tests.study import clusters
from tests.study.fleet_jobs import documents, training

PRICES = {"dgx-a100": 20.0, "dgx-h100": 50.0}


def priced() -> Documents:
    """Return a training job on a few nodes of two kinds that have prices."""
    inputs, cluster = documents([training("train")]), load_topology("dgx-a100-x4-h100-x4")
    chosen = [*cluster.nodes[:2], *cluster.nodes[-2:]]
    nodes = tuple(
        replace(node, machine=replace(node.machine, price=PRICES[node.machine.name])) for node in chosen
    )
    return replace(inputs, topology=replace(cluster, nodes=nodes))


def test_front_targets_and_budgets_agree_with_a_walk() -> None:
    """No offer beats one of the front on both; target and budget give the best of all offers."""
    found = offers(priced(), Budget(seconds=60.0))
    assert {(offer.machine, offer.nodes) for offer in found} == {(name, n) for name in PRICES for n in (1, 2)}
    assert all(offer.price == PRICES[offer.machine] * offer.nodes for offer in found)
    front = pareto(found)
    for offer in found:
        beaten = any(o.price <= offer.price and o.value <= offer.value and o != offer for o in found)
        assert (offer in front) != beaten
    for offer in found:
        assert cheapest(found, offer.value).price == min(o.price for o in found if o.value <= offer.value)
        assert fastest(found, offer.price).value == min(o.value for o in found if o.price <= offer.price)


def test_what_cannot_be_had_is_said() -> None:
    """A target below the fastest and a budget below the cheapest are infeasible, with the nearest."""
    found: list[Offer] = offers(priced(), Budget(seconds=60.0))
    with pytest.raises(InfeasibleError, match="fastest takes"):
        cheapest(found, 1e-9)
    with pytest.raises(InfeasibleError, match="cheapest costs 20"):
        fastest(found, 19.0)


def test_a_service_is_solved_anew_on_every_number_of_nodes() -> None:
    """Offers of a service that may have pools are those of a solve on as many nodes, and pools win some."""
    model = (
        "{dims: {name: small, layers: 16, hidden: 2048, ffn: 8192, heads: 8, kv_heads: 8, head_dim: 256, "
        "vocab: 32000}}"
    )
    job = (
        f"- {{kind: serving, name: chat, model: {model}, objective: gpus, slo: {{tpot_p99: 4 ms}}, "
        "degrees: {pp: [1], tp: [1, 2, 4], pools: [aggregated, disaggregated]}, "
        "traffic: {rate: 20 req/s, prompt: {mean: 4000, cv: 0.5}, output: {mean: 100, cv: 0.5}}}"
    )
    nodes = '[{name: "node-[0-1]", machine: box}]'
    inputs = clusters.documents(clusters.topology(clusters.box(gpus=4), nodes=nodes), job)
    found = offers(with_prices(inputs, {"box": 10.0}), Budget(seconds=60.0))
    assert [offer.price for offer in found] == [10.0, 20.0]
    for offer in found:
        part = replace(inputs.topology, nodes=inputs.topology.nodes[: offer.nodes])
        (resolved,) = inputs.workload.jobs
        free = resolved.job.model_copy(update={"objective": "p99_latency"})
        assert isinstance(resolved.model, Transformer)
        problem = make_problem(free, resolved.model, part, inputs.calibration)
        again = solve_job(problem, Budget(seconds=30.0), explain=False)
        assert offer.value == pytest.approx(again.value, rel=1e-9)
        assert check_job(problem, offer.plan) == []
    assert any(isinstance(offer.plan, ServingPlan) and offer.plan.prefill is not None for offer in found)


def test_a_cluster_without_prices_is_refused() -> None:
    """Machines that state no price give no offers, and the message says what to add."""
    with pytest.raises(TopologyError, match="price"):
        offers(documents([training("train")]), Budget(seconds=60.0))
