"""Two plans side by side: what differs is told, what does not is not, and nothing else."""

from pathlib import Path

import pytest

from planner.placement.plan import Plan
from planner.report.comparison import Comparison, Side, compare
from planner.report.comparison_page import comparison_summary, link_changes, render_comparison, verdict
from planner.topology import Topology
from tests.report import factories, machines, simulations
from tests.report.test_page import read


@pytest.fixture(scope="module")
def where() -> Topology:
    return machines.topology(nodes=4)


def sides(before: Plan, after: Plan, *, simulated: bool = True) -> Comparison:
    run = (
        simulations.serving_simulation
        if before.jobs[0].kind == "serving"
        else simulations.training_simulation
    )
    made = [Side(Path(f"{at}/plan.yaml"), plan, run(plan) if simulated else None) for at, plan in
            (("old", before), ("new", after))]  # fmt: skip
    return compare(*made)


def test_a_plan_against_itself_differs_in_nothing(where: Topology) -> None:
    """No decision, no figure, no link and no input differs between a plan and itself."""
    plan = factories.training_plan(where)
    found = sides(plan, plan)
    assert not any(each.changed for each in found.decisions)
    assert {each.change for each in found.figures} <= {0.0, None}
    assert found.links == ()
    assert all(found.inputs.values())
    assert verdict(found) == "Equal in step time; no decision differs."


def test_changed_degrees_and_their_reason_are_told(where: Topology) -> None:
    """Another tensor degree is the decision that differs, with the reason that the second plan gives."""
    old, new = factories.training_plan(where, tp=8, pp=2), factories.training_plan(where, tp=4, pp=2)
    reason = "four fit"
    why = [new.why[0].model_copy(update={"decision": "tensor parallel", "reason": reason})]
    found = sides(old, new.model_copy(update={"why": why}))
    changed = {each.name: (each.before, each.after, each.reason) for each in found.decisions if each.changed}
    assert changed["tensor parallel"] == ("8", "4", reason)
    assert changed["data parallel"][:2] == ("2", "4")
    assert "pipeline stages" not in changed


def test_objective_memory_and_loads_are_compared(where: Topology) -> None:
    """A slower plan with a link at half its use is told as such, in words and in numbers."""
    old = factories.training_plan(where)
    slower = old.objective.model_copy(update={"value": 1.25 * old.objective.value})
    halved = [link.model_copy(update={"utilisation": link.utilisation / 2}) for link in old.links[:1]]
    new = old.model_copy(update={"objective": slower, "links": [*halved, *old.links[1:]]})
    found = sides(old, new, simulated=False)
    assert verdict(found) == "B has a 25 % higher step time than A; no decision differs."
    assert [(link.source, link.target) for link in found.links] == [(halved[0].source, halved[0].target)]
    assert found.links[0].difference == pytest.approx(-old.links[0].utilisation / 2)
    objective = found.json()["objective"]
    assert isinstance(objective, dict) and objective["change"] == pytest.approx(0.25)
    fullest = next(each for each in found.figures if each.name == "memory of the fullest device")
    assert fullest.before == max(stage.total for stage in old.jobs[0].memory)


def test_plans_of_different_objectives_have_no_common_one(where: Topology) -> None:
    """A training and a serving plan are compared without a ratio of their objectives."""
    training, serving = factories.training_plan(where), factories.serving_plan(where)
    found = compare(Side(Path("a"), training), Side(Path("b"), serving))
    assert found.objective is None
    assert verdict(found).startswith("The plans minimise different things")
    assert read(render_comparison(found)).faults == []


def test_jobs_meet_by_name(where: Topology) -> None:
    """Of plans with several jobs each is compared with its namesake; one that is new has no value before."""
    first, second = factories.training_plan(where, pp=2), factories.serving_plan(where)
    both = first.model_copy(update={"jobs": [*second.jobs, *first.jobs]})
    found = compare(Side(Path("a"), first), Side(Path("b"), both))
    assert [(name, old is None, new is None) for name, old, new in found.jobs] == [
        ("pretrain", False, False),
        ("chat", True, False),
    ]
    assert {each.before for each in found.decisions if each.job == "chat"} == {""}
    assert not any(each.changed for each in found.decisions if each.job == "pretrain")


@pytest.mark.parametrize("kind", ["training", "serving"])
def test_page_is_self_contained_and_labelled(where: Topology, kind: str) -> None:
    """The page is well-formed, refers to nothing outside, labels every picture, and shows both curves."""
    make = factories.training_plan if kind == "training" else factories.serving_plan
    page = render_comparison(sides(make(where, tp=4), make(where, tp=2)))
    reader = read(page)
    assert reader.faults == [] and reader.open == []
    assert "://" not in page
    svgs = [attrs for tag, attrs in reader.elements if tag == "svg"]
    assert svgs and all(attrs.get("aria-label") for attrs in svgs)
    assert (page.count('class="curve') == 2) == (kind == "serving")


def test_hostile_names_stay_text(where: Topology) -> None:
    """Names and reasons of the plans never become markup, on the page or in a terminal."""
    plan = factories.serving_plan(where)
    text = machines.HOSTILE
    links = [plan.links[0].model_copy(update={"source": text, "utilisation": 0.9}), *plan.links[1:]]
    inputs = plan.inputs.model_copy(
        update={"topology": plan.inputs.topology.model_copy(update={"name": text, "digest": "sha256:0"})}
    )
    hostile = plan.model_copy(update={"links": links, "inputs": inputs, "name": text})
    job = hostile.jobs[0].model_copy(update={"model": text})
    found = sides(plan, hostile.model_copy(update={"jobs": [job]}), simulated=False)
    reader = read(render_comparison(found))
    assert reader.faults == []
    assert not any(tag in {"script", "b", "img"} for tag, _ in reader.elements)
    assert "alert(" in " ".join(reader.text)


def test_alike_links_share_a_row(where: Topology) -> None:
    """Links that differ in the numbers of their names alone, and are used alike, are one row."""
    plan = factories.training_plan(where)
    idle = plan.model_copy(
        update={"links": [link.model_copy(update={"utilisation": 0.0}) for link in plan.links]}
    )
    found = sides(idle, plan, simulated=False)
    rows = link_changes(found.links)
    assert sum(row.many for row in rows) <= len(found.links)
    nvlink = next(row for row in rows if row.source.endswith("gpu[0-7]"))
    assert nvlink.many == 8 * 4


def test_summary_lists_what_changed_alone(where: Topology) -> None:
    """The tables of the terminal hold the decisions that differ and none of the others."""
    found = sides(factories.serving_plan(where, tp=4), factories.serving_plan(where, tp=2))
    summary = comparison_summary(found)
    changed = next(table for table in summary.tables if table.title == "What changed")
    assert ("chat", "tensor parallel", "4", "2", "") in changed.rows
    assert "most sequences per batch" not in {row[1] for row in changed.rows}
