"""Requests are drawn as the traffic says, or read from a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import SimulationError
from planner.simulate import simulate_serving
from planner.simulate.requests import draw_requests, read_trace
from planner.workload import Lengths
from tests.simulate.cases import cluster, serving_plan, serving_problem


def test_random_numbers_are_shared_between_what_ifs() -> None:
    """Another rate stretches the same arrivals and leaves every length as it was."""
    topology = cluster(1, 2)
    slow, fast = (draw_requests(serving_problem(topology, rate=rate), 500, 3, 10**6) for rate in (10.0, 20.0))
    assert fast.arrivals == pytest.approx(slow.arrivals / 2.0)
    assert np.array_equal(fast.outputs, slow.outputs)
    assert np.array_equal(fast.prompts, slow.prompts)
    other = draw_requests(serving_problem(topology), 500, 4, 10**6)
    assert not np.array_equal(other.outputs, slow.outputs)


@pytest.mark.parametrize(("process", "cv"), [("poisson", 1.0), ("gamma", 2.5), ("deterministic", 0.0)])
def test_arrivals_and_lengths_have_their_mean_and_variation(process: str, cv: float) -> None:
    """Gaps between arrivals and lengths follow the stated mean and coefficient of variation."""
    extra: dict[str, Any] = {"cv": cv} if process == "gamma" else {}
    problem = serving_problem(
        cluster(1, 2),
        rate=8.0,
        prompt=Lengths(mean=900, cv=0.8),
        output=Lengths(mean=90),
        process=process,
        **extra,
    )
    drawn = draw_requests(problem, 40_000, 1, 10**6)
    gaps = np.diff(drawn.arrivals)
    assert gaps.mean() == pytest.approx(1 / 8.0, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.06)
    assert drawn.prompts.mean() == pytest.approx(900, rel=0.02)
    assert drawn.prompts.std() / drawn.prompts.mean() == pytest.approx(0.8, rel=0.04)
    assert set(drawn.outputs) == {90}


def test_a_trace_is_read_and_stretched_to_the_offered_rate(tmp_path: Path) -> None:
    """Lengths come from the file in order of time, gaps keep their proportions."""
    path = tmp_path / "trace.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n4,30,3\n0,10,1\n1,20,2\n")
    problem = serving_problem(cluster(1, 2), rate=1.0, process="trace", trace="trace.csv")
    drawn = draw_requests(problem, 10, 0, 10**6, path)
    assert drawn.arrivals == pytest.approx([0.0, 0.5, 2.0])
    assert drawn.prompts.tolist() == [10, 20, 30]
    assert drawn.outputs.tolist() == [1, 2, 3]
    record = simulate_serving(problem, serving_plan(problem), trace=path).job
    assert record.latency["latency"].count >= 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("arrived_at,num_prefill_tokens\n1,2\n", ":1: no column num_decode_tokens"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n1,2,3\n1,x,3\n", ":3: not three numbers"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\ninf,2,3\n", ":2: the time"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n", "no requests"),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Missing columns, values that are no numbers and an empty trace are errors with a place."""
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(SimulationError, match=complaint):
        read_trace(path, 10)
