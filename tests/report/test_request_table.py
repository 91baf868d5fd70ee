"""The table of requests holds every request, and its parts add up."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from planner.report import request_table
from planner.simulate import simulate_plan
from planner.simulate.measures import PARTS, RequestRecords
from tests.simulate.cases import cluster, serving_plan, serving_problem, whole_plan


def test_every_simulated_request_is_a_line_whose_parts_add_up() -> None:
    """Arrivals ascend, the parts make the latency, and the first token comes before the end."""
    problem = serving_problem(cluster(1, 2))
    found: dict[str, RequestRecords] = {}
    plan = whole_plan({"serve": serving_plan(problem, replicas=2)})
    result = simulate_plan({"serve": problem}, plan, requests=150, collect=found.__setitem__)
    rows = list(csv.DictReader(io.StringIO(request_table(found))))
    assert [int(row["request"]) for row in rows] == list(range(150))
    arrivals = [float(row["arrival_s"]) for row in rows]
    assert arrivals == sorted(arrivals)
    for row in rows:
        parts = sum(float(row[f"{part}_s"]) for part in PARTS)
        assert parts == pytest.approx(float(row["latency_s"]), rel=1e-9)
        assert 0.0 < float(row["ttft_s"]) <= float(row["latency_s"])
        assert int(row["output_tokens"]) >= 1
    kept = result.jobs[0].latency["latency"].count
    assert kept <= 150
    assert result.jobs[0].latency["latency"].p99 <= max(float(row["latency_s"]) for row in rows)


def test_numbers_are_written_in_full() -> None:
    """What is read back is what was simulated, to the last bit."""
    time = np.asarray([1.0 / 3.0])
    records = RequestRecords(time, np.asarray([2.0]), time, time, dict.fromkeys(PARTS, time))
    (row,) = csv.DictReader(io.StringIO(request_table({"a, b": records})))
    assert row["job"] == "a, b"
    assert float(row["latency_s"]) == 1.0 / 3.0


def test_without_serving_jobs_there_is_a_header_alone() -> None:
    """A plan of training jobs gives an empty table."""
    assert request_table({}).count("\n") == 1
