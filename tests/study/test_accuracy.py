import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from planner.cli.main import cli
from planner.errors import DocumentError
from planner.study.accuracy import Prediction, accuracy_of_file, scores

COLUMNS = (
    "source", "framework", "gpu", "num_gpus", "model", "precision", "seq_len", "gbs", "mbs", "tp", "pp",
    "recompute", "step_time_s",
)  # fmt: skip
ROW = (
    "ours",
    "Megatron-LM",
    "A100-SXM-80",
    "64",
    "gpt3-175b",
    "FP16",
    "2048",
    "64",
    "1",
    "8",
    "8",
    "full",
    "18.1",
)


def table(tmp_path: Path, *rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


def changed(**cells: str) -> tuple[str, ...]:
    return tuple(cells.get(name, value) for name, value in zip(COLUMNS, ROW, strict=True))


def test_a_published_run_of_gpt3_is_predicted_within_a_tenth(tmp_path: Path) -> None:
    """GPT-3 175B on 64 A100 with full recomputation took 18.13 s (Korthikanti et al., 2022, table 5)."""
    found = accuracy_of_file(table(tmp_path, ROW))
    assert found.scores["step_time", "ours"].coverage == 1.0
    assert found.scores["step_time", "ours"].mape < 0.10


def test_blank_cells_are_tried_and_counted(tmp_path: Path) -> None:
    """Three modes of recomputation stand behind a blank cell; the nearest counts, so none is farther off."""
    path = table(tmp_path, ROW, changed(recompute=""), changed(recompute="none"))
    stated, blank, none = accuracy_of_file(path).predictions
    assert blank.tried > stated.tried
    assert abs(blank.predicted - 18.1) <= abs(stated.predicted - 18.1)
    assert none.predicted < stated.predicted


def test_an_unknown_model_is_named_with_its_line_and_counts_as_missing(tmp_path: Path) -> None:
    """The row has no prediction, says why, and lowers the coverage; the other rows are predicted."""
    found = accuracy_of_file(table(tmp_path, ROW, changed(model="gpt3-175c")))
    assert found.predictions[1].line == 3
    assert "gpt3-175b" in found.predictions[1].reason
    assert found.scores["step_time", "ours"].coverage == 0.5
    assert found.scores["step_time", "ours"].worst == 1.0


def test_a_misspelt_column_is_named_with_its_nearest(tmp_path: Path) -> None:
    """Without the column 'gbs' the table cannot be read: the error names it and the likely misspelling."""
    columns = tuple("gbss" if name == "gbs" else name for name in COLUMNS)
    with pytest.raises(DocumentError, match=r"gbs.*gbss"):
        accuracy_of_file(table(tmp_path, ROW, columns=columns))


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    """Column names alone hold no run."""
    with pytest.raises(DocumentError, match="no rows"):
        accuracy_of_file(table(tmp_path))


def test_scores_come_by_source_and_for_all() -> None:
    """Two sources give three lines; a missing prediction counts as 100 %."""
    rows = [
        Prediction(2, "a", "step_time", 1.1, 1.0),
        Prediction(3, "b", "step_time", float("nan"), 1.0),
        Prediction(4, "b", "step_time", 1.0, float("nan")),
    ]
    found = scores(rows)
    assert found["step_time", "a"].mape == pytest.approx(0.1)
    assert found["step_time", "b"].rows == 1
    assert found["step_time", "all"].mape == pytest.approx(0.55)


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    """Both carry the same mean error."""
    path = table(tmp_path, ROW, changed(mbs="2", step_time_s="17.9"))
    text = CliRunner().invoke(cli, ["accuracy", str(path)])
    assert text.exit_code == 0, text.output
    assert "ours" in text.output
    plain = CliRunner().invoke(cli, ["accuracy", str(path), "--json"])
    body = json.loads(plain.stdout)
    mean = 100 * body["scores"][0]["mape"]
    assert np.isfinite(mean)
    assert f"{mean:.1f}%" in text.output
