"""Timelines stay readable: clipped, merged, and true to what was busy."""

import re

from planner.report.timeline import MOST_TRACKS, timeline
from planner.simulate.result import JobSimulation, TimelineSpan
from tests.report import factories, machines, simulations


def job(spans: list[TimelineSpan], kind: str = "training") -> JobSimulation:
    return JobSimulation.model_validate({"name": "job", "kind": kind, "timeline": spans})


def widths(svg: str) -> list[float]:
    return [float(width) for width in re.findall(r'<rect x="[0-9.]+%" width="([0-9.]+)%"', svg)]


def test_nothing_simulated_gives_no_timeline() -> None:
    """Without spans, or with idle ones only, there is nothing to draw."""
    assert timeline(job([])) is None
    assert timeline(job([TimelineSpan(track="a", name="", category="idle", start=0, end=1)])) is None


def test_widths_are_the_share_of_time() -> None:
    """A stage that works half of the time has bars over half of the width."""
    spans = [TimelineSpan(track="a", name="F", category="forward", start=i, end=i + 0.5) for i in range(10)]
    spans.append(TimelineSpan(track="b", name="F", category="forward", start=0, end=10))
    drawn = timeline(job(spans))
    assert drawn is not None
    assert abs(sum(widths(drawn.tracks[0].svg)) - 50.0) < 0.1


def test_many_spans_are_merged_but_keep_their_time() -> None:
    """Twenty thousand spans become a few hundred bars whose area is the busy time."""
    spans = [
        TimelineSpan(track="a", name="x", category="decode", start=i * 1e-3, end=i * 1e-3 + 5e-4)
        for i in range(20000)
    ]
    drawn = timeline(job(spans))
    assert drawn is not None
    bars = re.findall(r'width="([0-9.]+)%" y="[0-9.]+" height="([0-9.]+)"', drawn.tracks[0].svg)
    assert 0 < len(bars) < 700
    busy = sum(float(width) / 100 * float(height) / 22 for width, height in bars)
    assert abs(busy - 0.5) < 0.05
    assert any("merged" in note for note in drawn.notes)


def test_serving_shows_a_window() -> None:
    """A long serving run is clipped to a window, and the page says which."""
    plan = factories.serving_plan(machines.topology())
    drawn = timeline(simulations.serving_simulation(plan).jobs[0])
    assert drawn is not None
    assert any("out of" in note for note in drawn.notes)
    assert sum(track.svg.count("<rect") for track in drawn.tracks) < 1500


def test_bars_stay_inside_the_window() -> None:
    """No bar begins before the left or ends after the right edge."""
    plan = factories.serving_plan(machines.topology())
    drawn = timeline(simulations.serving_simulation(plan).jobs[0])
    assert drawn is not None
    for track in drawn.tracks:
        for left, width in re.findall(r'<rect x="([0-9.]+)%" width="([0-9.]+)%"', track.svg):
            assert 0 <= float(left) <= 100
            assert float(left) + float(width) <= 100.1


def test_tracks_are_ordered_and_limited() -> None:
    """Stage 10 comes after stage 9, and hundreds of tracks are cut off with a note."""
    spans = [
        TimelineSpan(track=f"stage {i}", name="F", category="forward", start=0, end=1) for i in range(100)
    ]
    drawn = timeline(job(spans))
    assert drawn is not None
    assert [track.name for track in drawn.tracks] == [f"stage {i}" for i in range(MOST_TRACKS)]
    assert any("of 100 tracks" in note for note in drawn.notes)
