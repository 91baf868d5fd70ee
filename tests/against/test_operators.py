"""Operator placement against public instances, and the runner that judges it."""

import json
from pathlib import Path

import pytest

from benchmarks import device_placement
from benchmarks.device_placement import Known, Limits, Row


@pytest.mark.reference
def test_a_small_public_instance_is_solved_to_its_known_optimum(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contiguous optimum of a 32-layer graph is found and proven."""
    folder = shared_data / "dnn-partitioning"
    rows = list(device_placement.run(folder, Limits(workers=1), "bert24_inference:contiguous"))
    assert [(row.proven, row.as_good, row.wrong) for row in rows] == [(True, True, False)]


def test_the_runner_writes_rows_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of the form gives a row for each objective, judged against its values."""
    place = tmp_path / "throughput-inputs" / "Small"
    place.mkdir(parents=True)
    times = {"supportedOnFpga": 1, "isBackwardNode": 0, "size": 1.0, "cpuLatency": 9.0, "fpgaLatency": 1.0}
    nodes = [{"id": index} | times for index in range(4)]
    edges = [{"sourceId": index, "destId": index + 1, "cost": 0.25} for index in range(3)]
    machine = {"maxFPGAs": 2, "maxCPUs": 1, "maxSizePerFPGA": 4.0}
    (place / "line.json").write_text(json.dumps(machine | {"nodes": nodes, "edges": edges}))
    known = {"contiguous_optimum": 2.25, "noncontiguous_best": 2.2, "noncontiguous_proven": False}
    (tmp_path / "values.json").write_text(json.dumps({"throughput": {"Small/line": known}}))
    out = tmp_path / "out.txt"
    device_placement.main([str(tmp_path), "--json", str(out), "--limit-free", "5", "--workers", "1"])
    document = json.loads(out.read_text())
    assert [row["value"] for row in document["rows"]] == [2.25, 2.25]
    summary = document["summary"]
    assert (summary["contiguous_proven"], summary["contiguous_total"]) == (1, 1)
    assert (summary["free_at_least_as_good"], summary["free_total"], summary["wrong"]) == (0, 1, 1)
    assert "Small/line" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "bound", "known", "wrong"),
    [
        (2.0, 2.0, Known(2.0, 2.0, optimal=True), False),
        (2.0, 2.0, Known(1.5, 1.0), True),
        (2.0, 2.1, Known(2.0), True),
        (1.9, 1.0, Known(2.0, optimal=True), True),
        (1.9, 1.0, Known(2.0), False),
        (None, None, Known(2.0), True),
    ],
)
def test_contradictions_are_counted_as_wrong(
    value: float | None, bound: float | None, known: Known, wrong: bool
) -> None:
    """A bound above a value, a value below an optimum and a missing plan are wrong."""
    assert Row("i", "free", value, bound, 0.0, 0.0, known).wrong is wrong
