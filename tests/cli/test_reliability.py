"""What goes wrong outside the program: full disks, long names, line ends, two calls at once."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli import cli
from planner.study import Sources, load_documents
from tests.cli.documents import MACHINE, SERVICE, write_inputs
from tests.study.whatif.studies import write_study

LONGEST = 253
"""Characters that a name in a document may have."""


def test_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    """Documents saved on Windows, with a byte order mark too, have the digests of the others."""
    machine, job = write_inputs(tmp_path)
    plain = load_documents(Sources(machine, job)).digests
    for mark in (b"", b"\xef\xbb\xbf"):
        machine.write_bytes(mark + MACHINE.replace("\n", "\r\n").encode())
        job.write_bytes(mark + SERVICE.replace("\n", "\r\n").encode())
        assert load_documents(Sources(machine, job)).digests == plain


def test_the_longest_names_reach_every_file(tmp_path: Path) -> None:
    """Names as long as documents allow give a plan, its manifests, scripts and page, under names that fit."""
    machine = MACHINE.replace("name: small", "name: " + "s" * LONGEST)
    write_inputs(tmp_path, machine, SERVICE.replace("name: chat", "name: " + "c" * LONGEST))
    folder = tmp_path / "out"
    names = [str(tmp_path / "machine.yaml"), str(tmp_path / "job.yaml"), "-o", str(folder)]
    result = CliRunner().invoke(cli, ["solve", *names, "--no-simulate"])
    assert result.exit_code == 0, result.stderr
    assert {"plan.yaml", "report.html", "k8s", "launch"} <= {path.name for path in folder.iterdir()}
    assert "c" * LONGEST in (folder / "report.html").read_text(encoding="utf-8")
    longer = (tmp_path / "job.yaml").read_text(encoding="utf-8").replace("c" * LONGEST, "c" * (LONGEST + 1))
    (tmp_path / "job.yaml").write_text(longer, encoding="utf-8")
    refused = CliRunner().invoke(cli, ["check", str(tmp_path / "job.yaml")])
    assert refused.exit_code == 1
    assert "job.yaml:2:7: name: String should have at most 253 characters" in refused.stderr


@pytest.mark.parametrize("command", ["solve", "report"])
def test_a_name_that_the_system_refuses_is_one_line(tmp_path: Path, command: str) -> None:
    """A path longer than the file system takes is said before the work starts, without a traceback."""
    machine, job = write_inputs(tmp_path)
    plan = tmp_path / "plan.yaml"
    plan.write_text("", encoding="utf-8")
    inputs = [str(machine), str(job)] if command == "solve" else [str(plan)]
    result = CliRunner().invoke(cli, [command, *inputs, "-o", str(tmp_path / ("x" * 300))])
    assert result.exit_code == 1
    assert "File name too long" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def small_files() -> None:
    """Let no file grow beyond 20 kB, as on a disk that is almost full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_disk_that_fills_up_is_said_with_its_place_and_leaves_nothing(tmp_path: Path) -> None:
    """Where the page no longer fits, the error names the folder, and no half of the results is there."""
    write_inputs(tmp_path)
    words = ["-m", "planner", "solve", "machine.yaml", "job.yaml", "-o", "out", "--no-simulate"]
    found = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, preexec_fn=small_files, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert "File too large" in line and "out" in line
    assert [*(tmp_path / "out").iterdir()] == []


@pytest.mark.slow
def test_two_studies_at_once_share_a_folder(tmp_path: Path) -> None:
    """Both calls succeed and leave the table that one alone would leave."""
    study = write_study(tmp_path)
    call = [sys.executable, "-m", "planner", "whatif", str(study), "--processes", "1", "-o"]
    both = [subprocess.Popen([*call, str(tmp_path / "out")], stderr=subprocess.PIPE) for _ in range(2)]
    for one in both:
        _, said = one.communicate(timeout=300)
        assert one.returncode == 0, said
    subprocess.run([*call, str(tmp_path / "alone")], check=True, timeout=300, capture_output=True)
    tables = [(tmp_path / name / "results.csv").read_text(encoding="utf-8") for name in ("out", "alone")]
    assert tables[0] == tables[1]
