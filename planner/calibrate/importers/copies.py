"""Copies between host and device, and between devices: bandwidthTest, p2pBandwidthLatencyTest, gpu_copy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from planner.calibrate.importers.blocks import (
    BenchOutput,
    Matrix,
    OutputRefusedError,
    RateTable,
    Sweep,
    SweepRow,
)
from planner.calibrate.importers.text import Line, after, lines_of, number

GIGA, MICRO = 1e9, 1e-6
_SHMOO = re.compile(
    r"(bandwidthTest-[\w-]+), Bandwidth = (\S+) GB/s, Time = (\S+) s, "
    r"Size = (\S+) bytes, NumDevsUsed = (\d+)\s*$"
)
_SHMOO_START = re.compile(r"bandwidthTest-")
_RUN_DEVICE = re.compile(r"\s*Device \d+: (.+?)\s*$")
_TITLE = re.compile(r"\s*(.*P2P.*\bMatrix)\s*(?:\((GB/s|us)\))?\s*$")
_HEAD = re.compile(r"\s*(?:D\\D|GPU|CPU)\s+[0-9]+\s|\s*(?:D\\D|GPU|CPU)\s+0\s*$")
_P2P_DEVICE = re.compile(r"Device: (\d+), (.+?), pciBusID: (\w+)")
_REFUSED = re.compile(r"Device=(\d+) CANNOT Access Peer Device=(\d+)")
_PATH = re.compile(r"((?:cpu|gpu)\w*_(?:to|and)_\w+)\s+(\S+)\s*$")


def read_bandwidth_test(text: str, name: str) -> BenchOutput:
    """Read CUDA's bandwidthTest in shmoo or range mode.

    Raises
    ------
    OutputRefusedError
        If there is no row, or a row is cut.
    """
    lines = lines_of(text)
    sweeps: dict[str, list[SweepRow]] = {}
    for line, _ in after(lines, _SHMOO_START):
        match = _SHMOO.match(line.text)
        figures = [number(word) for word in match.groups()[1:4]] if match else []
        if match is None or None in figures:
            raise OutputRefusedError(name, line.number, f"a row is cut: {line.text.strip()[:60]!r}")
        rate, time, size = (float(one or 0.0) for one in figures)
        sweeps.setdefault(match[1], []).append(SweepRow(size, rate * GIGA, time, line.number))
    if not sweeps:
        raise OutputRefusedError(name, 0, "no row of bandwidthTest")
    blocks = tuple(Sweep(operation, tuple(rows)) for operation, rows in sweeps.items())
    warnings = [one for block in blocks for one in _sweep_doubts(block, name)]
    if not any(line.text.startswith("Result =") for line in lines):
        warnings.append(f"{name}: no closing 'Result ='; the end may be missing")
    elif not any(line.text.startswith("Result = PASS") for line in lines):
        warnings.append(f"{name}: the tool did not pass; its figures are not to be trusted")
    devices = tuple(match[1] for _, match in after(lines, _RUN_DEVICE))
    return BenchOutput("bandwidthTest", blocks, {}, devices, (), tuple(warnings))


def _sweep_doubts(sweep: Sweep, name: str) -> Iterator[str]:
    for before, row in zip((None, *sweep.rows), sweep.rows, strict=False):
        if before is not None and row.size <= before.size:
            yield f"{name}:{row.line}: size {row.size:.0f} follows {before.size:.0f}; a row is out of place"
        # The rate has one decimal and the time five: where both carry digits they must agree.
        slack = 0.06 * GIGA / row.rate + 0.6e-5 / row.time if row.rate > 0 and row.time > 0 else np.inf
        if slack < 0.5 and abs(row.size / row.time / row.rate - 1.0) > slack + 0.03:
            rate = f"{row.rate / GIGA:.1f} GB/s"
            yield f"{name}:{row.line}: {rate} is not {row.size:.0f} bytes in {row.time:.5f} s"


def read_p2p(text: str, name: str) -> BenchOutput:
    """Read p2pBandwidthLatencyTest, or an excerpt of its matrices.

    Raises
    ------
    OutputRefusedError
        If there is no matrix, or one is cut.
    """
    lines = lines_of(text)
    matrices: list[Matrix] = []
    warnings: list[str] = []
    for place, line in enumerate(lines):
        title = _TITLE.match(line.text)
        if title:
            matrices += _matrices(title, place, lines, name)
    if not matrices:
        raise OutputRefusedError(name, 0, "no matrix of p2pBandwidthLatencyTest")
    devices = tuple(match[2] for _, match in after(lines, _P2P_DEVICE))
    warnings += _p2p_doubts(matrices, lines, len(devices), name)
    return BenchOutput("p2pBandwidthLatencyTest", tuple(matrices), {}, devices, (), tuple(warnings))


def _matrices(title: re.Match[str], place: int, lines: list[Line], name: str) -> Iterator[Matrix]:
    """Yield the tables under a title: one, or those of the GPU's and of the CPU's clock."""
    unit, scale = {"GB/s": ("B/s", GIGA), "us": ("s", MICRO), None: ("1", 1.0)}[title[2]]
    count = 0
    for start in range(place + 1, len(lines)):
        if _TITLE.match(lines[start].text):
            break
        if not _HEAD.match(lines[start].text):
            continue
        kind, *columns = lines[start].words
        cells = [
            _p2p_row(lines, start + 1 + one, len(columns), str(one), name) for one in range(len(columns))
        ]
        label = f"{title[1].strip()} {kind}" if kind in ("GPU", "CPU") else title[1].strip()
        yield Matrix(
            label, unit, tuple(columns), tuple(columns), np.asarray(cells) * scale, None, lines[place].number
        )
        count += 1
    if not count:
        raise OutputRefusedError(
            name, lines[place].number, f"no table under {title[1].strip()!r}; the file is cut"
        )


def _p2p_row(lines: list[Line], place: int, width: int, label: str, name: str) -> list[float]:
    words = lines[place].words if place < len(lines) else []
    at = lines[min(place, len(lines) - 1)].number
    values = [number(word) for word in words[1:]]
    if len(words) != width + 1 or words[0] != label or None in values:
        raise OutputRefusedError(name, at, f"row {label} of the matrix is cut or fused")
    return [float(value or 0.0) for value in values]


def _p2p_doubts(matrices: list[Matrix], lines: list[Line], devices: int, name: str) -> Iterator[str]:
    for matrix in matrices:
        if devices and len(matrix.columns) != devices:
            yield (
                f"{name}:{matrix.line}: {matrix.name} has {len(matrix.columns)} columns "
                f"but {devices} devices are listed"
            )
        if matrix.unit == "B/s" and _odd_pairs(matrix):
            yield f"{name}:{matrix.line}: {matrix.name}: " + "; ".join(_odd_pairs(matrix))
    yield from _connectivity_doubts(matrices, lines, name)
    for title, count in Counter(matrix.name for matrix in matrices).items():
        if count > 1:
            yield f"{name}: {title!r} occurs {count} times"


def _connectivity_doubts(matrices: list[Matrix], lines: list[Line], name: str) -> Iterator[str]:
    """Yield pairs whose entry in the matrix of 0 and 1 contradicts the list of refused pairs."""
    refused = {(match[1], match[2]) for _, match in after(lines, _REFUSED)}
    for matrix in matrices:
        if matrix.unit != "1":
            continue
        for i, row in enumerate(matrix.rows):
            for j, column in enumerate(matrix.columns):
                if i != j and (matrix.values[i, j] != 0.0) == ((row, column) in refused):
                    yield f"{name}:{matrix.line}: connectivity {row} -> {column} contradicts the list above"


def _odd_pairs(matrix: Matrix) -> list[str]:
    """Return pairs whose two directions differ more than threefold: one of them is misread or in trouble."""
    found = []
    for i in range(len(matrix.rows)):
        for j in range(i):
            forth, back = matrix.values[i, j], matrix.values[j, i]
            if max(forth, back) > 3.0 * max(min(forth, back), 1e-9):
                found.append(f"{i} -> {j} has {forth / GIGA:.2f} and the reverse {back / GIGA:.2f} GB/s")
    return found


def read_gpu_copy(text: str, name: str) -> BenchOutput:
    """Read a list of named rates, GB/s, of copies (SuperBench gpu_copy).

    Raises
    ------
    OutputRefusedError
        If a line is no name with a rate, or a name repeats with another rate.
    """
    rates: dict[str, float] = {}
    where: dict[str, int] = {}
    for line in lines_of(text):
        if not line.text.strip():
            continue
        match = _PATH.match(line.text.strip())
        value = number(match[2]) if match else None
        if match is None or value is None or value < 0.0:
            raise OutputRefusedError(name, line.number, f"no path with its rate: {line.text.strip()[:60]!r}")
        if rates.get(match[1], value * GIGA) != value * GIGA:
            raise OutputRefusedError(
                name, line.number, f"{match[1]} stands on line {where[match[1]]} with another rate"
            )
        rates[match[1]], where[match[1]] = value * GIGA, line.number
    if not rates:
        raise OutputRefusedError(name, 0, "the file is empty")
    table = RateTable("gpu_copy", rates, where)
    return BenchOutput("gpu_copy", (table,), warnings=tuple(_missing_directions(rates, name)))


def _missing_directions(rates: dict[str, float], name: str) -> Iterator[str]:
    """Yield paths that were measured one way only; the tool always runs both."""
    for path in rates:
        if match := re.fullmatch(r"(cpu|gpu\d+)_to_(cpu|gpu\d+)_by_(\w+)", path):
            reverse = f"{match[2]}_to_{match[1]}_by_{match[3]}"
            if match[1] != match[2] and reverse not in rates:
                yield f"{name}: {path} has no reverse direction; lines are missing"
