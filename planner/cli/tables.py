"""Plain tables for the terminal: columns as wide as needed, last cells below their row where it is narrow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

GAP = 2
INDENT = 4


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    """Yield the lines of a table.

    The header is left out where all columns are nameless. Where the table is wider than ``width``, the cells
    of its last columns go below their rows.
    """
    sizes = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    while len(sizes) > 1 and _width(sizes) > width:
        sizes.pop()
    if any(columns[: len(sizes)]):
        yield Text(_line(columns, sizes), style="bold")
        yield Text("─" * _width(sizes), style="dim")
    for row in rows:
        yield Text(_line(row, sizes))
        for name, cell in zip(columns[len(sizes) :], row[len(sizes) :], strict=True):
            yield from _below(name, cell, width)


def _width(sizes: Sequence[int]) -> int:
    return sum(sizes) + GAP * (len(sizes) - 1)


def _line(cells: Sequence[str], sizes: Sequence[int]) -> str:
    padded = (cell + " " * (size - cell_len(cell)) for cell, size in zip(cells, sizes, strict=False))
    return (" " * GAP).join(padded).rstrip()


def _below(name: str, cell: str, width: int) -> Iterator[Text]:
    text = f"{name}: {cell}" if name else cell
    for part in textwrap.wrap(text, max(20, width - INDENT)) if cell else ():
        yield Text(" " * INDENT + part, style="dim")
