"""The square tables of ``nvidia-smi topo``, cell by cell, with what follows them on each line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import Remark

PATH_CLASSES = frozenset({"PIX", "PXB", "PHB", "NODE", "SYS"})
P2P_STATES = frozenset({"OK", "CNS", "GNS", "TNS", "NS", "DR", "U"})
MOST_DEVICES = 512
LONG_NUMBER = re.compile(r"[0-9]{16}")
"""Digits in a row that no name of a device has; an address of Ethernet in one has twelve."""
_CELL = re.compile(r"NV[0-9]{1,3}|NODE|PIX|PXB|PHB|SYS|SOC|OK|CNS|GNS|TNS|NS|DR|U|X")
_DEVICE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*[0-9]")
_COLUMN = re.compile(r"CPU\s*Affinity|GPU\s*NUMA\s*ID|NUMA\s*Affinity", re.IGNORECASE)
_FUSED_NAMES = re.compile(r"(?<=[0-9])(?=(?:GPU|NIC|mlx)[0-9])")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_GPU = re.compile(r"GPU[0-9]+")


@dataclass(frozen=True)
class Row:
    """One line of the table: its cells in the order of the header, and the text after them."""

    name: str
    line: int
    cells: tuple[str, ...]
    tail: str


@dataclass
class Matrix:
    """A table whose header and rows agree, which is symmetric, and whose diagonal is ``X``.

    Attributes
    ----------
    names
        Devices in the order of the header.
    columns
        ``cpu``, ``numa`` and ``gpu numa`` as far as the table has these columns, in its order.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    rows: dict[str, Row] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """Yield every known pair once, its names in name order, with its cell."""
        for index, left in enumerate(self.names):
            for right in self.names[index + 1 :]:
                one, other = (left, right) if left in self.rows else (right, left)
                if one in self.rows:
                    cell = self.rows[one].cells[self.names.index(other)]
                    yield min(left, right), max(left, right), cell


def lines_of(text: str) -> list[str]:
    """Return the lines of a terminal's output without byte-order mark, returns and colours."""
    return [_ESCAPE.sub("", line).rstrip("\r") for line in text.lstrip("\ufeff").split("\n")]


def is_gpu(name: str) -> bool:
    """Whether a device of the table is a GPU."""
    return _GPU.fullmatch(name) is not None


def read_matrix(text: str, name: str) -> Matrix:
    """Return the table in a text.

    Raises
    ------
    ImportRefusedError
        If there is no table or more than one, a row is missing or has too few cells, or cells contradict
        one another.
    """
    lines = lines_of(text)
    headers = [number for number, line in enumerate(lines) if header_names(line)]
    if not headers:
        raise ImportRefusedError(name, 0, "no line with the devices GPU0, GPU1, ... above a table")
    if len(headers) > 1:
        raise ImportRefusedError(
            name,
            headers[1] + 1,
            f"a second table; the first starts in line {headers[0] + 1}: give one a file",
        )
    matrix = _header(lines[headers[0]], headers[0] + 1, name)
    _read_rows(matrix, lines, headers[0] + 1, name)
    _check_rows(matrix, headers[0] + 1, name)
    _check_symmetry(matrix, name)
    return matrix


def header_names(line: str) -> list[str]:
    """Return the devices of a header line, none where the line is not one."""
    first = _COLUMN.search(line)
    words = _FUSED_NAMES.sub(" ", line[: first.start()] if first else line).split()
    named = all(_DEVICE.fullmatch(word) for word in words)
    return words if named and any(is_gpu(word) for word in words) and not _has_cells(words) else []


def _has_cells(words: Sequence[str]) -> bool:
    return any(_CELL.fullmatch(word) for word in words)


def _header(line: str, number: int, name: str) -> Matrix:
    names = header_names(line)
    if len(names) > MOST_DEVICES:
        raise ImportRefusedError(name, number, f"more than {MOST_DEVICES} devices")
    doubled = next((one for one in names if names.count(one) > 1), None)
    if doubled:
        raise ImportRefusedError(name, number, f"the header names {doubled} twice")
    strange = next((one for one in names if LONG_NUMBER.search(one)), None)
    if strange:
        raise ImportRefusedError(name, number, f"{strange[:40]!r} is no name of a device")
    columns = [re.sub(r"\s", "", match[0]).lower() for match in _COLUMN.finditer(line)]
    short = {"cpuaffinity": "cpu", "numaaffinity": "numa", "gpunumaid": "gpu numa"}
    matrix = Matrix(tuple(names), tuple(short[column] for column in columns))
    if [column for column in short.values() if column in matrix.columns] != list(matrix.columns):
        matrix.remarks.append(Remark(number, "the affinity columns are in an order that no driver prints"))
    if len(set(columns)) < len(columns):
        raise ImportRefusedError(name, number, "the header names an affinity column twice")
    device_part = line[: first.start()] if (first := _COLUMN.search(line)) else line
    if _FUSED_NAMES.search(device_part):
        matrix.remarks.append(Remark(number, "names in the header run together; they are taken apart"))
    rest = _COLUMN.sub("", line[len(device_part) :]).strip()
    if rest:
        matrix.remarks.append(Remark(number, f"ignored in the header: {rest[:60]!r}"))
    return matrix


