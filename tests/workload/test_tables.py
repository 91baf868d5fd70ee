"""Embedding tables from CSV and inline, and what is said about wrong ones."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from planner.errors import DocumentError
from planner.workload.tables import AccessPoint, EmbeddingTable, RecommenderJob, read_tables

HEADER = "table,rows,dim,pooling,zipf_alpha\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "tables.csv"
    path.write_text(text)
    return path


def test_a_csv_file_gives_its_tables(tmp_path: Path) -> None:
    """Columns may come in any order, and the data type has a default."""
    path = written(tmp_path, "dim, table, pooling, rows\n128, users, 2.5, 1000\n\n16, items, 1, 7\n")
    users, items = read_tables(path)
    assert (users.name, users.rows, users.dim, users.pooling, users.dtype) == (
        "users",
        1000,
        128,
        2.5,
        "fp32",
    )
    assert items.size == 7 * 16 * 4


@pytest.mark.parametrize(
    ("lines", "line", "where", "text"),
    [
        ("a,10,8,1,1\nb,ten,8,1,1\n", 3, "rows", "'ten'"),
        ("a,0,8,1,1\n", 2, "rows", "greater than or equal to 1"),
        ("a,10,8,-1,1\n", 2, "pooling", "greater than 0"),
        ("a,10,,1,1\n", 2, "dim", "required"),
        ("a,10,8,1\n", 2, "", "4 values for 5 columns"),
        ("a,10,8,1,1\nb,1,8,1,1\na,10,8,1,1\n", 4, "table", "line 2"),
        ("a,10,8,nan,1\n", 2, "pooling", "finite"),
        ("", 1, "", "no table"),
        ('a,10,8,1,"x\n', 2, "", "not CSV"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, lines: str, line: int, where: str, text: str) -> None:
    """Every mistake in a file of tables is reported with its line and column name."""
    with pytest.raises(DocumentError) as caught:
        read_tables(written(tmp_path, HEADER + lines))
    problem = caught.value.problems[-1]
    assert (problem.line, problem.where) == (line, where)
    assert text in problem.text


def test_a_wrong_header_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    """A misspelt column is both missing and unknown, and the hint names the right one."""
    with pytest.raises(DocumentError) as caught:
        read_tables(written(tmp_path, "table,rows,dims,pooling\na,1,1,1\n"))
    missing, unknown = caught.value.problems
    assert "'dim'" in missing.text
    assert "'dim'" in unknown.hint


def test_all_wrong_lines_are_reported_at_once(tmp_path: Path) -> None:
    """One run shows every line that has to be mended."""
    with pytest.raises(DocumentError) as caught:
        read_tables(written(tmp_path, HEADER + "a,x,8,1,1\nb,1,8,1,1\nc,1,y,1,1\n"))
    assert [problem.line for problem in caught.value.problems] == [2, 4]


def test_a_histogram_that_falls_is_refused() -> None:
    """A cumulative histogram rises in rows and in accesses."""
    points = [AccessPoint(rows=0.5, accesses=0.9), AccessPoint(rows=0.4, accesses=0.95)]
    with pytest.raises(ValidationError, match="must rise"):
        EmbeddingTable(name="a", rows=10, dim=4, pooling=1.0, histogram=points)


def test_a_job_refuses_two_tables_of_one_name() -> None:
    """Table names are the identity of tables in plans, so a job cannot repeat one."""
    table = EmbeddingTable(name="a", rows=10, dim=4, pooling=1.0)
    with pytest.raises(ValidationError, match="named twice"):
        RecommenderJob(kind="recommender", name="job", tables=[table, table], global_batch=64)
