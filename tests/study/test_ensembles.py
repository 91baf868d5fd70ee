"""Ensembles through the whole program: solved, shown, emitted, solved again where simulation refutes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from planner.deploy import launch_files
from planner.errors import InfeasibleError
from planner.placement import EnsemblePlan
from planner.placement.plan import Plan
from planner.report.explain import explanation
from planner.report.summary import performance_table
from planner.schema import dump_yaml, load
from planner.simulate.result import JobSimulation, Percentiles, SimulationResult
from planner.solve import Budget
from planner.solve.cuts import AnyCut, EnsembleCut
from planner.study import Documents, Study, Wishes, solve
from planner.study.inputs import Sources, load_documents
from planner.study.refine import refine

TEXT = """schema: workload/1
name: small
jobs:
- kind: ensemble
  name: pipe
  classes:
  - {name: fast, rate: 100 req/s, slo: {latency_p99: 40 ms}}
  - {name: bulk, rate: 10 req/s, items: 8}
  stages:
  - {name: decode, cpu: {work: 2 ms}, bytes_in: 100 kB, bytes_out: 600 kB}
  - name: encode
    gpu: {flops: 0.3 TFLOP, weights: 600 MB, kernels: 100, max_batch: 16}
    bytes_in: 600 kB
    bytes_out: 1 MB
  - {name: write, cpu: {work: 500 us}, bytes_in: 1 MB, bytes_out: 1 kB}
"""


@cache
def documents() -> Documents:
    """Return a small ensemble on a machine with two coherent hosts."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    (folder / "small.yaml").write_text(TEXT, encoding="utf-8")
    return load_documents(Sources("gh200-dual", str(folder / "small.yaml")))


def solved(cuts: tuple[AnyCut, ...] = ()) -> Study:
    """Return the plan of the small ensemble."""
    return solve(documents(), Budget(seconds=30.0), None, Wishes(cuts=cuts))


def seen(study: Study, ratio: float) -> SimulationResult:
    """Return a simulation in which percentiles are a multiple of those predicted."""
    plan = study.plan.jobs[0]
    assert isinstance(plan, EnsemblePlan)
    said = plan.prediction.classes
    latency = {each.name: sample(each.latency_mean, each.latency_p99 * ratio) for each in said}
    job = JobSimulation(name=plan.name, kind="ensemble", latency=latency)
    return SimulationResult(plan=study.plan.name, plan_digest="", seed=0, horizon=1.0, jobs=[job], links=[])


def sample(mean: float, tail: float) -> Percentiles:
    """Return percentiles of which only the mean and the last matter."""
    ends = (tail, tail)
    return Percentiles(
        count=1, mean=mean, p50=mean, p95=tail, p99=tail,
        p50_interval=ends, p95_interval=ends, p99_interval=ends,
    )  # fmt: skip


def test_a_plan_survives_its_file_and_names_what_it_decides(tmp_path: Path) -> None:
    """Written and read the plan is the same; tables, reasons and launch files show the stages."""
    study = solved()
    path = tmp_path / "plan.yaml"
    path.write_text(dump_yaml(study.plan), encoding="utf-8")
    assert load(path, Plan) == study.plan
    shown = explanation(study.plan, study.workload.document, study.topology)
    assert {"decode", "encode"} <= {str(row[0]) for table in shown.tables for row in table.rows}
    assert any("fast" in row[0] for row in performance_table(study.plan.jobs[0], None).rows)
    files = launch_files(study.plan, study.topology, study.workload)
    config = next(text for name, text in files.items() if name.endswith("config.pbtxt"))
    assert "dynamic_batching" in config
    assert "preferred_batch_size" in config
    mapped = json.loads(files["pipe/ensemble.json"])
    assert {each["stage"] for each in mapped["instances"]} == {"encode"}


def test_a_refuted_design_is_cut_and_the_next_one_keeps_the_margin() -> None:
    """A simulation above the limit cuts the design; the plan that is kept is not called optimal then."""
    first = solved()
    predicted = first.plan.jobs[0].prediction.classes[0].latency_p99  # type: ignore[union-attr]
    ratio = 1.05 * 0.04 / predicted
    asked: list[tuple[AnyCut, ...]] = []

    def again(cuts: tuple[AnyCut, ...]) -> Study:
        asked.append(cuts)
        return solved(cuts)

    answers = iter([ratio, 1.0])
    best = refine(first, lambda study: seen(study, next(answers)), Budget(60.0), again)
    assert len(asked) == 1
    assert isinstance(asked[0][0], EnsembleCut)
    assert dict(asked[0][0].excess)["fast"] == pytest.approx(ratio)
    assert best.excess <= 0.0
    assert best.study.plan.status == "feasible"
    assert "left out, as their simulation breaks a limit" in best.study.plan.proof


def test_without_time_for_another_design_the_plan_says_by_how_much_it_fails() -> None:
    """A refuted plan that cannot be solved again is feasible on paper only, and its proof has the figure."""
    first = solved()
    predicted = first.plan.jobs[0].prediction.classes[0].latency_p99  # type: ignore[union-attr]
    best = refine(first, lambda study: seen(study, 0.044 / predicted), Budget(60.0))
    assert best.study.plan.status == "feasible"
    assert "10.0% above its limit" in best.study.plan.proof
    assert best.excess == pytest.approx(0.1)


def test_where_every_design_is_refuted_the_error_says_what_would_hold() -> None:
    """When nothing is left the command ends as infeasible and names the limit that is missing."""
    first = solved()

    def again(cuts: tuple[AnyCut, ...]) -> Study:
        raise InfeasibleError("nothing", remedy="")

    with pytest.raises(InfeasibleError, match="latency_p99 of fast"):
        refine(first, lambda study: seen(study, 100.0), Budget(60.0), again)
