"""Traces are valid Trace Event JSON that loses nothing and that a viewer can show."""

import itertools
import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.report import chrome_trace
from planner.simulate.result import JobSimulation, SimulationResult, TimelineSpan
from tests.report import factories, machines, simulations


def events(simulation: SimulationResult) -> list[dict[str, Any]]:
    trace = json.loads(json.dumps(chrome_trace(simulation), allow_nan=False))
    assert isinstance(trace["traceEvents"], list)
    return list(trace["traceEvents"])


def simulated(spans: list[TimelineSpan]) -> SimulationResult:
    job = JobSimulation(name="job", kind="training", timeline=spans)
    return SimulationResult(plan="p", plan_digest="sha256:0", seed=0, horizon=10.0, jobs=[job])


@pytest.mark.parametrize("kind", ["training", "serving"])
def test_events_are_complete(kind: str) -> None:
    """Slices, counters and names have the fields that the format asks for; times are not negative."""
    where = machines.topology(nodes=2)
    if kind == "training":
        simulation = simulations.training_simulation(factories.training_plan(where, pp=2))
    else:
        simulation = simulations.serving_simulation(factories.serving_plan(where), spans=500)
    found = events(simulation)
    assert {event["ph"] for event in found} == {"X", "C", "M"}
    for event in found:
        assert isinstance(event["pid"], int) and isinstance(event["name"], str)
        if event["ph"] == "X":
            assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["tid"], int)
        if event["ph"] == "C":
            assert event["ts"] >= 0 and all(0 <= value <= 100 for value in event["args"].values())
        if event["ph"] == "M":
            assert event["args"]


SPANS = st.builds(
    lambda track, start, length: TimelineSpan(
        track=track, name="work", category="cpu", start=start, end=start + length
    ),
    st.sampled_from(["a", "b"]),
    st.floats(0, 10),
    st.floats(0, 5),
)


@given(st.lists(SPANS, max_size=30))
def test_no_span_is_lost_and_none_overlap_on_a_thread(spans: list[TimelineSpan]) -> None:
    """Every span becomes one slice, and slices of one thread follow one another."""
    slices = [event for event in events(simulated(spans)) if event["ph"] == "X"]
    assert len(slices) == len(spans)
    threads: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in slices:
        threads[event["tid"]].append(event)
    for row in threads.values():
        row.sort(key=lambda event: (event["ts"], event["dur"]))
        for before, after in itertools.pairwise(row):
            assert before["ts"] + before["dur"] <= after["ts"] + 0.0015


def test_times_are_microseconds() -> None:
    """A span from 1.5 s to 2 s starts at 1,500,000 us and lasts 500,000 us."""
    span = TimelineSpan(track="a", name="work", category="forward", start=1.5, end=2.0)
    slice_ = next(event for event in events(simulated([span])) if event["ph"] == "X")
    assert (slice_["ts"], slice_["dur"]) == (1.5e6, 0.5e6)


def test_reversed_spans_get_no_negative_duration() -> None:
    """A span that ends before it starts, by rounding, is shown as an instant."""
    span = TimelineSpan(track="a", name="work", category="forward", start=1.0, end=0.999999)
    assert next(event for event in events(simulated([span])) if event["ph"] == "X")["dur"] == 0
