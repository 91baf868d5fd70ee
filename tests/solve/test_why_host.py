"""The multimodal service on four hosts: other plans, each with what lost and by how much."""

from __future__ import annotations

from functools import cache

import pytest

from planner.costs import load_calibration, transfer_options
from planner.costs.transfers import domain_copy
from planner.placement import Decision, ServingPlan
from planner.schema import loads, presets
from planner.solve import Budget
from planner.study import Documents, Study, solve
from planner.topology import load_topology, route
from planner.workload import WorkloadDocument, resolve

HOSTS = ("riscv-sg2044-pcie5", "riscv-nvlink-fusion", "dgx-h100", "gh200-dual")
MOST = 12.0
"""Requests/s that the smallest of them serves within the limit; the shipped rate is 30."""


@cache
def solved(host: str) -> Study:
    """Return the plan of the shipped service on a host, at a rate that all hosts hold."""
    text = (presets.folder("workloads") / "multimodal-serving.yaml").read_text(encoding="utf-8")
    workload = resolve(loads(text.replace("rate: 30 req/s", f"rate: {MOST:g} req/s"), WorkloadDocument))
    return solve(Documents(load_topology(host), workload, load_calibration()), Budget(seconds=30.0))


def job(host: str) -> ServingPlan:
    found = solved(host).plan.jobs[0]
    assert isinstance(found, ServingPlan)
    return found


def decisions(host: str) -> dict[str, Decision]:
    return {one.decision: one for one in solved(host).plan.why}


def test_the_same_service_is_placed_otherwise_on_every_host() -> None:
    """Degrees, replicas, memory modes and cores of the CPU stages follow the machine."""
    plans = {}
    for host in HOSTS:
        found = job(host)
        stages = [(one.stage, one.numa, one.core_list) for one in found.replicas[0].stages]
        modes = [one.mode for one in found.replicas[0].transfers]
        plans[host] = (found.strategy.tp, found.strategy.dp, tuple(modes), tuple(stages))
    assert len(set(plans.values())) == len(HOSTS)
    assert {host: plans[host][2][0] for host in HOSTS} == {
        "riscv-sg2044-pcie5": "pinned-copy", "dgx-h100": "pinned-copy",
        "riscv-nvlink-fusion": "coherent", "gh200-dual": "coherent",
    }  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_each_decision_names_what_lost_and_by_how_much(host: str) -> None:
    """Degrees, memory modes, NUMA domains and cores; a machine with one domain has no other."""
    found = decisions(host)
    assert {"tensor parallel", "replicas", "memory mode, inputs to GPU", "cores of jpeg-decode"} <= set(found)
    domains = len(load_topology(host).machine_types[0].numa)
    assert ("NUMA domain of jpeg-decode" in found) is (domains > 1)
    for one in found.values():
        assert one.alternative != one.chosen and one.reason
        assert one.loss is None or one.loss > -1e-9


def test_the_loss_of_another_domain_is_what_its_paths_add() -> None:
    """On a DGX H100 tokens cross the socket link to the far decoder, and its pictures come back over it."""
    found = decisions("dgx-h100")["NUMA domain of jpeg-decode"]
    assert (found.chosen, found.alternative) == ("numa0", "numa1")
    calibration, machine = load_calibration(), load_topology("dgx-h100").machine_types[0]
    gpu = job("dgx-h100").replicas[0].transfers[0].target
    near, far, between = (
        route(machine.graph, *ends) for ends in (("numa0", gpu), ("numa1", gpu), ("numa0", "numa1"))
    )
    assert near is not None and far is not None and between is not None
    pictures = [transfer_options(2408928.0, way, "none", calibration)[0].seconds for way in (near, far)]
    slower = pictures[1] - pictures[0] + domain_copy(480.0, between, calibration)
    assert found.loss is not None
    assert found.loss * solved("dgx-h100").plan.objective.value == pytest.approx(slower, rel=1e-6)


def test_one_core_fewer_waits_longer_or_cannot_keep_up() -> None:
    """A worker fewer decodes as quickly, so what grows is the wait: the loss is above zero."""
    for host in HOSTS:
        found = decisions(host)["cores of jpeg-decode"]
        assert int(found.alternative) == int(found.chosen) - 1
        assert found.loss is None or found.loss > 0.0
