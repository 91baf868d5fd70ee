"""The shipped studies: ``python -m benchmarks.studies [--json OUT] [--only NAME]``.

Each study runs as a user would run it, ``planner solve`` in a process of its own with the brief simulation,
manifests and report, so that its CPU time and its memory are those of the whole command.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from planner import __version__

STUDIES: dict[str, tuple[str, str]] = {
    "a": ("dgx-h100-x8", "llama3-70b-training"),
    "b": ("dgx-a100-x64", "gpt3-175b-training"),
    "c": ("dgx-h100-x64", "deepseek-v3-training"),
    "d": ("hgx-h200", "llama3-70b-serving"),
    "e": ("riscv-nvlink-fusion", "multimodal-serving"),
    "f": ("dgx-h100-x2048", "llama3-405b-training"),
}
MOST_SECONDS = 60.0
MOST_BYTES = 2 * 2**30
MOST_GAP = 0.02


@dataclass(frozen=True)
class Row:
    """What one study took; seconds and bytes of the whole process.

    Attributes
    ----------
    within
        Whether the study kept to its limits: gap, wall time, memory.
    """

    case: str
    topology: str
    workload: str
    status: str
    objective: float
    unit: str
    gap: float
    solve_seconds: float
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    within: bool


def run_study(name: str, folder: Path) -> Row:
    """Run one study in a process of its own."""
    topology, workload = STUDIES[name]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "planner",
        "solve",
        topology,
        workload,
        "--json",
        "-o",
        str(folder / name),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"study {name}: exit {done.returncode}\n{done.stderr}")
    result = json.loads(done.stdout)
    peak = after.ru_maxrss * 1024
    gap = float(result["gap"])
    goal, cpu = result["objective"], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Row(
        name, topology, workload, result["status"], goal["value"], goal["unit"], gap,
        result["solve_seconds"], wall, cpu, peak,
        gap <= MOST_GAP and wall <= MOST_SECONDS and peak <= MOST_BYTES,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """Return the rows as a text table."""
    head = f"{'study':6}{'on':22}{'status':10}{'objective':>14}{'gap':>8}"
    head += f"{'solve s':>9}{'wall s':>8}{'CPU s':>8}{'MiB':>7}"
    lines = [head]
    for row in rows:
        value = f"{row.objective:.4g} {row.unit}"
        lines.append(
            f"{row.case:6}{row.topology:22}{row.status:10}{value:>14}{row.gap:8.2%}{row.solve_seconds:9.1f}"
            f"{row.wall_seconds:8.1f}{row.cpu_seconds:8.1f}{row.peak_bytes / 2**20:7.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the studies, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--only", choices=sorted(STUDIES), action="append", help="run only this study")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Peak memory of children only grows, so the largest study runs last.
        rows = [run_study(name, Path(folder)) for name in sorted(arguments.only or STUDIES)]
    sys.stdout.write(table(rows) + "\n")
    proven = sum(row.status == "optimal" for row in rows)
    summary = {"studies": len(rows), "optimal": proven, "within_limits": sum(row.within for row in rows)}
    if arguments.json is not None:
        document = {
            "benchmark": "studies",
            "version": __version__,
            "rows": [asdict(row) for row in rows],
            "summary": summary,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{proven} of {len(rows)} proven optimal, {summary['within_limits']} within their limits\n"
    )
    raise SystemExit(0 if summary["within_limits"] == len(rows) else 1)


if __name__ == "__main__":
    main()
