"""The figure of GPUs against time: what the alternatives are, which of them win, and where the plan is."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from planner.placement import Strategy
from planner.report import render_report
from planner.report.tradeoff import log_ticks, trade_offs
from planner.study.alternatives import Alternative
from tests.report import factories, machines


def other(gpus: int, seconds: float) -> Alternative:
    return Alternative(Strategy(tp=gpus), gpus, seconds)


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e6))
def test_ticks_are_few_and_lie_on_the_axis(low: float, ratio: float) -> None:
    """Every axis has one to six marks, in order, none outside it."""
    found = log_ticks(low, low * ratio)
    assert 1 <= len(found) <= 6
    assert found == sorted(set(found))
    assert all(low * (1 - 1e-9) <= value <= low * ratio * (1 + 1e-9) for value in found)


def test_the_figure_marks_the_front_and_the_plan() -> None:
    """Of three sizes the one that is slower with more GPUs is not on the line; the plan is a cross."""
    plan = factories.serving_plan(machines.topology(nodes=2))
    job = plan.jobs[0]
    (found,) = trade_offs(plan, {job.name: [other(1, 9.0), other(2, 11.0), other(8, 3.0)]})
    assert found.chart.count("mark full") == 2
    assert found.chart.count("mark other") == 1
    assert found.chart.count('class="own"') == 1
    assert [row[0] for row in found.table.rows] == ["1", "2", "8"]
    assert [row[3] for row in found.table.rows] == ["yes", "no", "yes"]
    assert "from 9.00 s on 1 GPU to 3.00 s on 8 GPUs; this plan" in found.chart
    line = found.chart.split('class="curve"')[0].rsplit('d="', 1)[1]
    assert line.count("V") == 1 and math.isfinite(float(line[1:].split(" ")[0]))


def test_one_size_alone_makes_no_figure() -> None:
    """There is nothing to weigh where no other number of GPUs would do."""
    plan = factories.serving_plan(machines.topology(nodes=2))
    assert trade_offs(plan, {plan.jobs[0].name: [other(8, 3.0)]}) == []
    assert trade_offs(plan, {}) == []


def test_the_page_carries_figure_and_table() -> None:
    """The section of reasons has the figure; without alternatives it has not."""
    where = machines.topology(nodes=2)
    plan = factories.serving_plan(where)
    found = {plan.jobs[0].name: [other(1, 9.0), other(8, 3.0)]}
    assert "The alternatives as a table" in render_report(plan, where, None, None, found)
    assert "The alternatives as a table" not in render_report(plan, where, None)
