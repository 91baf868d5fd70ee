"""Recorded dumps of hosts and fabrics, judged by the benchmark's runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.topology_import import Case, main, report, run

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    """Return the recorded dumps, or skip where they are absent."""
    found = shared_data / "topology-dumps"
    if not (found / "truth.json").is_file():
        pytest.skip("the recorded dumps (../shared/data/topology-dumps) are absent")
    return found


@pytest.fixture(scope="module")
def cases(folder: Path) -> list[Case]:
    """Return every recorded dump, judged."""
    return run(folder)


def test_every_dump_is_exact_or_refused_as_expected(cases: list[Case]) -> None:
    """Nothing differs from the truth of any machine."""
    bad = {case.file: case.reasons for case in cases if case.verdict in ("wrong", "silent_wrong")}
    assert bad == {} and len(cases) > 0


def test_nearly_everything_in_the_truths_is_compared(cases: list[Case]) -> None:
    """Parts of a truth that no view keeps are few and known."""
    assert {key for case in cases for key in case.unchecked} <= {"gpu_model_info_rows", "clusters_of_4"}


def test_reading_is_quick(cases: list[Case]) -> None:
    """A host takes a tenth of a second of CPU time; three times that is granted to busy machines."""
    slow = {case.file: case.cpu for case in cases if case.cpu > 0.3}
    assert slow == {}


def test_the_runner_writes_its_figures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed, the document holds the summary, and the exit code says that all is well."""
    assert main([str(folder), "--json", str(tmp_path / "out.json")]) == 0
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    summary = document["summary"]
    assert (
        summary["exact"] + summary["refused_as_expected"] == summary["files"] and summary["silent_wrong"] == 0
    )
    assert "refused_as_expected" in capsys.readouterr().out


def test_a_false_truth_is_noticed(folder: Path, tmp_path: Path) -> None:
    """The runner fails a view against a truth that says otherwise: silently where the view has no doubt."""
    entries = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    entry = next(entry for entry in entries if entry["file"] == "slurm-block.topology.conf")
    entry["truth"]["nodes"] += 1
    (tmp_path / "truth.json").write_text(json.dumps([entry]), encoding="utf-8")
    (tmp_path / entry["kind"]).symlink_to(folder / entry["kind"])
    cases = run(tmp_path)
    assert cases[0].verdict in ("wrong", "silent_wrong") and report(cases)["summary"]["exact"] == 0
