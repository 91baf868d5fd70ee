"""Explanations name all five patterns, with numbers of the plan, and what limits it."""

from planner.placement import TrainingPlan
from planner.report import explanation
from planner.report.locality import reaches
from planner.report.patterns import PATTERNS, patterns_table
from tests.report import factories, machines, simulations


def test_every_pattern_is_spoken_of_in_order() -> None:
    """All five patterns appear; those without a flow say why they do not apply."""
    where = machines.topology(nodes=4)
    for plan, workload in (
        (factories.training_plan(where), factories.training_workload()),
        (factories.serving_plan(where), factories.serving_workload()),
    ):
        rows = patterns_table(plan, where, workload).rows
        assert list(dict.fromkeys(row[0] for row in rows)) == list(PATTERNS)
        assert all(row[3] for row in rows)
    absent = [row[0] for row in patterns_table(factories.training_plan(where), where).rows if not row[1]]
    assert absent == [PATTERNS[0], PATTERNS[1], PATTERNS[4]]


def test_reasons_are_numbers_of_the_plan() -> None:
    """CPU stages state their load and route, transfers the mode that lost, batching the limit."""
    where = machines.topology(nodes=2)
    rows = patterns_table(factories.serving_plan(where), where, factories.serving_workload()).rows
    text = {row[0]: " ".join(row[1:]) for row in reversed(rows)}
    assert "41 % busy, 2.20 ms per request; reaches its GPU by PHB at 55.0 GB/s" in text[PATTERNS[0]]
    assert "8.00 us; managed memory takes 30.0 us; the path is not coherent" in text[PATTERNS[1]]
    assert "p99 5.20 s of 6.00 s allowed" in text[PATTERNS[4]]


def test_tensor_groups_are_found_inside_a_node() -> None:
    """Tensor groups of 8 on nodes of 8 GPUs stay in the NVLink domain; pipelines cross the fabric."""
    where = machines.topology(nodes=4)
    (job,) = factories.training_plan(where, pp=4).jobs
    assert isinstance(job, TrainingPlan)
    found = {reach.axis: reach.level for reach in reaches(job, where)}
    tensor, pipeline = found["tensor"], found["pipeline"]
    assert tensor is not None and tensor.name == "nvlink"
    assert pipeline is not None and pipeline.name != "nvlink"
    assert tensor.rate > pipeline.rate


def test_limits_name_the_largest_part_the_fullest_stage_and_the_busiest_link() -> None:
    """What limits is told from the breakdown, the memory and the links."""
    where = machines.topology(nodes=4)
    plan = factories.training_plan(where)
    summary = explanation(plan, factories.training_workload(), where, simulations.training_simulation(plan))
    limits = next(table for table in summary.tables if table.title == "What limits")
    assert limits.rows[0] == ("time of pretrain", "compute", "8.10 s, 68 % of the step")
    assert limits.rows[2][1] == "stage 0, mostly activations"
    assert limits.rows[-1][1].startswith("node-0/nic0 → leaf-0-rail-0")


def test_losers_are_told_with_their_loss() -> None:
    """Every decision of the plan is there with the alternative and by how much it lost."""
    where = machines.topology(nodes=4)
    plan = factories.training_plan(where)
    rows = explanation(plan, None, where).tables[0].rows
    assert [(row[2], row[3]) for row in rows] == [
        ("4", "+12 %"), ("2", "not feasible"), ("tensor across nodes", "+64 %")
    ]  # fmt: skip


def test_local_names_of_parts_are_understood() -> None:
    """A NUMA domain or GPU named without its node is looked up on the replica's node."""
    where = machines.topology()
    plan = factories.serving_plan(where)
    job = plan.jobs[0]
    assert job.kind == "serving"
    replica = job.replicas[0]
    transfer = replica.transfers[0].model_copy(update={"source": "numa0", "target": "gpu0"})
    local = job.model_copy(update={"replicas": [replica.model_copy(update={"transfers": [transfer]})]})
    rows = patterns_table(plan.model_copy(update={"jobs": [local]}), where).rows
    assert any("the path is not coherent" in row[3] for row in rows)
