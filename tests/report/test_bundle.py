"""A folder of results is whole, whoever writes it at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from planner.errors import OutputExistsError
from planner.report import write_folder

WRITER = """
import sys
from pathlib import Path
from planner.report.bundle import write_folder
names = "plan.yaml", "a", "k8s/b", "k8s/c", "z"
for turn in range(25):
    mark = f"{sys.argv[2]} {turn}"
    write_folder(Path(sys.argv[1]), {name: mark for name in names}, force=True)
"""


def test_processes_that_write_one_folder_take_turns(tmp_path: Path) -> None:
    """Three processes that replace the same folder all succeed; what is left is of one call."""
    folder = tmp_path / "out"
    call = [sys.executable, "-c", WRITER, str(folder)]
    running = [subprocess.Popen([*call, name], stderr=subprocess.PIPE, text=True) for name in "abc"]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    marks = {path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}
    assert len(marks) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["a", "k8s", "plan.yaml", "z"]


def test_the_second_to_come_is_refused(tmp_path: Path) -> None:
    """Without force a folder that another call has filled meanwhile is left alone."""
    write_folder(tmp_path / "out", {"a": "first"})
    with pytest.raises(OutputExistsError):
        write_folder(tmp_path / "out", {"a": "second"})
    assert (tmp_path / "out" / "a").read_text(encoding="utf-8") == "first"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """Where one file cannot be written, none is replaced and nothing is left behind."""
    folder = tmp_path / "out"
    write_folder(folder, {"a": "first", "b": "first"})
    with pytest.raises(OSError):
        write_folder(folder, {"a": "second", "b/" + "x" * 300: "second"}, force=True)
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == {
        "a": "first",
        "b": "first",
    }