def _read_rows(matrix: Matrix, lines: Sequence[str], start: int, name: str) -> None:
    skipped: list[Remark] = []
    for number, line in enumerate(lines[start:], start + 1):
        if line.strip().lower().startswith("legend"):
            break
        row = _row(matrix, line, number, name)
        if row is None:
            if line.strip():
                skipped.append(Remark(number, f"ignored, no row of the table: {line.strip()[:60]!r}"))
            continue
        if row.name in matrix.rows:
            raise ImportRefusedError(
                name,
                number,
                f"a second row for {row.name}; the first is in line {matrix.rows[row.name].line}",
            )
        matrix.rows[row.name] = row
    matrix.remarks.extend(remark for remark in skipped if not _is_command(lines[remark.line - 1]))


def _is_command(line: str) -> bool:
    return "nvidia-smi" in line


def _row(matrix: Matrix, line: str, number: int, name: str) -> Row | None:
    stripped = line.strip()
    label = next((one for one in sorted(matrix.names, key=len, reverse=True) if _begins(stripped, one)), None)
    if label is None:
        words = stripped.split(None, 2)
        if len(words) > 1 and _DEVICE.fullmatch(words[0]) and _CELL.fullmatch(words[1]):
            raise ImportRefusedError(name, number, f"a row for {words[0]}, which the header does not name")
        return None
    cells: list[str] = []
    position, fused = len(label), False
    for _ in matrix.names:
        rest = stripped[position:].lstrip()
        match = _CELL.match(rest)
        if match is None:
            shown = f"{rest.split()[0][:20]!r}" if rest else "nothing"
            raise ImportRefusedError(
                name, number,
                f"{label} has {len(cells)} cells where the header names {len(matrix.names)} devices; "
                f"then comes {shown}",
            )  # fmt: skip
        fused = fused or stripped[position] not in " \t"
        cells.append(match[0])
        position = len(stripped) - len(rest) + match.end()
    tail = stripped[position:]
    if tail and tail[0] not in " \t":
        if tail[0].isalnum() and (cells[-1].startswith("NV") or not tail[0].isdigit()):
            raise ImportRefusedError(
                name, number, f"{label}: {cells[-1] + tail.split()[0]!r} is no class of path"
            )
        fused = True
    if fused:
        matrix.remarks.append(Remark(number, f"cells of {label} run together; they are taken apart"))
    return Row(label, number, tuple(cells), tail)


def _begins(stripped: str, label: str) -> bool:
    rest = stripped.removeprefix(label)
    return rest != stripped and (rest[:1] in " \t" or _CELL.match(rest) is not None) and bool(rest.strip())


def _check_rows(matrix: Matrix, header: int, name: str) -> None:
    missing = [one for one in matrix.names if one not in matrix.rows]
    gpus = [one for one in missing if is_gpu(one)]
    if gpus:
        raise ImportRefusedError(name, header, f"no row for {', '.join(gpus)}; the table may be cut")
    if missing:
        matrix.remarks.append(
            Remark(header, f"no rows for {', '.join(missing)}; the paths between these devices are unknown")
        )


def _check_symmetry(matrix: Matrix, name: str) -> None:
    place = {one: index for index, one in enumerate(matrix.names)}
    for row in matrix.rows.values():
        for other, cell in zip(matrix.names, row.cells, strict=True):
            if (cell == "X") != (other == row.name):
                raise ImportRefusedError(
                    name, row.line, f"{row.name} to {other} is {cell!r}; X belongs on the diagonal alone"
                )
    for row in matrix.rows.values():
        for other, cell in zip(matrix.names, row.cells, strict=True):
            mirror = matrix.rows.get(other)
            back = mirror.cells[place[row.name]] if mirror is not None else cell
            if mirror is not None and back != cell:
                raise ImportRefusedError(
                    name, row.line,
                    f"{row.name} to {other} is {cell}, but back it is {back} in line {mirror.line}",
                )  # fmt: skip
