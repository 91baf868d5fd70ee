"""The network model against finish times computed by an independent flow-level simulator."""

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import flow_oracle, flow_scenarios, simgrid

SMALL = 400_000
"""Size, bytes, up to which a trace is replayed here; the benchmark runner replays them all."""


@pytest.mark.reference
def test_every_finish_time_of_the_smaller_traces_is_reproduced(shared_data: Path) -> None:
    """All flows of the smaller reference traces finish within 1e-9 of the recorded times."""
    folder = shared_data / "flow-oracle"
    traces = [path for path in sorted(folder.glob("*.json*")) if path.stat().st_size <= SMALL]
    assert len(traces) >= 10
    scenarios = [flow_oracle.judge(path, None) for path in traces]
    assert {s.case: s.max_error for s in scenarios if s.max_error > 1e-9} == {}


def folder_of(tmp_path: Path, finish: float) -> Path:
    """Return a folder with a one-flow trace, whose recorded finish is given, and a broken trace."""
    trace: dict[str, Any] = {
        "format": "flow-oracle/1",
        "name": "one",
        "links": [{"id": 0, "src": "a", "dst": "b", "bandwidth_Bps": 10.0, "latency_s": 0.0}],
        "flows": [{"id": 0, "size_B": 20, "path": [0], "finish_s": finish}],
    }
    (tmp_path / "one.json").write_text(json.dumps(trace))
    (tmp_path / "two.json").write_text("{")
    (tmp_path / "README.md").write_text("| file | Reference CPU s |\n|---|---|\n| one.json | 0.25 |\n")
    return tmp_path


def test_the_runner_reports_errors_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong finish time shows as its relative error, and a trace that cannot be replayed as 100 %."""
    folder = folder_of(tmp_path, finish=1.0)
    out = tmp_path / "out.txt"
    flow_oracle.main([str(folder), "--json", str(out)])
    document = json.loads(out.read_text())
    rows = {(row["case"], row["metric"]): row for row in document["rows"]}
    assert rows["one.json", "max_rel_error"]["value"] == pytest.approx(1.0)
    assert rows["one.json", "makespan_s"]["value"] == 2.0
    assert rows["one.json", "cpu_seconds"]["reference"] == 0.25
    assert rows["two.json", "max_rel_error"]["value"] == 1.0
    assert document["summary"]["failed"] == 1
    assert "two.json" in capsys.readouterr().out


def test_generated_traces_are_the_same_for_a_seed_and_can_be_replayed() -> None:
    """Random flows and an all-to-all are drawn by seed, offer the load asked for, and connect their ends."""
    drawn = flow_scenarios.random_flows(32, 400, 0.5, 7)
    assert drawn == flow_scenarios.random_flows(32, 400, 0.5, 7)
    assert drawn != flow_scenarios.random_flows(32, 400, 0.5, 8)
    offered = sum(flow["size_B"] for flow in drawn["flows"]) / drawn["flows"][-1]["start_s"]
    assert offered == pytest.approx(0.5 * 32 * flow_scenarios.PORT, rel=0.2)
    for trace in (drawn, flow_scenarios.all_to_all(8, 4, 1)):
        for flow in trace["flows"]:
            hops = [trace["links"][link] for link in flow["path"]]
            assert all(one["dst"] == other["src"] for one, other in pairwise(hops))
            assert hops[0]["src"] != hops[-1]["dst"]


@pytest.mark.skipif(not simgrid.is_installed(), reason="SimGrid and g++ are not installed")
def test_simgrid_gives_the_same_finish_times(tmp_path: Path) -> None:
    """Beside SimGrid itself a compressed trace without finish times is judged by SimGrid's."""
    text = json.dumps(flow_scenarios.random_flows(16, 60, 0.8, 3))
    (tmp_path / "drawn.json.gz").write_bytes(gzip.compress(text.encode()))
    (scenario,) = flow_oracle.run(tmp_path, with_simgrid=True)
    assert scenario.failure == ""
    assert scenario.num_flows == 60
    assert scenario.max_error < 1e-12
    assert scenario.reference_cpu is not None
