"""Shares of time add up to 100 %, in numbers and in print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.report import render_report, simulation_summary
from planner.report.causes import attribution_table, run_note, shares, waiting_table
from planner.report.summary import Table
from planner.simulate.result import JobSimulation, LinkUse, SimulationResult
from tests.report import factories, machines, simulations


def printed(table: Table) -> float:
    """Return the sum of the printed percentages of a table."""
    return sum(float(row[-1].removesuffix(" %")) for row in table.rows)


def with_links(waits: list[float]) -> SimulationResult:
    links = [
        LinkUse(
            source=f"gpu{place}", target="switch", kind="NVLINK", rate=1e9, carried=1e9, mean=0.5, peak=1.0,
            saturated=0.1, waiting=wait,
        )
        for place, wait in enumerate(waits)
    ]  # fmt: skip
    return SimulationResult(plan="p", plan_digest="sha256:0", seed=7, horizon=1.0, jobs=[], links=links)


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(1e-9, 1e9), min_size=1, max_size=12))
def test_printed_shares_add_up_to_the_whole(parts: dict[str, float]) -> None:
    """Whatever is rounded, the tenths of a per cent sum to 100.0, and none is off by more than one."""
    told = shares(parts)
    whole = sum(parts.values())
    values = {name: float(text.removesuffix(" %")) for name, text in told.items()}
    assert sum(values.values()) == pytest.approx(100.0, abs=1e-9)
    assert all(abs(values[name] - 100.0 * part / whole) <= 0.1 + 1e-9 for name, part in parts.items())


def test_no_time_has_no_shares() -> None:
    """Nothing is attributed where nothing was simulated."""
    assert shares({"a": 0.0}) == {}
    assert attribution_table(JobSimulation(name="job", kind="training")).rows == ()


def test_the_waiting_of_all_links_is_told() -> None:
    """The worst links by name, all others together, and 100 % in all."""
    table = waiting_table(with_links([3.0, 1.0, 1.0, 2.0, 1.5, 0.25, 0.25, 0.0]))
    assert [row[0] for row in table.rows] == [
        "gpu0 → switch", "gpu3 → switch", "gpu4 → switch", "gpu1 → switch", "gpu2 → switch", "2 other links",
    ]  # fmt: skip
    assert printed(table) == pytest.approx(100.0)
    assert table.rows[0][1:] == ("3.00 s", "33.3 %")
    assert waiting_table(with_links([0.0])).rows == ()


def test_the_summary_and_the_page_say_where_the_time_goes() -> None:
    """Attribution, seed and warm-up are in what is printed and on the page."""
    where = machines.topology(nodes=2)
    plan = factories.serving_plan(where)
    seen = simulations.serving_simulation(plan, spans=50)
    job = seen.jobs[0].model_copy(
        update={"attribution": {"queue": 0.25, "decode": 0.75}, "warm_up": 35, "cool_down": 120}
    )
    seen = seen.model_copy(update={"jobs": [job], "seed": 7})
    summary = simulation_summary(plan, seen)
    table = next(table for table in summary.tables if table.title == "Where the simulated time goes")
    assert table.rows == (("decode", "75.0 %"), ("queue", "25.0 %"))
    assert summary.notes[-1] == run_note(seen)
    assert "seed 7" in run_note(seen) and "35 left out as warm-up (MSER-5)" in run_note(seen)
    page = render_report(plan, where, seen)
    assert "Where the simulated time goes" in page and "Waiting by link" in page and run_note(seen) in page
