"""Rows with the same columns, and figures, as files for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import StudyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, object]


def rows_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV, their columns those of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet.

    Raises
    ------
    StudyError
        If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise StudyError("Parquet needs the extra 'parquet': pip install 'planner[parquet]'") from None
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def png_files(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """Return figures as PNG, by name."""
    files = {}
    for name, figure in figures.items():
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        files[name] = stream.getvalue()
    return files
