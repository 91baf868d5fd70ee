"""Tables of nccl-tests and rccl-tests: old columns without a root, new ones, N/A errors, stray log lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from planner.calibrate.importers.blocks import BenchOutput, CollectiveRow, CollectiveTable, OutputRefusedError
from planner.calibrate.importers.collective_checks import check_table, operation_of, ranks_of
from planner.calibrate.importers.text import Line, lines_of, number

MICRO, GIGA = 1e-6, 1e9
_TYPE = re.compile(r"u?int(?:8|32|64)?|u?char|half|b?float(?:16|32|64)?|double|(?:fp8_|f8)e[45]m[23]")
_DEVICE = re.compile(
    r"#\s*Rank\s+(\d{1,18})\s.*?\bon\s+(\S+)\s+device\s+(\d{1,18})\s+\[[0-9a-fA-Fx:.]*\]\s*(.*?)\s*$"
)
_HEADER = re.compile(r"#?\s*size\s+count\s+type\s")
_AVERAGE = re.compile(r"#\s*Avg bus bandwidth\s*:\s*(\S+)")
_WRONG = re.compile(r"#\s*Out of bounds values\s*:\s*(\d{1,18})")
_RANGE = re.compile(
    r"#.*\bminBytes\s+(\d{1,18})\s+maxBytes\s+(\d{1,18})\s+step:\s*(\d{1,18})\((factor|bytes)\)"
)
_PROGRAM = re.compile(r"\b(\w+)_perf\b")
_VERSION = re.compile(r"\bNCCL version\s+([0-9][\w.+-]*)|nccl-library=(\d+)")


@dataclass(frozen=True)
class _Columns:
    """Which words a row has: a root or not, a reduction or not, errors in the last place of each half."""

    half: int

    @classmethod
    def of(cls, header: Line, source: str) -> _Columns:
        names = header.text.lstrip("# ").split()
        start = next((place for place, name in enumerate(names) if name in ("time", "cputime")), None)
        if start is None:
            raise OutputRefusedError(source, header.number, "the table has no column of times; it is cut")
        again = next(
            (place for place, name in enumerate(names[start + 1 :], start + 1) if name == names[start]),
            len(names),
        )
        return cls(again - start)


def read_nccl_tests(text: str, name: str) -> BenchOutput:
    """Read every table of a text.

    Raises
    ------
    OutputRefusedError
        If there is no table, a row is cut or has a word where a number belongs, or sizes repeat or fall.
    """
    lines = lines_of(text)
    heads = [place for place, line in enumerate(lines) if _HEADER.match(line.text)]
    if not heads:
        raise OutputRefusedError(name, 0, "no table of nccl-tests: a line with 'size count type' is missing")
    tables: list[CollectiveTable] = []
    warnings: list[str] = []
    versions: dict[str, str] = {}
    devices: list[str] = []
    for place, head in enumerate(heads):
        start = 0 if place == 0 else heads[place - 1] + 1
        end = heads[place + 1] if place + 1 < len(heads) else len(lines)
        before, body = lines[start:head], lines[head:end]
        found = _devices(before)
        devices += found
        versions |= _versions(before)
        tables.append(_table(before, body, len(found), name, warnings))
    return BenchOutput("nccl-tests", tuple(tables), versions, tuple(devices), (), tuple(warnings))


def _devices(lines: list[Line]) -> list[str]:
    return [match[4] for line in lines if (match := _DEVICE.match(line.text))]


def _versions(lines: list[Line]) -> dict[str, str]:
    for line in lines:
        if match := _VERSION.search(line.text):
            return {"nccl": match[1] or match[2]}
    return {}


def _table(
    before: list[Line], body: list[Line], listed: int, name: str, warnings: list[str]
) -> CollectiveTable:
    columns = _Columns.of(body[0], name)
    rows: list[CollectiveRow] = []
    reduces = False
    for line in body[1:]:
        words = line.words
        if not words or words[0].startswith("#"):
            continue
        if number(words[0]) is None or len(words) < 3 or not _TYPE.fullmatch(words[2]):
            if number(words[0]) is not None and (len(words) < 3 or number(words[1]) is not None):
                raise OutputRefusedError(
                    name, line.number, f"a row of the table is cut: {line.text.strip()!r}"
                )
            warnings.append(
                f"{name}:{line.number}: no row of the table, passed over: {line.text.strip()[:60]!r}"
            )
            continue
        row, reduced = _row(line, words, columns, name, warnings)
        rows.append(row)
        reduces |= reduced
    if not rows:
        raise OutputRefusedError(name, body[0].number, "the table has no row; the file may be cut")
    average, wrong = _closing(body, name, warnings)
    ratio = _ratio(rows)
    program = _program(before + body)
    # A cut listing of devices names fewer ranks than ran: then the bus factor alone tells their number.
    known = listed if _complete(before, listed) else None
    operation = operation_of(program, reduces, ratio, known)
    ranks = ranks_of(operation, rows, known)
    table = CollectiveTable(operation, ranks, tuple(rows), average)
    warnings += check_table(table, name, _expected(before), wrong)
    return table


def _row(
    line: Line, words: list[str], columns: _Columns, name: str, warnings: list[str]
) -> tuple[CollectiveRow, bool]:
    """Return a row, and whether it names a reduction."""
    values = words[3:]
    reduces = bool(values) and number(values[0]) is None and values[0] not in ("N/A", "none")
    if values and number(values[0]) is None:
        values = values[1:]
    halves = 2 * columns.half
    if len(values) == halves + 1:  # the root of the newer columns
        values = values[1:]
    if len(values) not in (halves, columns.half):
        raise OutputRefusedError(
            name, line.number, f"{len(values)} figures where {halves} belong; the row is cut or fused"
        )
    first, second = values[: columns.half], values[columns.half :]
    times = [_figure(word, line, name) for word in first[:3]]
    again = [_figure(word, line, name) for word in second[:3]] if second else [None, None, None]
    wrong = (number(first[3]) or 0.0) if columns.half > 3 else 0.0
    size, count = _figure(words[0], line, name), _figure(words[1], line, name)
    if count > 0 and size % count:
        warnings.append(f"{name}:{line.number}: {words[0]} bytes are no multiple of {words[1]} elements")
    return (
        CollectiveRow(
            size, times[0] * MICRO, times[1] * GIGA, times[2] * GIGA,
            None if again[0] is None else again[0] * MICRO,
            None if again[2] is None else again[2] * GIGA,
            line.number, wrong,
        ),
        reduces,
    )  # fmt: skip


def _figure(word: str, line: Line, name: str) -> float:
    value = number(word)
    if value is None or value < 0.0:
        raise OutputRefusedError(name, line.number, f"{word!r} where a figure belongs")
    return value


def _closing(body: list[Line], name: str, warnings: list[str]) -> tuple[float | None, int]:
    average, wrong, closed = None, 0, False
    for line in body:
        if match := _AVERAGE.match(line.text):
            closed, average = True, number(match[1])
        if match := _WRONG.match(line.text):
            wrong = int(match[1])
    if not closed:
        warnings.append(f"{name}: no closing line with the mean bus rate; the end may be missing")
    return (None if average is None else average * GIGA), wrong


def _ratio(rows: list[CollectiveRow]) -> float | None:
    """Return bus over algorithm rate of the largest message, where rounding matters least."""
    largest = max(rows, key=lambda row: row.size)
    return largest.bus_rate / largest.algorithm_rate if largest.algorithm_rate > 0.0 else None


def _program(lines: list[Line]) -> str | None:
    for line in lines:
        if match := _PROGRAM.search(line.text):
            return match[1]
    return None


def _complete(before: list[Line], listed: int) -> bool:
    """Whether the listing of devices starts at rank 0 and has no hole."""
    ranks = [int(match[1]) for line in before if (match := _DEVICE.match(line.text))]
    return listed > 0 and ranks == list(range(listed))


def _expected(before: list[Line]) -> tuple[int, int, int, str] | None:
    """Return smallest and largest size, step and its kind, as the run was asked for."""
    for line in before:
        if match := _RANGE.match(line.text):
            return int(match[1]), int(match[2]), int(match[3]), match[4]
    return None
