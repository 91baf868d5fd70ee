"""What is said and drawn of a recommendation, from verdicts written by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from planner.report.recommend import (
    plot_capacity,
    plot_limits,
    recommendation_figures,
    recommendation_json,
    recommendation_rows,
    recommendation_summary,
    sentence,
)
from planner.study.recommend import Block, Cluster, Limit, Point, Recommendation
from planner.study.recommend.answer import Verdict

BLOCK = Block("box", {}, 1, 8, 90.0, 3)
OTHER = Block("crate", {}, 1, 4, 50.0, 1, "its machine has no network port to join nodes with")


def _point(
    load: float, block: Block, count: int, verdict: Verdict, value: float = 1.5, high: float = 1.8
) -> Point:
    limits = (Limit("chat", "ttft_p99", 2.0, value, 1.2, high),) if verdict == "holds" else ()
    reason = "" if verdict == "holds" else "too slow"
    return Point(load, Cluster(((block, count),)), verdict, "tp 8", limits, reason)


def _found(crate: Verdict = "refused") -> Recommendation:
    points = (
        _point(1.0, BLOCK, 1, "holds"),
        _point(1.0, OTHER, 1, crate),
        _point(2.0, BLOCK, 1, "refused"),
        _point(2.0, OTHER, 1, "refused"),
        _point(2.0, BLOCK, 2, "holds", 1.9, 2.2),
        _point(1.5, BLOCK, 1, "holds"),
    )
    return Recommendation("chat", "gpus", (BLOCK, OTHER), (1.0, 2.0), points)


def test_the_sentence_says_how_far_it_is_proven() -> None:
    """A refused smaller cluster makes a proof, an open one is named."""
    assert sentence(_found(), 1.0).startswith(
        "1 x box (8 GPUs, 90.00 USD/h) is the cluster of the fewest GPUs"
    )
    assert "the only smaller one was refused" in sentence(_found(), 1.0)
    assert "each of the 2 smaller ones was refused" in sentence(_found(), 2.0)
    assert "not refused for certain: 1 x crate" in sentence(_found("open"), 1.0)


def test_the_runner_up_is_the_next_kind_and_its_loss_is_relative() -> None:
    """Where the crate holds it is the best, and a box has twice its GPUs."""
    found = _found("holds")
    assert found.best(1.0).cluster.name == "1 x crate"
    assert found.runner_up(1.0) is not None
    assert found.loss(1.0) == pytest.approx(1.0)
    summary = recommendation_summary(found)
    assert summary.tables[0].rows[0][-2:] == ("1 x box", "+100%")


def test_an_interval_over_the_limit_is_said() -> None:
    """At twice the load the upper end is above two seconds: the answer holds, but not surely."""
    found = _found()
    assert not found.best(2.0).sure
    assert any("reaches over a limit at 2 x" in note for note in recommendation_summary(found).notes)
    assert Limit("chat", "ttft_p99", 2.0, 1.9, 1.0, inf).sure is False


def test_rows_have_the_same_columns_and_name_what_is_recommended() -> None:
    """One recommended row per load; the JSON repeats the rows and the capacities."""
    rows = recommendation_rows(_found())
    assert len({tuple(row) for row in rows}) == 1
    assert [(row["load"], row["cluster"]) for row in rows if row["recommended"]] == [
        (1.0, "1 x box"), (2.0, "2 x box"),
    ]  # fmt: skip
    capacity = recommendation_json(_found())["capacity"]
    assert {"cluster": "1 x box", "carries": 1.5, "fails": 2.0} in capacity  # type: ignore[operator]
    assert {"cluster": "2 x box", "carries": 2.0, "fails": None} in capacity  # type: ignore[operator]


def test_the_capacity_curve_ends_where_a_cluster_was_seen_to_fail() -> None:
    """One box is drawn up to 1.5 x, dotted on to 2 x; two boxes from there; the unsure point is hollow."""
    ax = Figure().subplots()
    plot_capacity(ax, _found())
    drawn = [(np.asarray(line.get_xdata()).tolist(), line.get_linestyle()) for line in ax.lines]
    assert ([0.0, 1.5], "-") in drawn
    assert ([1.5, 2.0], ":") in drawn
    hollow = [np.asarray(line.get_xdata()) for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert [at.tolist() for at in hollow] == [[2.0]]
    assert ax.get_ylabel() == "GPUs needed"


def test_intervals_are_drawn_around_what_was_simulated() -> None:
    """The bars run from the lower to the upper end, in per cent of the limit."""
    ax = Figure().subplots()
    plot_limits(ax, _found())
    (bars,) = ax.containers
    assert isinstance(bars, ErrorbarContainer)
    ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert ends == [pytest.approx([60.0, 90.0]), pytest.approx([60.0, 110.0])]
    assert set(recommendation_figures(_found())) == {"capacity", "sizes", "limits"}
