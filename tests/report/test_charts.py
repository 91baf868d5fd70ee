"""Charts put values where they belong."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from planner.report.charts import CdfChart, sparkline, stacked_bar, ticks
from planner.report.palette import LOAD_LIGHT, load_step, steps


@given(st.floats(1e-9, 1e12))
def test_ticks_are_few_even_and_within(end: float) -> None:
    """Marks start at zero, are evenly spaced, at least three, and do not pass the end."""
    marks = ticks(end)
    assert marks[0] == 0
    assert 3 <= len(marks) <= 8
    assert marks[-1] <= end * (1 + 1e-6)
    gaps = [after - before for before, after in itertools.pairwise(marks)]
    assert max(gaps) - min(gaps) <= 1e-6 * end


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e12), min_size=1))
def test_parts_of_a_bar_follow_one_another(parts: dict[str, float]) -> None:
    """Bars start where the part before ended, and together take their share of the width."""
    full = sum(parts.values()) or 1.0
    svg = stacked_bar(parts, dict.fromkeys(parts, "p0"), full, "bytes", "parts")
    pieces = [(float(x), float(w)) for x, w in re.findall(r'x="([0-9.]+)%" width="([0-9.]+)%"', svg)]
    at = 0.0
    for left, width in pieces:
        assert abs(left - at) < 0.02
        at = left + width
    assert not pieces or abs(at - 100) < 0.02


def test_capacity_line_is_on_the_scale_of_the_bar() -> None:
    """A capacity of 80 on a scale of 100 lies at 80 %."""
    assert 'x1="80%"' in stacked_bar({"a": 60.0}, {"a": "p0"}, 100.0, "bytes", "memory", 80.0)


def test_distribution_marks_percentiles_and_limit() -> None:
    """The median's mark lies left of the tail's, the limit is named, a far limit is at the edge."""
    points = [(i / 100, (i + 1) / 100) for i in range(100)]
    chart = CdfChart(points, {"p50": 0.5, "p99": 0.98}, 0.9)
    svg = chart.svg("latency")
    circles = [float(x) for x in re.findall(r'<circle cx="([0-9.]+)"', svg)]
    assert circles == sorted(circles) and len(circles) == 2
    assert "limit 900 ms" in svg
    assert "limit 60.0 s →" in CdfChart(points, {"p50": 0.5, "p99": 0.98}, 60.0).svg("latency")


def test_labels_above_the_plot_do_not_overlap() -> None:
    """Percentiles that nearly coincide are named on different lines."""
    points = [(0.5, 0.5), (0.501, 0.95), (0.502, 1.0)]
    svg = CdfChart(points, {"p50": 0.5, "p95": 0.501, "p99": 0.502}, 0.503).svg("latency")
    heights = re.findall(r'<text x="[0-9.]+" y="([0-9.]+)" class="(?:mark|limit)', svg)
    assert len(set(heights)) == 4


def test_load_scale_rises() -> None:
    """More load never gives a lower step of the scale, and lightness falls with it."""
    assert [load_step(value) for value in (0.0, 0.05, 0.3, 0.6, 0.8, 0.95, 1.2)] == [
        "u0", "u1", "u2", "u3", "u4", "u5", "u5"
    ]  # fmt: skip
    assert load_step(None) == "ux"

    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    scale = [lightness(colour) for colour in LOAD_LIGHT]
    assert scale == sorted(scale, reverse=True)


def test_stages_get_distinct_colours() -> None:
    """Up to 64 stages no two have the same colour."""
    for count in (1, 8, 9, 64):
        assert len(set(steps(count))) == count


def test_sparkline_needs_points() -> None:
    """Nothing is drawn without at least two points or without time."""
    assert sparkline([(0.0, 1.0)], 1.0, "use") == ""
    assert sparkline([(0.0, 1.0), (1.0, 0.0)], 0.0, "use") == ""
    assert "<path" in sparkline([(0.0, 1.0), (1.0, 0.0)], 2.0, "use")
