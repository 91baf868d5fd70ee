"""Several jobs: shares of whole units, disjoint GPUs and cores, a bound that holds."""

from __future__ import annotations

from itertools import product

import pytest

from planner.errors import InfeasibleError, NoPlanError
from planner.placement import ServingPlan
from planner.solve import Budget, solve_job
from planner.study import check_study, solve
from planner.study.hosts import clashing_cores, fair_part
from planner.study.sharing import ShareSearch, make_share, unit_pools
from tests.study.clusters import box, documents, serving, topology, training

FOUR = '[{name: "node-[0-3]", machine: box}]'


def test_jobs_on_a_cluster_get_whole_nodes_of_their_own() -> None:
    """No node serves two jobs, the judge accepts the plan, and decisions say whose they are."""
    study = solve(documents(topology(box(), nodes=FOUR), training("a"), training("b", batch=16)), Budget())
    nodes = [{gpu.split("/")[0] for gpu in job.gpus()} for job in study.plan.jobs]
    assert not nodes[0] & nodes[1]
    assert check_study(study) == []
    assert study.plan.objective.name == "mean_slowdown"
    assert study.plan.bound <= study.plan.objective.value
    assert {decision.decision.split(":")[0] for decision in study.plan.why} == {"a", "b"}


def test_shares_are_as_good_as_trying_all_of_them() -> None:
    """The chosen sizes have the least mean slowdown of all sizes that fit, and the bound says the same."""
    inputs = documents(
        topology(box(), nodes=FOUR), training("a", batch=64), training("b", "llama3-8b", batch=16)
    )
    units = unit_pools(inputs.topology, 2)[0]

    def value(job: int, count: int) -> float:
        gpus = [gpu for unit in units[:count] for gpu in unit]
        try:
            problem = make_share(inputs, inputs.workload.jobs[job], gpus)
            return solve_job(problem, Budget(), explain=False).value
        except InfeasibleError:
            return float("inf")

    table = [[value(job, count) for count in range(1, 5)] for job in range(2)]
    alone = [min(row) for row in table]
    best = min(
        (table[0][a - 1] / alone[0] + table[1][b - 1] / alone[1]) / 2
        for a, b in product(range(1, 4), repeat=2)
        if a + b <= 4
    )
    shares = ShareSearch(inputs, Budget()).run()
    assert shares.bound == pytest.approx(best)
    study = solve(inputs, Budget())
    assert study.plan.objective.value == pytest.approx(best, rel=1e-6)
    assert study.plan.status == "optimal"


def test_jobs_on_one_node_have_gpus_and_cores_of_their_own() -> None:
    """CPU stages of different jobs never share a core, even in one NUMA domain."""
    study = solve(documents(topology(box(gpus=4)), serving("a"), serving("b"), serving("c")), Budget())
    gpus = [gpu for job in study.plan.jobs for gpu in job.gpus()]
    assert len(gpus) == len(set(gpus))
    assert clashing_cores(study.plan) == []
    lists = [
        stage.core_list
        for job in study.plan.jobs
        if isinstance(job, ServingPlan)
        for replica in job.replicas
        for stage in replica.stages
    ]
    assert len(lists) == len(set(lists)) == 3


def test_parts_of_a_node_have_disjoint_cores() -> None:
    """Whatever GPUs two jobs get of a node, their cores differ, and together they are all cores."""
    whole = topology(box(gpus=4))
    first, second = (fair_part(whole, [f"box/gpu{n}" for n in numbers]) for numbers in ((0, 2), (1, 3)))
    cores = [set(part.nodes[0].machine.numa[0].core_numbers) for part in (first, second)]
    assert not cores[0] & cores[1]
    assert cores[0] | cores[1] == set(range(12))


def test_a_clash_of_cores_is_found() -> None:
    """The judge of several jobs names the jobs, the cores and the NUMA domain."""
    study = solve(documents(topology(box(gpus=2)), serving("a"), serving("b")), Budget())
    first, second = study.plan.jobs
    assert isinstance(first, ServingPlan)
    same = second.model_copy(update={"replicas": first.replicas})
    plan = study.plan.model_copy(update={"jobs": [first, same]})
    (problem,) = clashing_cores(plan)
    assert "a and b both use cores" in problem
    assert "box/numa0" in problem


def test_jobs_that_do_not_fit_together_say_what_they_need() -> None:
    """Each job fits alone, both together do not: the conflict names each job's least share."""
    inputs = documents(
        topology(box(gpus=8), nodes='[{name: "node-[0-1]", machine: box}]'),
        training("a", "llama3-70b"),
        training("b", "llama3-70b"),
    )
    with pytest.raises(InfeasibleError) as caught:
        solve(inputs, Budget())
    assert caught.value.remedy
    assert caught.value.conflicts


def test_jobs_on_different_kinds_of_gpus_are_placed_apart() -> None:
    """On a mixed cluster every job has GPUs of one kind."""
    mixed = topology(
        box("new", "h200-sxm"),
        box("old", "a100-sxm-80"),
        nodes="[{name: fast, machine: new}, {name: slow, machine: old}]",
    )
    study = solve(documents(mixed, serving("a"), serving("b")), Budget())
    nodes = [{gpu.split("/")[0] for gpu in job.gpus()} for job in study.plan.jobs]
    assert sorted(map(sorted, nodes)) == [["fast"], ["slow"]]


def test_of_equal_groups_only_as_many_as_jobs_are_searched() -> None:
    """Many nodes that do not reach one another are tried no more often than there are jobs."""
    apart = topology(box(), nodes='[{name: "node-[0-9]", machine: box}]', fabric=False)
    assert len(unit_pools(apart, jobs=2)) == 2


def test_an_interrupt_before_every_job_has_a_plan_is_no_claim_of_infeasibility() -> None:
    """Stopped at once, the search says that it was interrupted."""
    inputs = documents(topology(box(), nodes=FOUR), training("a"), training("b"))
    with pytest.raises(NoPlanError, match="interrupted"):
        solve(inputs, Budget(stopped=lambda: True))


def test_an_interrupt_between_shares_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once every job has a plan on some share an interrupt leads to a legal plan with an honest bound."""
    inputs = documents(topology(box(), nodes=FOUR), training("a", batch=64), training("b"))
    full = solve(inputs, Budget())
    asked: list[bool] = []
    real = ShareSearch._open

    def interrupting(self: ShareSearch, hoped: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        asked.append(True)
        return real(self, hoped)

    monkeypatch.setattr(ShareSearch, "_open", interrupting)
    study = solve(inputs, Budget(stopped=lambda: bool(asked)))
    assert asked
    assert check_study(study) == []
    best = full.plan.objective.value
    assert study.plan.bound <= best * (1 + 1e-9)
    assert study.plan.objective.value >= best * (1 - 1e-9)
