"""Recommenders and operator graphs from the document to every output, like any other job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.deploy import kubernetes_bundle, launch_files
from planner.errors import DocumentError, InfeasibleError
from planner.placement import OperatorsPlan, RecommenderPlan
from planner.report import explanation, plan_summary, render_report
from planner.report.summary import summary_json
from planner.schema import dump_yaml, load
from planner.simulate import simulate_plan
from planner.study import Study, check_study, load_documents, load_study
from planner.study.inputs import Sources
from tests.study.graphs_and_tables import CHAIN, OPERATORS, RECOMMENDER, solved, written

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A solved recommender and its folder."""
    folder = tmp_path_factory.mktemp("recommender")
    return folder, solved(folder, RECOMMENDER)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A solved operator graph whose stages may have copies, and its folder."""
    folder = tmp_path_factory.mktemp("chain")
    return folder, solved(folder, OPERATORS | {"replicate": True})


@pytest.mark.parametrize("which", ["recommender", "chain"])
def test_a_stored_plan_finds_its_inputs_and_is_legal(which: str, request: pytest.FixtureRequest) -> None:
    """The written plan loads with its inputs and the judge finds nothing wrong with it."""
    folder, study = request.getfixturevalue(which)
    (folder / "plan.yaml").write_text(dump_yaml(study.plan))
    again = load_study(folder / "plan.yaml")
    assert check_study(again) == []
    assert again.plan.content_digest == study.plan.content_digest


@pytest.mark.parametrize("which", ["recommender", "chain"])
def test_every_output_is_made(which: str, request: pytest.FixtureRequest) -> None:
    """Simulation, summary, explanation, page, manifests and launch files name the job and its objective."""
    _, study = request.getfixturevalue(which)
    (job,) = study.plan.jobs
    result = simulate_plan(study.problems, study.plan)
    (simulated,) = result.jobs
    assert simulated.kind == job.kind
    assert simulated.step_time is not None
    assert simulated.step_time >= study.plan.objective.value * (1 - 1e-6)
    titles = [table.title for table in plan_summary(study.plan, result).tables]
    assert any(job.name in title for title in titles)
    assert explanation(study.plan, study.workload.document, study.topology).tables
    assert job.name in render_report(study.plan, study.topology, result, study.workload.document)
    figures = json.loads(json.dumps(summary_json(study.plan, result, "plan.yaml")))
    assert figures["prediction"]["kind"] == job.kind
    assert any(job.name in name for name in kubernetes_bundle(study.plan, study.topology, study.workload))
    assert launch_files(study.plan, study.topology, study.workload)


def test_the_busiest_stage_has_copies(chain: tuple[Path, Study]) -> None:
    """Of three GPUs the 8 ms of the second operator get two; the host reads; the simulation agrees."""
    _, study = chain
    (job,) = study.plan.jobs
    assert isinstance(job, OperatorsPlan)
    copies = {key: len(stage.devices) for stage in job.stages for key in stage.operators}
    assert copies["second"] >= 2
    assert copies["read"] == 0
    assert sum(len(stage.devices) for stage in job.stages) <= 3
    (simulated,) = simulate_plan(study.problems, study.plan).jobs
    assert simulated.step_time == pytest.approx(job.prediction.interval, rel=1e-3)


@pytest.mark.parametrize("change", [{}, {"contiguous": False}, {"transfers": "links"}])
def test_full_pipelines_run_at_the_predicted_pace(change: dict[str, Any], tmp_path: Path) -> None:
    """Time between samples in the simulation is the load of the busiest device or link."""
    study = solved(tmp_path, OPERATORS | change)
    (simulated,) = simulate_plan(study.problems, study.plan).jobs
    assert study.plan.status == "optimal"
    assert simulated.step_time == pytest.approx(study.plan.objective.value, rel=0.02)
    assert study.plan.links
    assert max(link.utilisation for link in study.plan.links) <= 1.0 + 1e-9


def test_a_plan_over_links_says_what_its_freedoms_are_worth(tmp_path: Path) -> None:
    """On one GPU instead of two the operators of 3, 8 and 4 ms take 15 ms; parts in order never gain."""
    job = OPERATORS | {"transfers": "links", "contiguous": False, "budget": {"gpus": 2}}
    study = solved(tmp_path, job)
    assert study.plan.status == "optimal"
    found = {why.decision: why for why in study.plan.why}
    fewer, parts = found["GPUs"], found["stages"]
    assert (fewer.chosen, fewer.alternative) == ("2", "1")
    value = study.plan.objective.value
    assert fewer.loss == pytest.approx(15e-3 / value - 1.0, rel=0.02)  # all three on one GPU
    assert parts.loss is not None and parts.loss >= 0.0


def test_latency_is_that_of_one_sample(tmp_path: Path) -> None:
    """With latency as objective the simulated sample takes exactly the objective."""
    study = solved(tmp_path, OPERATORS | {"contiguous": False, "objective": "latency"})
    (simulated,) = simulate_plan(study.problems, study.plan).jobs
    assert study.plan.objective.name == "sample_latency"
    assert simulated.step_time == pytest.approx(study.plan.objective.value)


def test_slower_links_never_help(tmp_path: Path) -> None:
    """The same graph over links is no faster on PCIe than on NVLink devices of one calibration."""
    heavy = [dict(op, output="400 MB") if op["name"] != "read" else op for op in CHAIN]
    job = OPERATORS | {"transfers": "links", "operators": heavy}
    fast = solved(tmp_path, job, topology="dgx-h100").plan.objective.value
    slow = solved(tmp_path, job, topology="pcie-4090x8").plan.objective.value
    assert slow > fast


def _swap_stages(plan: dict[str, Any]) -> None:
    stages = plan["jobs"][0]["stages"]
    stages[0]["operators"], stages[1]["operators"] = stages[1]["operators"], stages[0]["operators"]


def _place_twice(plan: dict[str, Any]) -> None:
    stages = plan["jobs"][0]["stages"]
    stages[0]["operators"].append(stages[1]["operators"][0])


def _forget_load(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["stages"][0]["load"]["compute"] = "1 us"


def _claim_faster(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["prediction"]["interval"] = "1 us"


def _other_gpu(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["stages"][0]["devices"] = ["dgx-h100/gpu7"]


@pytest.mark.parametrize("fault", [_swap_stages, _place_twice, _forget_load, _claim_faster, _other_gpu])
def test_seeded_faults_of_operator_plans_are_found(fault: Change, chain: tuple[Path, Study]) -> None:
    """Stages swapped, an operator twice, a load or interval not costed, a GPU beyond the budget."""
    assert _broken(*chain, fault)


def _lose_rows(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["tables"][0]["rows"][0] -= 1


def _lose_table(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["tables"].pop()


def _understate_memory(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["memory"][0]["parts"]["tables"] = "1 MB"


def _other_tier(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["tables"][0]["tier"] = "host"


def _claim_quick_iteration(plan: dict[str, Any]) -> None:
    plan["jobs"][0]["prediction"]["embedding_time"] = "1 us"


@pytest.mark.parametrize(
    "fault", [_lose_rows, _lose_table, _understate_memory, _other_tier, _claim_quick_iteration]
)
def test_seeded_faults_of_recommender_plans_are_found(fault: Change, recommender: tuple[Path, Study]) -> None:
    """A row or table lost, bytes understated, a tier that the kernel does not have, a time not costed."""
    assert _broken(*recommender, fault)


def _broken(folder: Path, study: Study, fault: Change) -> list[str]:
    """Return what the judge finds in a plan with a fault."""
    data = yaml.safe_load(dump_yaml(study.plan))
    fault(data)
    (folder / "faulty.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return check_study(load_study(folder / "faulty.yaml"))


def test_the_sharding_map_holds_each_row_and_column_once(recommender: tuple[Path, Study]) -> None:
    """Areas of the shards of each table add up to the table, and lie inside it."""
    _, study = recommender
    (job,) = study.plan.jobs
    assert isinstance(job, RecommenderPlan)
    (text,) = (text for name, text in launch_files(study.plan, study.topology, study.workload).items()
               if name.endswith("sharding.json"))  # fmt: skip
    found = json.loads(text)
    assert found["world_size"] == 2
    for table in RECOMMENDER["tables"]:
        shards = found["tables"][table["name"]]["shards"]
        assert sum(rows * columns for rows, columns in (shard["size"] for shard in shards)) == (
            table["rows"] * table["dim"]
        )
        corners = {tuple(shard["offset"]) for shard in shards if shard["size"][0]}
        assert len(corners) == sum(1 for shard in shards if shard["size"][0])


def test_bad_tables_are_refused_with_their_lines(tmp_path: Path) -> None:
    """A CSV file beside the workload is read, and each of its mistakes has file and line."""
    (tmp_path / "tables.csv").write_text("table,rows,dim,pooling\na,100,16,1\nb,-3,16,1\nc,10,x,1\n")
    path = written(tmp_path, RECOMMENDER | {"tables": "tables.csv"})
    with pytest.raises(DocumentError) as caught:
        load_documents(Sources("dgx-h100", path))
    assert [(Path(problem.path).name, problem.line) for problem in caught.value.problems] == [
        ("tables.csv", 3), ("tables.csv", 4)
    ]  # fmt: skip


def test_what_fits_nowhere_is_infeasible(tmp_path: Path) -> None:
    """Tables beyond all memory, and operators beyond any device, end with the third exit code."""
    huge = [{"name": "huge", "rows": 10**11, "dim": 128, "pooling": 1}]
    with pytest.raises(InfeasibleError):
        solved(tmp_path, RECOMMENDER | {"tables": huge, "tiers": ["gpu"]})
    big = [{"name": "big", "accelerator_time": "1 ms", "size": "1 TB"}]
    with pytest.raises(InfeasibleError):
        solved(tmp_path, OPERATORS | {"operators": big})


def test_the_kinds_share_a_machine(tmp_path: Path) -> None:
    """A recommender and an operator graph on one node get disjoint GPUs."""
    graph = {name: value for name, value in OPERATORS.items() if name != "budget"}
    tables = {name: value for name, value in RECOMMENDER.items() if name != "budget"}
    study = solved(tmp_path, graph, tables, topology="gh200-quad", seconds=20.0)
    used = [gpu for job in study.plan.jobs for gpu in job.gpus()]
    assert len(set(used)) == len(used)
    assert check_study(study) == []


def test_the_plan_document_keeps_its_form(recommender: tuple[Path, Study]) -> None:
    """A written plan is read back equal."""
    folder, study = recommender
    path = folder / "same.yaml"
    path.write_text(dump_yaml(study.plan))
    assert load(path, type(study.plan)) == study.plan
