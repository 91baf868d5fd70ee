"""Embedding tables of a recommender, inline or from CSV, and the job that trains or serves them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from planner.errors import DocumentError, Problem, nearest
from planner.schema import Name, Ratio, Record, read_text
from planner.workload.limits import Budget
from planner.workload.models import BYTES_PER_ELEMENT, Precision

Optimizer = Literal["none", "sgd", "rowwise-adagrad", "adagrad", "adam"]
Tier = Literal["gpu", "cached", "host"]

COLUMNS = {
    "table": "name",
    "rows": "rows",
    "dim": "dim",
    "pooling": "pooling",
    "zipf_alpha": "skew",
    "dtype": "dtype",
}
"""Columns of a CSV file of tables and the fields that they fill; the last two may be left out."""
NEEDED = ("table", "rows", "dim", "pooling")


class AccessPoint(Record):
    """A point of a measured access histogram: the most popular share of rows takes a share of accesses."""

    rows: float = Field(gt=0, le=1)
    accesses: float = Field(ge=0, le=1)


class EmbeddingTable(Record):
    """One embedding table.

    Attributes
    ----------
    rows, dim
        Number of embeddings and elements of each.
    pooling
        Mean lookups per sample.
    skew
        Exponent of the access popularity ``p(rank) ~ rank ** -skew``; 0 for even access.
    histogram
        Measured cumulative accesses, most popular rows first; replaces ``skew``.
    """

    name: Name
    rows: int = Field(ge=1, le=10**13)
    dim: int = Field(ge=1, le=2**20)
    pooling: float = Field(gt=0, le=1e6)
    dtype: Precision = "fp32"
    skew: float = Field(default=0.0, ge=0, le=10)
    histogram: list[AccessPoint] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _histogram_rises(self) -> EmbeddingTable:
        points = self.histogram or []
        for left, right in pairwise(points):
            if right.rows <= left.rows or right.accesses < left.accesses:
                raise ValueError("the points of a histogram must rise in rows and accesses")
        return self

    @property
    def element(self) -> float:
        """Bytes of an element."""
        return BYTES_PER_ELEMENT[self.dtype]

    @property
    def size(self) -> float:
        """Bytes of all rows."""
        return self.rows * self.dim * self.element


class DensePart(Record):
    """The part of a recommender that every GPU holds whole.

    Attributes
    ----------
    flops
        Floating-point operations of the forward pass of one sample.
    parameters
        Number of trainable parameters.
    """

    flops: float = Field(ge=0)
    parameters: float = Field(ge=0)
    precision: Precision = "bf16"


class RecommenderJob(Record):
    """Training or serving of a model with embedding tables: minimise the load of the busiest GPU.

    Attributes
    ----------
    tables
        The tables, or the path of a CSV file with them, relative to the document.
    global_batch
        Samples per iteration over all GPUs.
    optimizer
        Optimizer of the tables, whose state lies beside them; without effect in inference.
    costs
        Model that prices the tables: ``topology`` with the machine's routes, shared links and distinct rows;
        ``torchrec``, flat like the public planner's.
    tiers
        Where tables may lie: in GPU memory, in host memory behind a cache in GPU memory, in host memory.
    cache_shares
        Shares of a table's rows that its cache may hold.
    min_partition
        Least columns of a shard.
    free_widths
        Whether every multiple of 16 columns may be the width of a shard.
    """

    kind: Literal["recommender"]
    name: Name
    tables: list[EmbeddingTable] | str = Field(min_length=1)
    dense: DensePart | None = None
    global_batch: int = Field(ge=1)
    mode: Literal["training", "inference"] = "training"
    optimizer: Optimizer = "none"
    costs: Literal["topology", "torchrec"] = "topology"
    tiers: list[Tier] = Field(default_factory=lambda: list(get_args(Tier)), min_length=1)
    cache_shares: list[Annotated[Ratio, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: [0.1, 0.2, 0.4], min_length=1
    )
    min_partition: int = Field(default=128, ge=4)
    free_widths: bool = False
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _names_differ(self) -> RecommenderJob:
        if isinstance(self.tables, str):
            return self
        seen: set[str] = set()
        for table in self.tables:
            if table.name in seen:
                raise ValueError(f"the table {table.name!r} is named twice")
            seen.add(table.name)
        return self


def read_tables(path: str | Path) -> list[EmbeddingTable]:
    """Read tables from a CSV file: ``table, rows, dim, pooling`` and optionally ``zipf_alpha, dtype``.

    Raises
    ------
    DocumentError
        If the file cannot be read or any line is wrong; all wrong lines are named.
    """
    name, problems = str(path), list[Problem]()
    reader = csv.reader(io.StringIO(read_text(path).removeprefix("\ufeff")), strict=True)
    places: dict[str, int] = {}
    tables: list[EmbeddingTable] = []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        problems.extend(_header_problems(name, header))
        for cells in () if problems else reader:
            table = _read_line(name, reader.line_num, header, cells, problems) if cells else None
            if table is None:
                continue
            if table.name in places:
                text = f"the table {table.name!r} stands on line {places[table.name]} already"
                problems.append(Problem(name, reader.line_num, 1, "table", text))
            places.setdefault(table.name, reader.line_num)
            tables.append(table)
    except csv.Error as error:
        problems.append(Problem(name, reader.line_num, 1, "", f"not CSV: {error}"))
    if not tables and not problems:
        problems.append(Problem(name, 1, 1, "", "no table", "write one table on each line"))
    if problems:
        raise DocumentError(problems)
    return tables


_MOST_COLUMNS = 100
"""Columns that are looked at; a table that is one has fewer."""


def _header_problems(path: str, header: Sequence[str]) -> Iterator[Problem]:
    for column in NEEDED:
        if column not in header:
            hint = f"the first line names the columns: {','.join(COLUMNS)}"
            yield Problem(path, 1, 1, "", f"there is no column {column!r}", hint)
    for place, column in enumerate(header[:_MOST_COLUMNS]):
        if column not in COLUMNS:
            close = nearest(column, COLUMNS)
            hint = f"did you mean {close!r}?" if close else f"known: {', '.join(COLUMNS)}"
            yield Problem(path, 1, 1 + place, column, "unknown column", hint)
        elif column in header[:place]:
            yield Problem(path, 1, 1 + place, column, "the column is named twice")


def _read_line(
    path: str, line: int, header: Sequence[str], cells: Sequence[str], problems: list[Problem]
) -> EmbeddingTable | None:
    """Return the table of a line, or add what is wrong with it to ``problems``."""
    if len(cells) != len(header):
        problems.append(Problem(path, line, 1, "", f"{len(cells)} values for {len(header)} columns"))
        return None
    given = {COLUMNS[column]: cell.strip() for column, cell in zip(header, cells, strict=True)}
    words = ("name", "dtype")
    fields = {key: value if key in words else _number(value) for key, value in given.items() if value}
    try:
        return EmbeddingTable.model_validate(fields)
    except ValidationError as error:
        columns = {field: column for column, field in COLUMNS.items()}
        for detail in error.errors(include_url=False):
            field = str(detail["loc"][0]) if detail["loc"] else ""
            value = f"{given[field]!r}: " if given.get(field) else ""
            problems.append(Problem(path, line, 1, columns.get(field, field), value + detail["msg"]))
    return None


def _number(text: str) -> object:
    """Return the number that a cell holds, else its text."""
    for reading in (int, float):
        try:
            return reading(text)
        except ValueError:
            continue
    return text
