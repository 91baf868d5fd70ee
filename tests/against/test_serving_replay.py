"""Recorded vLLM runs are met from the kernel times of their GPU alone."""

from pathlib import Path

import pytest

from benchmarks.accuracy import Report
from benchmarks.serving_replay import report_into


@pytest.mark.reference
def test_recorded_runs_are_met(shared_data: Path) -> None:
    """TPOT within 4 %, end-to-end latency within 5 %, TTFT tails within 12 %, for every recorded run."""
    report = Report("serving_replay")
    report_into(report, shared_data / "measured-serving")
    judged = [row for row in report.rows if row["must"] is not None]
    assert judged
    assert [row for row in judged if row["error"] > row["must"]] == []


def test_a_run_that_cannot_be_simulated_counts_as_wrong(tmp_path: Path) -> None:
    """A run of an unknown model has rows that say why, each with an error of 100 %."""
    (tmp_path / "meta.json").write_text('{"model": "nobody/nothing", "engine_kwargs": {}}')
    (tmp_path / "requests.csv").write_text(
        "input_tokens,output_tokens,arrival_s,first_token_s,last_token_s\n8,3,0,1,2\n8,2,1,2,3\n"
    )
    report = Report("serving_replay")
    report_into(report, tmp_path)
    assert {row["error"] for row in report.rows} == {1.0}
    assert "nobody/nothing" in report.rows[0]["failure"]
