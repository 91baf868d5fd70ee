"""Import every benchmark output of a folder and compare the figures with its ``truth.json``.

``python -m benchmarks.bench_outputs FOLDER [--json OUT]``. A file is *exact* when every figure of its truth
comes out, or when its truth asks for a refusal and it is refused; *wrong* otherwise, and *silent* when that
happened without a warning. A truth asks for a refusal with ``"refused": true`` (or the word that the reason
must hold).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planner
from planner.calibrate.importers import (
    BenchOutput,
    CollectiveTable,
    Matrix,
    OutputRefusedError,
    RateTable,
    SizeTable,
    Sweep,
    SweepRow,
    read,
)

GIGA, MICRO, NANO = 1e9, 1e-6, 1e-9
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Case:
    """One file: the figures that differ, what was refused, and what was warned of."""

    file: str
    tool: str
    differences: tuple[str, ...]
    refusal: str
    warnings: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the file gave what its truth says."""
        return not self.differences

    @property
    def silent(self) -> bool:
        """Whether it gave something else and nothing was said."""
        return bool(self.differences) and not self.warnings and not self.refusal


def facts(output: BenchOutput) -> dict[str, Any]:
    """Return the figures of an output under the names and in the units that a truth uses."""
    found: dict[str, Any] = {"waived_lines": len(output.waived), "waived": len(output.waived)}
    matrices = [block for block in output.blocks if isinstance(block, Matrix)]
    for block in output.blocks:
        if isinstance(block, CollectiveTable):
            found |= _collective(block)
        elif isinstance(block, RateTable):
            found |= {name: rate / GIGA for name, rate in block.rates.items()}
        elif isinstance(block, SizeTable):
            found["table_rows"] = len(block.keys)
        elif isinstance(block, Sweep):
            found |= _sweep(block)
    if matrices:
        found |= _matrices(matrices, len(output.waived))
    return found


def _collective(table: CollectiveTable) -> dict[str, Any]:
    largest = max(table.rows, key=lambda row: row.size)
    found = {
        "rows": len(table.rows), "largest_bytes": largest.size, "time_us": largest.time / MICRO,
        "algbw": largest.algorithm_rate / GIGA, "busbw": largest.bus_rate / GIGA,
        "ranks": table.ranks, "operation": table.operation,
        "in_place_time_us": None if largest.in_place_time is None else largest.in_place_time / MICRO,
    }  # fmt: skip
    if table.average is not None:
        found["avg_busbw"] = table.average / GIGA
    return found | {name: time / MICRO for name, time in largest.percentiles.items()}


def _sweep(sweep: Sweep) -> dict[str, Any]:
    def row(one: SweepRow) -> dict[str, float]:
        return {"bytes": one.size, "gbps": one.rate / GIGA, "s": one.time}

    by_size = sorted(sweep.rows, key=lambda one: one.size)
    return {"rows": len(by_size), "largest": row(by_size[-1]), "smallest": row(by_size[0])}


def _matrices(matrices: list[Matrix], waived: int) -> dict[str, Any]:
    titles = {matrix.name.removesuffix(" GPU").removesuffix(" CPU") for matrix in matrices}
    sums = {
        matrix.name: matrix.total / (NANO if matrix.unit == "s" else GIGA)
        for matrix in matrices
        if matrix.total is not None
    }
    cells = {matrix.name: float(matrix.values.flat[0]) for matrix in matrices if matrix.values.size}
    found: dict[str, Any] = {
        "matrices": len(titles), "sums": sums, "passed": len(matrices), "testcases": len(matrices) + waived,
    }  # fmt: skip
    short = {"h2d_ce": "host_to_device_memcpy_ce", "d2h_ce": "device_to_host_memcpy_ce"}
    found |= {key: cells[name] / GIGA for key, name in short.items() if name in cells}
    if "host_device_latency_sm" in cells:
        found["latency_ns"] = cells["host_device_latency_sm"] / NANO
    return found


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Return every figure of a truth that was not found as it stands there."""
    if isinstance(expected, Mapping):
        values = found if isinstance(found, Mapping) else {}
        lines = []
        for key, value in expected.items():
            lines += differences(value, values.get(key), f"{where}.{key}" if where else key)
        return lines
    if isinstance(expected, list):
        several = list(found) if isinstance(found, list | tuple) else []
        several += [None] * (len(expected) - len(several))
        return [
            line
            for place, value in enumerate(expected)
            for line in differences(value, several[place], f"{where}.{place}")
        ]
    if isinstance(expected, int | float) and isinstance(found, int | float):
        same = abs(expected - found) <= TOLERANCE * max(abs(expected), abs(found))
    else:
        same = expected == found
    return [] if same else [f"{where}: {found!r} where the truth says {expected!r}"]


def judge(folder: Path, entry: Mapping[str, Any]) -> Case:
    """Import one file and compare it with its truth."""
    truth = entry["truth"]
    asked = truth.get("refused") if isinstance(truth, Mapping) else None
    try:
        output = read(folder / entry["file"])
    except OutputRefusedError as error:
        wanted = bool(asked) and (not isinstance(asked, str) or asked in str(error))
        reasons = () if wanted else (f"refused: {error}",)
        return Case(entry["file"], "-", reasons, str(error), ())
    lines = ["accepted, but its truth asks for a refusal"] if asked else differences(truth, facts(output))
    return Case(entry["file"], output.tool, tuple(lines), "", output.warnings)


def run(folder: Path) -> list[Case]:
    """Judge every file that the folder's truth names."""
    entries = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return [judge(folder, entry) for entry in entries]


def report(cases: list[Case]) -> dict[str, Any]:
    """Return the figures as a document."""
    rows = [
        {
            "case": case.file, "metric": "differences", "value": len(case.differences), "reference": 0,
            "tool": case.tool, "differences": case.differences, "refusal": case.refusal,
            "warnings": len(case.warnings),
        }
        for case in cases
    ]  # fmt: skip
    exact = sum(case.exact for case in cases)
    summary = {
        "files": len(cases), "exact": exact, "wrong": len(cases) - exact,
        "silent_wrong": sum(case.silent for case in cases),
    }  # fmt: skip
    return {"benchmark": "bench_outputs", "version": planner.__version__, "rows": rows, "summary": summary}


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.bench_outputs", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of outputs with truth.json")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    cases = run(options.folder)
    for case in cases:
        state = "exact" if case.exact else "WRONG"
        print(f"{case.file:48} {case.tool:24} {state}  {len(case.warnings)} warnings")
        for line in case.differences:
            print(f"    {line}")
    document = report(cases)
    print(", ".join(f"{key} {value}" for key, value in document["summary"].items()))
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
