"""The slider over the map: which series a picture gets, and what the page's script is told."""

from __future__ import annotations

import json
import re

from planner.report import render_report
from planner.report.heat_map import CELLS
from planner.report.moments import Moments
from tests.report import factories, machines, simulations
from tests.report.test_heat_map import result, use


def test_links_alike_share_a_series_and_several_show_the_busiest() -> None:
    """Two links of the same use get one number; links drawn as one show the larger use of each interval."""
    early = [(0.0, 0.5), (48.0, 0.0)]
    late = [(0.0, 0.0), (48.0, 0.29)]
    moments = Moments(result([use("gpu0", early), use("gpu1", early), use("gpu2", late)]))
    first = moments.series([("gpu0", "switch")])
    assert first is not None
    assert moments.series([("gpu1", "switch")]) == first
    both = moments.series([("gpu0", "switch"), ("gpu2", "switch")])
    assert both is not None and both != first
    data = moments.data
    assert data is not None
    assert data["series"][first] == [50] * 48 + [0] * 48
    assert data["series"][both] == [50] * 48 + [29] * 48
    assert len(data["edges"]) == CELLS + 1
    assert (data["edges"][0], data["edges"][-1]) == ("0 s", "96.0 s")


def test_unknown_and_steady_links_make_no_slider() -> None:
    """A link that was not simulated has no series; where no colour ever changes there is nothing to show."""
    moments = Moments(result([use("gpu0", [(0.0, 0.3), (50.0, 0.4)])]))
    assert moments.series([("nic0", "leaf")]) is None
    assert moments.series([("gpu0", "switch")]) == 0
    assert moments.data is None
    assert Moments(None).series([("gpu0", "switch")]) is None


def test_every_series_of_the_page_is_in_its_data() -> None:
    """Wires name series that the page carries, each once; without a simulation there is no slider."""
    where = machines.topology(nodes=4)
    plan = factories.training_plan(where, pp=2)
    page = render_report(plan, where, simulations.training_simulation(plan, links=60))
    raw = re.search(r'<script type="application/json" id="moments">(.*?)</script>', page, re.DOTALL)
    assert raw is not None
    series = json.loads(raw[1])["series"]
    named = {int(number) for number in re.findall(r'data-series="(\d+)"', page)}
    assert named == set(range(len(series)))
    assert len({tuple(each) for each in series}) == len(series)
    bare = render_report(plan, where, None)
    assert 'id="moment"' not in bare and 'data-series="' not in bare
