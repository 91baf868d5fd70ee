"""Traces of real simulations: complete slices, and counters that integrate to the bytes carried."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

import pytest

from planner.placement import Strategy
from planner.report import chrome_trace
from planner.simulate import SimulationResult, simulate_plan
from tests.simulate.cases import (
    cluster,
    serving_plan,
    serving_problem,
    training_plan,
    training_problem,
    whole_plan,
)


def simulated(kind: str) -> SimulationResult:
    """Return a training step over shared ports, or some requests on two replicas."""
    if kind == "training":
        training = training_problem(cluster(2, 4, nics=1))
        return simulate_plan(
            {"train": training}, whole_plan({"train": training_plan(training, Strategy(tp=2, pp=2, dp=2))})
        )
    serving = serving_problem(cluster(1, 2))
    return simulate_plan(
        {"serve": serving}, whole_plan({"serve": serving_plan(serving, replicas=2)}), requests=300
    )


@pytest.mark.parametrize("kind", ["training", "serving"])
def test_a_real_trace_is_well_formed(kind: str) -> None:
    """Only complete slices, counters and names; no duration is negative, every begin has its end."""
    result = simulated(kind)
    events: list[dict[str, Any]] = json.loads(json.dumps(chrome_trace(result), allow_nan=False))[
        "traceEvents"
    ]
    open_spans: dict[tuple[int, int], int] = defaultdict(int)
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    for event in events:
        where = event["pid"], event["tid"]
        open_spans[where] += {"B": 1, "E": -1}.get(event["ph"], 0)
        assert open_spans[where] >= 0
        assert event["ph"] in {"X", "B", "E", "C", "M"}
        if event["ph"] == "X":
            assert event["dur"] >= 0.0 <= event["ts"]
            assert where in named
            assert event["ts"] + event["dur"] <= result.horizon * 1e6 + 0.002
    assert not any(open_spans.values())
    assert sum(event["ph"] == "X" for event in events) == sum(len(job.timeline) for job in result.jobs)


@pytest.mark.parametrize("kind", ["training", "serving"])
def test_link_counters_integrate_to_the_bytes_carried(kind: str) -> None:
    """The area under each counter, times the rate, is what the link carried; times are to the nanosecond."""
    result = simulated(kind)
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for event in chrome_trace(result)["traceEvents"]:  # type: ignore[attr-defined]
        if event["ph"] == "C":
            points[event["name"]].append((event["ts"] / 1e6, event["args"]["use"] / 100.0))
    carrying = [link for link in result.links if link.carried > 0.0]
    assert carrying
    for link in carrying:
        series = points[f"{link.source} → {link.target}"]
        assert [time for time, _ in series] == sorted(time for time, _ in series)
        assert series[-1][0] == pytest.approx(result.horizon, abs=1e-9)
        area = sum(use * (after - time) for (time, use), (after, _) in itertools.pairwise(series))
        slack = 1e-9 * len(series) * link.rate
        assert area * link.rate == pytest.approx(link.carried, rel=1e-6, abs=slack)
