"""Tables in Markdown of rates by message size or by number of devices, as read-me files keep them."""

from __future__ import annotations

import re

import numpy as np

from planner.calibrate.importers.blocks import BenchOutput, OutputRefusedError, SizeTable
from planner.calibrate.importers.text import Line, lines_of

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)")
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)\s*(GBps|GB/s|MBps|MB/s)")
_BYTES = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "KB": 1e3, "MB": 1e6, "GB": 1e9}
_PER_SECOND = {"GBps": 1e9, "GB/s": 1e9, "MBps": 1e6, "MB/s": 1e6}
_RULE = re.compile(r"\s*\|?[\s:|-]+\|?\s*$")
_RATIO = re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)x")


def read_markdown(text: str, name: str) -> BenchOutput:
    """Read a table whose first column is a size or a number of devices and that has columns of rates.

    Raises
    ------
    OutputRefusedError
        If there is no such table, or a row has another number of cells than the head.
    """
    rows = [line for line in lines_of(text) if line.text.lstrip().startswith("|")]
    if len(rows) < 3 or not _RULE.match(rows[1].text):
        raise OutputRefusedError(name, 0, "no table in Markdown with a head, a rule and rows")
    head = _cells(rows[0])
    body = [(line, _cells(line)) for line in rows[2:]]
    for line, cells in body:
        if len(cells) != len(head):
            raise OutputRefusedError(name, line.number, f"{len(cells)} cells under {len(head)} columns")
    columns = [j for j in range(1, len(head)) if all(_RATE.fullmatch(cells[j]) for _, cells in body)]
    if not columns:
        _refuse_odd_rate(body, head, name)
        raise OutputRefusedError(name, 0, "no column of rates such as '36.06GBps'")
    sized = all(_SIZE.fullmatch(cells[0]) for _, cells in body)
    keys = tuple(_key(line, cells[0], sized, name) for line, cells in body)
    rates = np.asarray([[_rate(cells[j]) for j in columns] for _, cells in body])
    table = SizeTable(
        "all_reduce", "bytes" if sized else "ranks", keys, tuple(head[j] for j in columns), rates,
        tuple(line.number for line, _ in body),
    )  # fmt: skip
    return BenchOutput("markdown-table", (table,), warnings=_doubts(table, body, head, name))


def _cells(line: Line) -> list[str]:
    return [cell.strip() for cell in line.text.strip().strip("|").split("|")]


def _key(line: Line, cell: str, sized: bool, name: str) -> float:
    if sized:
        match = _SIZE.fullmatch(cell)
        assert match is not None
        return float(match[1]) * _BYTES[match[2]]
    if not cell.isdigit():
        raise OutputRefusedError(name, line.number, f"{cell!r} where a size or a number of devices belongs")
    return float(cell)


def _rate(cell: str) -> float:
    match = _RATE.fullmatch(cell)
    assert match is not None
    return float(match[1]) * _PER_SECOND[match[2]]


def _refuse_odd_rate(body: list[tuple[Line, list[str]]], head: list[str], name: str) -> None:
    """Name the cell that keeps a column of rates from being one."""
    for j in range(1, len(head)):
        odd = [(line, cells[j]) for line, cells in body if not _RATE.fullmatch(cells[j])]
        if odd and len(odd) <= len(body) / 2:
            raise OutputRefusedError(name, odd[0][0].number, f"{odd[0][1]!r} where a rate belongs")


def _doubts(
    table: SizeTable, body: list[tuple[Line, list[str]]], head: list[str], name: str
) -> tuple[str, ...]:
    """Return what ratios between the columns contradict, and keys out of order."""
    found = []
    for before, key, place in zip(table.keys, table.keys[1:], table.lines[1:], strict=False):
        if key <= before:
            found.append(f"{name}:{place}: the row is out of order")
    ratios = [j for j in range(1, len(head)) if all(_RATIO.fullmatch(cells[j]) for _, cells in body)]
    if len(ratios) == 1 and table.rates.shape[1] == 2:
        for (line, cells), pair in zip(body, table.rates, strict=True):
            printed = float(cells[ratios[0]].rstrip("x"))
            high, low = max(pair), min(pair)
            coarse = 0.005e9 / low if low > 0 else np.inf  # the rates themselves are rounded
            if abs(high / max(low, 1.0) - printed) > 0.051 + printed * coarse:
                found.append(f"{name}:{line.number}: {cells[ratios[0]]} is not the ratio of the rates")
    return tuple(found)
