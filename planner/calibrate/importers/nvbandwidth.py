"""Output of nvbandwidth, as text and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from planner.calibrate.importers.blocks import BenchOutput, FloatArray, Matrix, OutputRefusedError
from planner.calibrate.importers.structured import parsed, strings
from planner.calibrate.importers.text import Line, differs, lines_of, number

GIGA, NANO = 1e9, 1e-9
_RUNNING = re.compile(r"Running (\w+?)\.?\s*$")
_SUM = re.compile(r"SUM (\w+) (\S+)\s*$")
_UNIT = re.compile(r".*\((GB/s|ns|us)\)\s*$")
_DEVICE = re.compile(r"Device\s+\d+:\s*(.*?)\s*(?:\([0-9a-fA-F:.]+\))?\s*$")
_VERSIONS = {
    "nvbandwidth": re.compile(r"nvbandwidth Version:\s*(\S+)"),
    "cuda runtime": re.compile(r"CUDA Runtime Version:\s*(\S+)"),
    "cuda driver": re.compile(r"CUDA Driver Version:\s*(\S+)"),
    "driver": re.compile(r"Driver Version:\s*(\S+)"),
}
_SCALE = {"GB/s": ("B/s", GIGA), "ns": ("s", NANO), "us": ("s", 1e-6)}


def read_nvbandwidth(text: str, name: str) -> BenchOutput:
    """Read the text form: a matrix per test, waived tests without one.

    Raises
    ------
    OutputRefusedError
        If there is no test, or a matrix is cut.
    """
    lines = lines_of(text)
    versions = {
        key: match[1]
        for key, pattern in _VERSIONS.items()
        for line in lines
        if (match := pattern.match(line.text))
    }
    devices = tuple(match[1] for line in lines if (match := _DEVICE.match(line.text)))
    starts = [place for place, line in enumerate(lines) if _RUNNING.match(line.text)]
    if not starts:
        raise OutputRefusedError(name, 0, "no test of nvbandwidth: a line 'Running ...' is missing")
    matrices: list[Matrix] = []
    warnings: list[str] = []
    waived = [line.text.strip() for line in lines if line.text.startswith("Waived")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found = _RUNNING.match(lines[start].text)
        test = found[1] if found else ""
        matrix = _matrix(test, lines[start + 1 : end], name, warnings)
        if matrix is None:
            if not any(line.text.startswith(("Waived", "Error", "ERROR")) for line in lines[start:end]):
                raise OutputRefusedError(name, lines[start].number, f"{test} has no matrix; the file is cut")
        else:
            matrices.append(matrix)
    warnings += [one for matrix in matrices for one in _doubts(matrix, len(devices), name)]
    return BenchOutput("nvbandwidth", tuple(matrices), versions, devices, tuple(waived), tuple(warnings))


def _matrix(test: str, lines: list[Line], name: str, warnings: list[str]) -> Matrix | None:
    place = next((place for place, line in enumerate(lines) if _UNIT.match(line.text)), None)
    if place is None:
        return None
    unit = _UNIT.match(lines[place].text)
    assert unit is not None
    kind, scale = _SCALE[unit[1]]
    at = lines[place].number
    header = lines[place + 1].words if place + 1 < len(lines) else []
    if not header or any(number(word) is None for word in header):
        raise OutputRefusedError(name, at, f"the matrix of {test} has no header; the file is cut")
    rows, total = _rows(test, header, lines[place + 2 :], name)
    if not rows:
        raise OutputRefusedError(name, at, f"the matrix of {test} has no row; the file is cut")
    if total is None:
        warnings.append(f"{name}:{at}: {test} has no sum; rows may be missing")
    return Matrix(
        test, kind, tuple(rows), tuple(header), np.asarray(list(rows.values())) * scale,
        None if total is None else total * scale, at,
    )  # fmt: skip


def _rows(
    test: str, header: list[str], lines: list[Line], name: str
) -> tuple[dict[str, list[float]], float | None]:
    """Return the rows by label, and the sum that ends them."""
    rows: dict[str, list[float]] = {}
    for line in lines:
        words = line.words
        if match := _SUM.match(line.text):
            if match[1] != test:
                raise OutputRefusedError(
                    name, line.number, f"the sum of {match[1]} ends the matrix of {test}"
                )
            return rows, number(match[2])
        if words and number(words[0]) is None:
            break
        if words and len(words) != len(header) + 1:
            text = f"{len(words) - 1} cells under {len(header)} columns; the row is cut or fused"
            raise OutputRefusedError(name, line.number, text)
        if words:
            rows[words[0]] = [_cell(word, name, line.number) for word in words[1:]]
    return rows, None


def _cell(word: str, name: str, line: int) -> float:
    if word == "N/A":
        return float("nan")
    value = number(word)
    if value is None or value < 0.0:
        raise OutputRefusedError(name, line, f"{word!r} where a figure belongs")
    return value


def _doubts(matrix: Matrix, devices: int, name: str) -> Iterator[str]:
    scale = NANO if matrix.unit == "s" else GIGA
    place = f"{name}:{matrix.line}" if matrix.line else name
    total = float(np.nansum(matrix.values))
    if matrix.total is not None and differs(matrix.total / scale, total / scale, 0.01 * matrix.values.size):
        yield (
            f"{place}: {matrix.name} prints the sum {matrix.total / scale:.2f} but its cells give "
            f"{total / scale:.2f}; a cell is missing or changed"
        )
    host = matrix.name.startswith(("host", "all_to_host", "device_to_host"))
    if devices and host and (len(matrix.columns) > devices or len(matrix.rows) > max(devices, 1)):
        yield (
            f"{place}: {matrix.name} has {len(matrix.rows)} x {len(matrix.columns)} cells but {devices} "
            f"device{'s are' if devices > 1 else ' is'} listed; they are not of this machine"
        )


def read_nvbandwidth_json(text: str, name: str) -> BenchOutput:
    """Read the JSON form, whose cells are strings.

    Raises
    ------
    OutputRefusedError
        If it is no JSON of nvbandwidth, or a test that passed has no matrix.
    """
    body = parsed(text, name).get("nvbandwidth")
    if not isinstance(body, Mapping) or not isinstance(body.get("testcases"), list):
        raise OutputRefusedError(name, 0, "no 'nvbandwidth' with 'testcases'")
    matrices: list[Matrix] = []
    waived: list[str] = []
    warnings: list[str] = []
    for place, test in enumerate(body["testcases"]):
        if not isinstance(test, Mapping) or not isinstance(test.get("name"), str):
            raise OutputRefusedError(name, 0, f"testcases.{place} has no name")
        status = test.get("status")
        if status == "Passed":
            matrices.append(_json_matrix(test, name))
        elif status in ("Waived", "Not Found"):
            waived.append(test["name"])
        else:
            warnings.append(f"{name}: {test['name']} ended with {status!r}")
    devices = strings(body.get("GPU Device list"))
    warnings += [one for matrix in matrices for one in _doubts(matrix, len(devices), name)]
    versions = {
        key: str(value)
        for key, value in body.items()
        if isinstance(value, str | int) and "version" in key.lower() and value != ""
    }
    return BenchOutput("nvbandwidth-json", tuple(matrices), versions, devices, tuple(waived), tuple(warnings))


def _json_matrix(test: Mapping[str, Any], name: str) -> Matrix:
    cells = test.get("bandwidth_matrix")
    title = str(test.get("bandwidth_description", ""))
    unit = _UNIT.match(title)
    kind, scale = _SCALE[unit[1]] if unit else ("B/s", GIGA)
    if not _is_table(cells):
        raise OutputRefusedError(name, 0, f"{test['name']} passed but has no rectangular matrix")
    values = [[_cell(str(cell), name, 0) for cell in row] for row in cells]
    total = test.get("sum")
    fine = _fine(values, test)
    return Matrix(
        test["name"], kind, tuple(str(place) for place in range(len(cells))),
        tuple(str(place) for place in range(len(cells[0]))), fine * scale,
        float(total) * scale if isinstance(total, int | float) else None, 0,
    )  # fmt: skip


def _is_table(cells: Any) -> TypeGuard[list[list[Any]]]:
    if not isinstance(cells, Sequence) or isinstance(cells, str) or not cells:
        return False
    widths = {len(row) if isinstance(row, list) else -1 for row in cells}
    return len(widths) == 1 and widths.pop() > 0


def _fine(values: list[list[float]], test: Mapping[str, Any]) -> FloatArray:
    """Return the cells; a single one with the digits of its sum, where the two agree."""
    array = np.asarray(values)
    total = test.get("sum")
    if array.size == 1 and isinstance(total, int | float) and abs(total - array[0, 0]) <= 1e-4 * abs(total):
        return np.asarray([[float(total)]])
    return array
