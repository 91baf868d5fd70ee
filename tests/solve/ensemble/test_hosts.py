"""One ensemble on four hosts: different placements, each with its reason; and what happens without one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from planner.costs import load_calibration
from planner.errors import InfeasibleError
from planner.placement import EnsemblePlan, EnsembleProblem, check_job, make_problem
from planner.placement.ensemble import design_of
from planner.placement.ensemble_judge import Judged
from planner.placement.ensemble_records import weighted_tail
from planner.solve.budget import Budget
from planner.solve.cuts import EnsembleCut, marks_of
from planner.solve.ensemble import solve_ensemble
from planner.solve.solution import JobSolution
from planner.topology import load_topology
from planner.workload import load_workload

HOSTS = ("riscv-sg2044-pcie5", "riscv-nvlink-fusion", "dgx-h100", "gh200-dual")


def problem(host: str, **fields: object) -> EnsembleProblem:
    """Return the multimodal ensemble on a host, without slices."""
    resolved = load_workload("multimodal-ensemble").jobs[0]
    allow = resolved.job.allow.model_copy(update={"mig": False})  # type: ignore[union-attr]
    job = resolved.job.model_copy(update={"allow": allow, **fields})
    made = make_problem(job, resolved.model, load_topology(host), load_calibration())
    assert isinstance(made, EnsembleProblem)
    return made


@cache
def solved(host: str) -> JobSolution:
    """Return its solution."""
    return solve_ensemble(problem(host), Budget(seconds=60.0), explain=False)


def placed(host: str) -> EnsemblePlan:
    """Return its plan."""
    plan = solved(host).plan
    assert isinstance(plan, EnsemblePlan)
    return plan


def shape(host: str) -> tuple[tuple[str, ...], tuple[object, ...], tuple[str, ...]]:
    """Return what is decided, without names of devices: sides, partners, sharing, modes."""
    plan = placed(host)
    hosted = tuple(sorted({pool.stage for pool in plan.pools}))
    groups = sorted(
        {
            (each.stage, tuple(each.classes), each.max_batch, each.priority, each.share)
            for each in plan.instances
        }
    )
    modes = tuple(sorted({str(each.mode) for each in plan.transfers}))
    return hosted, tuple(groups), modes


@pytest.mark.parametrize("host", HOSTS)
def test_the_placement_is_proven_and_legal(host: str) -> None:
    """On every host the search proves its plan, and the judge finds no broken rule."""
    assert solved(host).proven
    assert check_job(problem(host), placed(host)) == []


def test_every_host_gets_a_placement_of_its_own() -> None:
    """No two of the four hosts are given the same decisions."""
    assert len({shape(host) for host in HOSTS}) == len(HOSTS)


def test_the_coherent_host_decodes_on_its_cores_and_copies_nothing() -> None:
    """Two GPUs have no time for JPEGs, 144 cores have; over C2C the GPU reads their output in place."""
    hosted, _, modes = shape("gh200-dual")
    assert "jpeg-decode" in hosted
    assert "coherent" in modes
    assert "pinned-copy" not in modes
    assert "jpeg-decode" not in shape("riscv-sg2044-pcie5")[0]
    assert "coherent" not in shape("riscv-sg2044-pcie5")[2]


def test_decisions_are_explained_by_what_lost() -> None:
    """The side of the decoder, the priority and the modes each have an alternative and its loss."""
    found = solve_ensemble(problem("gh200-dual"), Budget(seconds=60.0)).decisions
    named = {each.decision: each for each in found}
    side = named["jpeg-decode: side"]
    assert (side.chosen, side.alternative) == ("host cores", "GPU")
    assert side.loss is None or side.loss > 0.0
    assert named["stream priority"].loss is not None
    assert any("memory mode" in name and each.loss is not None for name, each in named.items())


def test_the_domains_of_a_pool_are_compared_with_the_best_others() -> None:
    """Moved to another NUMA domain, all else alike, a pool gives what the judge says of the moved design."""
    ours = problem("dgx-h100")
    found = solve_ensemble(ours, Budget(seconds=60.0))
    assert isinstance(found.plan, EnsemblePlan)
    design = design_of(ours, found.plan)
    named = {each.decision: each for each in found.decisions if each.decision.endswith(": NUMA domains")}
    pooled = {pools.stage: pools for pools in design.pools if len(pools.domains) < len(ours.domains)}
    assert set(named) == {f"{ours.stages[stage].name}: NUMA domains" for stage in pooled}
    for stage, pools in pooled.items():
        told = named[f"{ours.stages[stage].name}: NUMA domains"]
        (other,) = {0, 1} - set(pools.domains)
        moved = [replace(each, domains=(other,)) if each is pools else each for each in design.pools]
        own, changed = Judged(ours, design), Judged(ours, replace(design, pools=tuple(moved)))
        assert told.alternative == ours.domains[other].name
        assert told.loss == pytest.approx(weighted_tail(changed) / weighted_tail(own) - 1.0)


def test_a_design_that_simulation_refuted_is_left_out() -> None:
    """With a cut the next design differs, holds the margin, and is no better than the first."""
    ours, first = problem("gh200-dual"), placed("gh200-dual")
    cut = EnsembleCut(marks_of(design_of(ours, first)), (("realtime", 1.5),), "a test")
    second = solve_ensemble(ours, Budget(seconds=60.0), explain=False, cuts=[cut])
    assert isinstance(second.plan, EnsemblePlan)
    assert marks_of(design_of(ours, second.plan)) != cut.marks
    assert second.value >= solved("gh200-dual").value
    limit = ours.classes[0].slo.latency_p99
    assert limit is not None
    assert second.plan.prediction.classes[0].latency_p99 <= limit / 1.5


def test_limits_that_nothing_holds_are_named_with_what_would() -> None:
    """A percentile of 1 ms is refused; the error names it and how much time or load would do."""
    classes = load_workload("multimodal-ensemble").jobs[0].job.classes  # type: ignore[union-attr]
    slo = classes[0].slo.model_copy(update={"latency_p99": 1e-3})
    tight = [classes[0].model_copy(update={"slo": slo}), classes[1]]
    with pytest.raises(InfeasibleError, match="photo-search") as caught:
        solve_ensemble(problem("gh200-dual", classes=tight), Budget(seconds=30.0))
    assert "latency_p99 of realtime" in str(caught.value)
