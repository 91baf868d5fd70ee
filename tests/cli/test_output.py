"""What commands print, and where they refuse to write."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli import cli
from planner.cli.tables import table_lines
from planner.errors import OutputExistsError
from planner.report import write_folder
from tests.cli.documents import MACHINE, SERVICE, only_json, run, write_inputs

TOP = {
    "status", "objective", "bound", "gap", "solve_seconds", "baselines", "plan", "prediction", "memory",
    "limits", "links", "provenance",
}  # fmt: skip


def lines(columns: tuple[str, ...], *rows: tuple[str, ...], width: int = 80) -> list[str]:
    """Return the plain lines of a table."""
    return [line.plain for line in table_lines(columns, rows, width)]


def test_a_table_without_names_has_no_header() -> None:
    """Nameless columns leave neither a header nor a blank line."""
    assert lines(("", ""), ("status", "optimal"), ("gap", "0 %")) == ["status  optimal", "gap     0 %"]


def test_a_table_never_exceeds_the_width_where_cells_can_go_below() -> None:
    """Long last cells move below their row, wrapped and indented."""
    found = lines(("rule", "value", "note"), ("greedy", "1.00", "word " * 30), width=40)
    assert found[0] == "rule    value"
    assert found[2] == "greedy  1.00"
    assert found[3].startswith("    note: word word")
    assert all(len(line) <= 40 for line in found)


def test_wide_signs_are_counted_as_wide_as_they_print() -> None:
    """Columns stay aligned after characters of double width."""
    assert lines(("a", "b"), ("漢字", "x"), ("k", "y"))[2:] == ["漢字  x", "k     y"]


def test_solve_prints_one_json_object_with_exactly_the_documented_fields(tmp_path: Path) -> None:
    """The fields of the result are a contract."""
    machine, job = write_inputs(tmp_path)
    arguments = ["solve", str(machine), str(job), "-o", str(tmp_path / "out"), "--no-simulate", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    found = only_json(result.stdout)
    assert set(found) == TOP
    assert found["status"] == "optimal"
    assert set(found["objective"]) == {"name", "value", "unit"}
    assert (found["objective"]["name"], found["objective"]["unit"]) == ("p99_latency", "s")
    assert found["bound"] <= found["objective"]["value"]
    assert found["gap"] == pytest.approx(1 - found["bound"] / found["objective"]["value"])
    assert found["solve_seconds"] > 0
    assert all(ratio is None or ratio > 0 for ratio in found["baselines"].values())
    assert found["baselines"]
    assert found["plan"] == str(tmp_path / "out" / "plan.yaml")
    assert Path(found["plan"]).is_file()
    assert found["prediction"]["latency_p99_s"] == pytest.approx(found["objective"]["value"])
    assert {"ttft_p99_s", "tpot_p99_s", "throughput_tokens_per_second"} <= set(found["prediction"])
    assert 0 < found["memory"]["largest_share"] <= 1
    assert 1 <= len(found["links"]) <= 10
    assert {"source", "target", "utilisation"} <= set(found["links"][0])
    assert 0 <= found["provenance"]["assumed_share"] <= 1


def test_two_jobs_share_a_machine(tmp_path: Path) -> None:
    """Each job has its figures, the objective is their mean slowdown, and the stored plan is legal."""
    second = SERVICE[SERVICE.index("- kind") :].replace("name: chat", "name: code")
    machine, job = write_inputs(tmp_path, workload=SERVICE + second)
    arguments = ["solve", str(machine), str(job), "-o", str(tmp_path / "out"), "--no-simulate", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    found = only_json(result.stdout)
    assert found["objective"]["name"] == "mean_slowdown"
    assert set(found["prediction"]["jobs"]) == {"chat", "code"}
    assert CliRunner().invoke(cli, ["check", found["plan"]]).exit_code == 0
    base = tmp_path / "out" / "k8s" / "base"
    assert {path.name for path in base.iterdir() if path.is_dir()} == {"chat", "code"}


def test_solve_leaves_the_documented_files_and_says_where(tmp_path: Path) -> None:
    """plan.yaml, k8s/, launch/, report.html and summary.json are there and named."""
    write_inputs(tmp_path)
    result = run("solve", "machine.yaml", "job.yaml", "--no-simulate", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "out" / "chat-on-small"
    assert {item.name for item in folder.iterdir()} == {
        "plan.yaml",
        "k8s",
        "launch",
        "report.html",
        "summary.json",
    }
    assert "Written to out/chat-on-small/: plan.yaml" in result.stdout
    assert result.stderr == ""  # progress is for terminals
    scripts = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!"]
    assert scripts
    assert all(path.stat().st_mode & stat.S_IXUSR for path in scripts)


def test_a_taken_folder_is_refused_before_solving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing result costs no solve and stays as it is; an empty folder is welcome."""
    machine, job = write_inputs(tmp_path)
    taken = tmp_path / "out"
    taken.mkdir()
    (taken / "plan.yaml").write_text("mine")
    monkeypatch.setattr("planner.cli.searching.Search.solve", lambda *_: pytest.fail("solved all the same"))
    result = CliRunner().invoke(cli, ["solve", str(machine), str(job), "-o", str(taken)])
    assert result.exit_code == 1
    assert "already exists; use --force" in result.stderr
    assert (taken / "plan.yaml").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused_before_solving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way, or a read-only parent, is reported with the way out."""
    machine, job = write_inputs(tmp_path)
    monkeypatch.setattr("planner.cli.searching.Search.solve", lambda *_: pytest.fail("solved all the same"))
    for folder in ("machine.yaml", "machine.yaml/out", "/proc/out"):
        result = CliRunner().invoke(cli, ["solve", str(machine), str(job), "-o", str(tmp_path / folder)])
        assert result.exit_code in (1, 2)
        assert folder.rsplit("/", 1)[-1] in result.stderr
    assert "choose another place with --output" in result.stderr


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not write there learns so before the solve."""
    machine, job = write_inputs(tmp_path)

    def refused(**_: object) -> str:
        raise PermissionError(13, "Permission denied")  # root could write anywhere

    monkeypatch.setattr("planner.cli.places.tempfile.mkdtemp", refused)
    monkeypatch.setattr("planner.cli.searching.Search.solve", lambda *_: pytest.fail("solved all the same"))
    result = CliRunner().invoke(cli, ["solve", str(machine), str(job), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "cannot be written: Permission denied; choose another place with --output" in result.stderr


def test_force_replaces_results_and_spares_the_rest(tmp_path: Path) -> None:
    """Of what lies in the folder only what is written anew gives way."""
    write_folder(tmp_path, {"plan.yaml": "1", "k8s/a.yaml": "1"})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_folder(tmp_path, {"plan.yaml": "2"})
    (tmp_path / "simulation.yaml").write_text("of plan 1")
    write_folder(tmp_path, {"plan.yaml": "2", "k8s/b.yaml": "2"}, force=True)
    assert (tmp_path / "plan.yaml").read_text() == "2"
    assert [item.name for item in (tmp_path / "k8s").iterdir()] == ["b.yaml"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["k8s", "notes.txt", "plan.yaml"]


def test_a_failed_write_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error half-way through puts the old results back."""
    write_folder(tmp_path, {"a": "old", "b": "old"})
    real = os.replace

    def failing(source: Path, target: Path) -> None:
        if source.parent.name == "fresh" and target == tmp_path / "b":
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr("planner.report.bundle.os.replace", failing)
    with pytest.raises(OSError, match="disk full"):
        write_folder(tmp_path, {"a": "new", "b": "new"}, force=True)
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_results_do_not_depend_on_locale_and_time_zone(tmp_path: Path) -> None:
    """The same plan and manifests come out anywhere, but for the time it took and the digest that follows."""
    write_inputs(tmp_path)
    seen = []
    for name, env in (
        ("east", {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("west", {"TZ": "America/Los_Angeles", "LC_ALL": "de_DE.UTF-8"}),
    ):
        result = run("solve", "machine.yaml", "job.yaml", "-o", name, "--no-simulate", cwd=tmp_path, env=env)
        assert result.returncode == 0, result.stderr
        folder = tmp_path / name
        files = {path.relative_to(folder): path.read_text("utf-8") for path in folder.rglob("*.yaml")}
        volatile = r"^  seconds: .*$|[0-9a-f]{12,64}"
        seen.append({path: re.sub(volatile, "", text, flags=re.MULTILINE) for path, text in files.items()})
    assert len(seen[0]) > 3
    assert seen[0] == seen[1]


def test_a_terminal_without_signs_shows_the_rest(tmp_path: Path) -> None:
    """Output in plain ASCII ends in question marks, not in a traceback."""
    result = run("topology", "list", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr
    assert "dgx-h100" in result.stdout


def test_topologies_are_listed_and_shown(tmp_path: Path) -> None:
    """Every shipped topology is listed; one can be drawn as text and as a picture, into a file too."""
    runner = CliRunner()
    names = [
        item["name"]
        for item in only_json(runner.invoke(cli, ["topology", "list", "--json"]).stdout)["topologies"]
    ]
    assert {"dgx-h100", "riscv-nvlink-fusion"} <= set(names)
    assert names == sorted(names)
    machine, _ = write_inputs(tmp_path)
    assert "gpu0" in runner.invoke(cli, ["topology", "show", str(machine)]).stdout
    picture = tmp_path / "small.svg"
    arguments = ["topology", "show", str(machine), "--format", "svg", "-o", str(picture)]
    assert runner.invoke(cli, arguments).exit_code == 0
    assert picture.read_text().startswith("<svg")
    assert runner.invoke(cli, arguments).exit_code == 1
    assert runner.invoke(cli, [*arguments, "--force"]).exit_code == 0


def test_check_takes_documents_of_any_kind(tmp_path: Path) -> None:
    """Good documents are named with ok; each problem of a bad one has its place."""
    machine, job = write_inputs(tmp_path)
    bad = tmp_path / "bad.yaml"
    bad.write_text(MACHINE.replace("cores: 16", "cores: many"))
    result = CliRunner().invoke(cli, ["check", str(machine), str(job), str(bad)])
    assert result.exit_code == 1
    assert f"{machine}: ok" in result.stdout
    assert f"{job}: ok" in result.stdout
    assert f"{bad}:8:12: " in result.stderr
    found = only_json(CliRunner().invoke(cli, ["check", str(bad), "--json"]).stdout)
    assert not found["ok"]
    assert list(found["problems"]) == [str(bad)]
