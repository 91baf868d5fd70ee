"""The heat map shows the use of links over time, in words as well, and stays small."""

from __future__ import annotations

import numpy as np
import pytest

from planner.report import render_report
from planner.report.heat_map import CELLS, MOST_ROWS, heat_map, mean_use
from planner.simulate.result import LinkUse, SimulationResult
from tests.report import factories, machines, simulations


def use(name: str, series: list[tuple[float, float]], end: float = 96.0) -> LinkUse:
    times = [time for time, _ in series] + [end]
    mean = sum(share * (after - at) for (at, share), after in zip(series, times[1:], strict=True)) / end
    return LinkUse(
        source=name, target="switch", kind="NVLINK", rate=1e9, carried=mean * 1e9 * end, mean=mean,
        peak=max(share for _, share in series), saturated=0.0, waiting=0.0, series=series,
    )  # fmt: skip


def result(links: list[LinkUse]) -> SimulationResult:
    return SimulationResult(plan="p", plan_digest="sha256:0", seed=0, horizon=96.0, jobs=[], links=links)


def test_cells_are_means_over_equal_intervals() -> None:
    """A link that is half used for 1.5 of 96 s fills one cell by half, the next by a quarter."""
    assert CELLS == 96
    means = mean_use(use("gpu0", [(0.0, 0.0), (10.0, 0.5), (11.5, 0.0)]), 96.0)
    assert means[10:12] == pytest.approx([0.5, 0.25])
    assert means.sum() == pytest.approx(0.75)
    assert np.all(mean_use(use("gpu0", [(0.0, 0.3)]), 96.0) == pytest.approx(0.3))


def test_links_of_the_same_cells_share_a_strip_that_says_what_it_shows() -> None:
    """Names that differ in numbers fold; idle links are left out; the words name the peak."""
    busy = [(0.0, 0.0), (48.0, 1.0), (60.0, 0.2)]
    found = heat_map(
        result([use("gpu0", busy), use("gpu1", busy), use("nic0", busy), use("gpu9", [(0.0, 0.0)])])
    )
    assert found is not None
    assert sorted((row.name, row.many) for row in found.rows) == [
        ("gpu[0-1] → switch", 2), ("nic0 → switch", 1),
    ]  # fmt: skip
    strip = found.rows[0].strip
    assert 'role="img"' in strip and "highest 100 % at 48.0 s" in strip
    assert strip.count("<rect") == 2
    assert 'x="50%" width="12.5%" y="0" height="100%" class="fill-u5"' in strip


def test_the_axis_has_no_mark_whose_text_would_be_cut() -> None:
    """Of a run of 210 s the mark at 200 s is left out, which ends 5 % before the edge."""
    found = heat_map(result([use("gpu0", [(0.0, 1.0)], end=210.0)]).model_copy(update={"horizon": 210.0}))
    assert found is not None
    assert [text for _, text in found.ticks] == ["0 s", "50.0 s", "100 s", "150 s"]


def test_nothing_to_show_is_no_map() -> None:
    """Without a simulation, or where no link was in use, there is none."""
    assert heat_map(None) is None
    assert heat_map(result([use("gpu0", [(0.0, 0.0)])])) is None


def test_the_map_is_bounded() -> None:
    """Two hundred links that all change all the time make a page section of less than 300 kB."""
    draw = np.random.default_rng(0)
    names = [f"{'abcdefgh'[place % 8] * (1 + place // 8)}0" for place in range(200)]
    links = [
        use(name, [(float(at), float(draw.random())) for at in np.linspace(0.0, 95.0, 200)]) for name in names
    ]
    found = heat_map(result(links))
    assert found is not None
    assert len(found.rows) == MOST_ROWS
    assert sum(len(row.strip) for row in found.rows) < 300_000


def test_the_page_carries_the_map() -> None:
    """The map is a part of the section of links."""
    where = machines.topology(nodes=2)
    plan = factories.training_plan(where, pp=2)
    page = render_report(plan, where, simulations.training_simulation(plan))
    assert "Use over time" in page and 'class="heat"' in page
    assert 'class="heat"' not in render_report(plan, where, None)
