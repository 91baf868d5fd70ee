"""``planner whatif`` as a user types it: files, table, a second run that solves nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from click.testing import CliRunner

from planner.cli import cli
from tests.study.whatif.studies import write_study


def test_a_study_leaves_its_table_and_figures_and_is_not_solved_twice(tmp_path: Path) -> None:
    """Four rows; the slower link costs time; the second run counts no solve and no simulation."""
    study, folder = write_study(tmp_path), tmp_path / "out"
    arguments = ["whatif", str(study), "-o", str(folder), "--processes", "1"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    assert "4 scenarios: 4 solved, 4 simulated" in result.stdout
    with (folder / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["nvlink"], row["rate"]) for row in rows] == [
        ("1 x", "1 req/s"), ("1 x", "2 req/s"), ("0.01 x", "1 req/s"), ("0.01 x", "2 req/s"),
    ]  # fmt: skip
    assert float(rows[2]["objective"]) > float(rows[0]["objective"])
    for name in ("line", "heat", "tornado"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    again = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert again["counts"] == {"scenarios": 4, "solved": 0, "simulated": 0, "reused": 4}
    assert len(again["rows"]) == 4
    assert {change["parameter"] for change in again["changes"]} <= {"nvlink", "rate"}


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    """What CSV says is in the Parquet file too, numbers as numbers."""
    from pyarrow import parquet

    study, folder = write_study(tmp_path, factors="1", rates="1 req/s"), tmp_path / "out"
    result = CliRunner().invoke(
        cli, ["whatif", str(study), "-o", str(folder), "--processes", "1", "--parquet"]
    )
    assert result.exit_code == 0, result.stderr
    (row,) = parquet.read_table(folder / "results.parquet").to_pylist()
    assert row["status"] == "optimal"
    assert row["objective"] > 0


def test_a_wrong_path_is_an_error_before_anything_is_solved(tmp_path: Path) -> None:
    """The message names the path and the nearest field; nothing is written."""
    study = write_study(tmp_path)
    study.write_text(
        study.read_text(encoding="utf-8").replace("traffic.rate", "traffik.rate"), encoding="utf-8"
    )
    result = CliRunner().invoke(cli, ["whatif", str(study), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "did you mean 'traffic'" in result.stderr
    assert not (tmp_path / "out").exists()
