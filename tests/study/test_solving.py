"""One job: the best group of equal GPUs, the proof over all of them, the busiest links."""

from __future__ import annotations

import pytest

from planner.errors import InfeasibleError, NoPlanError, WorkloadError
from planner.solve import Budget, JobSolution, solve_job
from planner.study import solve
from tests.study.clusters import box, documents, serving, topology, training

TWO_KINDS = "[{name: fast, machine: new}, {name: slow, machine: old}]"


def test_a_plan_never_mixes_kinds_of_gpus_and_takes_the_best_kind() -> None:
    """On a mixed cluster the job goes to the kind where it is fastest, and the proof covers the others."""
    mixed = topology(box("new", "h200-sxm"), box("old", "a100-sxm-80"), nodes=TWO_KINDS)
    study = solve(documents(mixed, serving("chat")), Budget())
    assert {gpu.split("/")[0] for gpu in study.plan.jobs[0].gpus()} == {"fast"}
    assert study.plan.status == "optimal"
    assert study.plan.why
    only = solve(
        documents(topology(box("new", "h200-sxm"), nodes="[{name: fast, machine: new}]"), serving("chat")),
        Budget(),
    )
    assert study.plan.objective.value == pytest.approx(only.plan.objective.value)


def test_nodes_without_a_fabric_are_used_one_at_a_time() -> None:
    """GPUs that cannot reach one another are never in one plan of a job."""
    apart = topology(box(), nodes='[{name: "node-[0-1]", machine: box}]', fabric=False)
    study = solve(documents(apart, training("train")), Budget())
    assert len({gpu.split("/")[0] for gpu in study.plan.jobs[0].gpus()}) == 1


def test_what_fits_on_no_kind_is_refused_for_each_of_them() -> None:
    """The error names every kind of GPU that was tried."""
    mixed = topology(box("new", "h200-sxm"), box("old", "a100-sxm-80"), nodes=TWO_KINDS)
    with pytest.raises(InfeasibleError) as caught:
        solve(documents(mixed, training("train", "llama3-405b")), Budget())
    assert "h200-sxm" in str(caught.value)
    assert "a100-sxm-80" in str(caught.value)


def test_a_group_that_was_not_searched_in_time_opens_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan found on one group is kept, but not called optimal, when another group ran out of time."""
    real = solve_job

    def partly(problem: object, *args: object, **kwargs: object) -> JobSolution:
        if problem.device.name == "a100-sxm-80":  # type: ignore[attr-defined]
            raise NoPlanError("late", bound=1e-3)
        return real(problem, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("planner.study.solving.solve_job", partly)
    mixed = topology(box("new", "h200-sxm"), box("old", "a100-sxm-80"), nodes=TWO_KINDS)
    study = solve(documents(mixed, serving("chat")), Budget())
    assert study.plan.status == "feasible"
    assert study.plan.bound == 1e-3


def test_a_machine_without_gpus_is_refused() -> None:
    """The error names the machine and the job."""
    text = box().replace('  - {name: "gpu[0-1]", device: h100-sxm-80, numa: numa0}', "")
    text = text.replace("  gpus:\n", "").replace(
        '  - {between: ["gpu[0-1]", numa0], kind: pcie, bandwidth: 50 GB/s, latency: 500 ns}\n', ""
    )
    with pytest.raises(WorkloadError, match="has no GPU"):
        solve(documents(topology(text), serving("chat")), Budget())


def test_the_busiest_links_come_first() -> None:
    """Links are sorted by utilisation, which is load over rate."""
    study = solve(documents(topology(box(gpus=8, cores=32)), serving("chat", "llama3-70b")), Budget())
    links = study.plan.links
    assert links
    assert [link.utilisation for link in links] == sorted((link.utilisation for link in links), reverse=True)
    assert all(link.utilisation == pytest.approx(link.load / link.rate) for link in links)
