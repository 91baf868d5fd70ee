"""Summaries state the plan, its proof and its figures, for people and for programs."""

import json

from planner.placement import SimulatedLimit
from planner.report import plan_summary, summary_json
from planner.report.names import TIMES
from tests.report import factories, machines, simulations

KEYS = {
    "status", "objective", "bound", "gap", "solve_seconds", "baselines", "plan", "prediction", "memory",
    "links", "provenance", "limits",
}  # fmt: skip


def test_json_has_exactly_its_keys_and_plain_values() -> None:
    """The document for other programs is JSON with the promised keys, of any kind of plan."""
    where = machines.topology(nodes=4)
    for plan in (factories.training_plan(where), factories.serving_plan(where)):
        data = summary_json(plan, None, "out/plan.yaml")
        assert data.keys() == KEYS
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        assert data["plan"] == "out/plan.yaml"


def test_json_figures_are_those_of_the_plan() -> None:
    """Objective, ratios, the fullest stage and the ten busiest links are carried over unchanged."""
    plan = factories.training_plan(machines.topology(nodes=4))
    data = summary_json(plan, None, "plan.yaml")
    assert data["objective"] == {"name": "step_time", "value": 11.84, "unit": "s"}
    assert data["baselines"] == {"greedy": 1.21, "topology-blind": 1.64, "even split": None}
    assert data["provenance"] == {"assumed_share": 0.18}
    memory, links, prediction = data["memory"], data["links"], data["prediction"]
    assert isinstance(memory, dict) and isinstance(links, list) and isinstance(prediction, dict)
    job = plan.jobs[0]
    assert memory["largest_share"] == max(stage.total / stage.capacity for stage in job.memory)
    assert len(links) == 10
    assert [link["utilisation"] for link in links] == sorted(
        (x.utilisation for x in plan.links), reverse=True
    )[:10]
    assert prediction["step_time_s"] == 11.84


def test_simulated_percentiles_are_in_seconds() -> None:
    """A simulated serving plan gives each metric's percentiles, s, beside the predicted ones."""
    plan = factories.serving_plan(machines.topology(nodes=2))
    simulation = simulations.serving_simulation(plan, spans=10)
    prediction = summary_json(plan, simulation, "plan.yaml")["prediction"]
    assert isinstance(prediction, dict)
    assert prediction["latency_p99_s"] == 5.2
    assert prediction["simulated"]["latency_p99_s"] == simulation.jobs[0].latency["latency"].p99
    assert prediction["jobs"]["chat"]["ttft_p99_s"] == 0.31


def test_a_limit_that_the_simulation_breaks_is_in_the_status() -> None:
    """The status says by how much, never optimal; both figures are in the JSON."""
    limit = SimulatedLimit(job="chat", name="latency_p99", limit=4.0, predicted=3.5, simulated=5.0)
    plan = factories.serving_plan(machines.topology(nodes=2))
    broken = plan.model_copy(update={"status": "feasible", "simulated": [limit]})
    status = next(row[1] for row in plan_summary(broken).tables[0].rows if row[0] == "status")
    assert status == "feasible on paper; in simulation latency_p99 is 25.0% above its limit of 4.00 s"
    row = {"job": "chat", "name": "latency_p99", "limit_s": 4.0, "predicted_s": 3.5, "simulated_s": 5.0}
    assert summary_json(broken, None, "plan.yaml")["limits"] == [row]


def test_summary_says_what_was_decided_and_proven() -> None:
    """The sentence gives the degrees; tables give status, performance, memory, links, gains and reasons."""
    plan = factories.training_plan(machines.topology(nodes=4))
    summary = plan_summary(plan, simulations.training_simulation(plan))
    assert summary.sentence == (
        f"TP 8 {TIMES} PP 4, micro-batch 1 {TIMES} 16, selective recompute, "
        "optimizer states sharded (ZeRO-1), layers 20/20/20/20"
    )
    titles = [table.title for table in summary.tables]
    assert titles == [
        "Result", "Performance of pretrain", "Memory per device", "Busiest links",
        "Gain over simple rules", "Why",
    ]  # fmt: skip
    assert ("status", "feasible, at most 3.0 % from the optimum") in summary.tables[0].rows
    assert ("step time", "11.8 s", "12.1 s") in summary.tables[1].rows
    assert "18 %" in summary.notes[0]


def test_rows_fit_their_columns() -> None:
    """Every row of every table has a cell per column."""
    where = machines.topology(nodes=2)
    plan = factories.serving_plan(where)
    for simulation in (None, simulations.serving_simulation(plan, spans=10)):
        for table in plan_summary(plan, simulation).tables:
            assert {len(row) for row in table.rows} == {len(table.columns)}


def test_infeasible_alternatives_are_not_given_a_number() -> None:
    """Where an alternative or a rule has no feasible plan, the tables say so instead of a ratio."""
    summary = plan_summary(factories.training_plan(machines.topology(nodes=4)))
    cells = [cell for table in summary.tables for row in table.rows for cell in row]
    assert "not feasible" in cells
    assert "no feasible plan" in cells
