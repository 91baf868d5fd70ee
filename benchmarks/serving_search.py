"""Services on 32 H200, each the whole command: ``python -m benchmarks.serving_search [--json OUT]``.

``planner solve`` runs in a process of its own, with brief simulation, manifests, launch files and report, so
that CPU time and memory are those of all of it. A first run of each case is left out: it compiles the modules
to bytecode, as an installation does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from planner import __version__
from planner.placement import Plan
from planner.placement.pools import AGGREGATED
from planner.schema import load

MOST_CPU_SECONDS = 9.0
MOST_BYTES = 400 * 2**20
TOPOLOGY = """\
schema: topology/1
name: hgx-h200-x4
sources: {fabric: non-blocking, cable: "taken from HDR, see dgx-h100-x8"}
machines: [{name: hgx-h200, preset: hgx-h200, price: 40 USD/h}]
nodes: [{name: "node-[0-3]", machine: hgx-h200}]
fabric:
  layout:
    shape: rail-optimised
    kind: infiniband
    nodes_per_leaf: 32
    oversubscription: {value: 1, provenance: assumed, source: fabric}
    hop_latency: {value: 600 ns, provenance: assumed, source: cable}
"""
BOTH = "pools: [aggregated, disaggregated]"
LONG_PROMPTS = (
    "traffic: {rate: 8 req/s, prompt: {mean: 4000, cv: 0}, output: {mean: 500, cv: 0}, prefix: 0.125}, "
    "slo: {ttft_p99: 300 ms, tpot_p99: 10 ms}"
)
SHORT_PROMPTS = (
    "traffic: {rate: 1 req/s, prompt: {mean: 500, cv: 0.5}, output: {mean: 200, cv: 0.5}}, "
    "slo: {ttft_p99: 1 s, tpot_p99: 50 ms}"
)
MANY_REQUESTS = (
    "traffic: {rate: 20 req/s, prompt: {mean: 500, cv: 0.5}, output: {mean: 200, cv: 0.5}}, "
    "slo: {ttft_p99: 3 s, tpot_p99: 50 ms}"
)
JOBS = {
    "qwen3-32b, replicas": f"model: qwen3-32b, precision: fp8, objective: gpus, {LONG_PROMPTS}",
    "qwen3-32b, either": (
        f"model: qwen3-32b, precision: fp8, objective: gpus, degrees: {{{BOTH}}}, {LONG_PROMPTS}"
    ),
    "qwen3-32b, types": (
        f"model: qwen3-32b, objective: gpus, degrees: {{{BOTH}, precision: [bf16, fp8], "
        f"kv_precision: [bf16, fp8]}}, {SHORT_PROMPTS}"
    ),
    "deepseek-v3, cost": (
        f"model: deepseek-v3, precision: fp8, objective: cost, degrees: {{{BOTH}, "
        f"kv_precision: [bf16, fp8]}}, {MANY_REQUESTS}"
    ),
}
"""Jobs by case; the first two are the comparison with AIConfigurator: 4,000 tokens, 500 of them cached."""
LIMITED = "qwen3-32b"


@dataclass(frozen=True)
class Row:
    """What one case gave and took.

    Attributes
    ----------
    pools
        What was decided of ``aggregated`` and ``disaggregated``.
    loss
        By how much the best plan of the other kind is worse, a ratio; ``None`` where there is none.
    cpu_seconds, peak_bytes
        Of the whole process, the fastest of some runs.
    """

    case: str
    status: str
    objective: float
    unit: str
    pools: str
    loss: float | None
    solve_seconds: float
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


def run_case(case: str, folder: Path, repeat: int) -> Row:
    """Solve one job in processes of their own and return the fastest run."""
    (folder / "topology.yaml").write_text(TOPOLOGY, encoding="utf-8")
    job = f"schema: workload/1\nname: job\njobs: [{{kind: serving, name: chat, {JOBS[case]}}}]\n"
    (folder / "workload.yaml").write_text(job, encoding="utf-8")
    rows = [_solve(case, folder) for _ in range(repeat + 1)]
    return min(rows[1:], key=lambda row: row.cpu_seconds)


def _solve(case: str, folder: Path) -> Row:
    command = [
        sys.executable,
        "-m",
        "planner",
        "solve",
        "topology.yaml",
        "workload.yaml",
        "--json",
        "--force",
    ]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    started = time.monotonic()
    with (folder / "stdout").open("wb") as out:
        process = subprocess.Popen([*command, "-o", "out"], cwd=folder, env=environment, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{case}: exit {process.returncode}")
    result = json.loads((folder / "stdout").read_text(encoding="utf-8"))
    goal, plan = result["objective"], load(folder / "out" / "plan.yaml", Plan)
    kind = next((one for one in plan.why if one.decision == "pools"), None)
    pools, loss = (AGGREGATED, None) if kind is None else (kind.chosen, kind.loss)
    return Row(
        case, result["status"], goal["value"], goal["unit"], pools, loss,
        result["solve_seconds"], used.ru_utime + used.ru_stime, time.monotonic() - started,
        used.ru_maxrss * 1024,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """Return the rows as a text table."""
    lines = [f"{'case':21}{'status':10}{'objective':>12}  {'pools':15}{'other':>8}{'CPU s':>8}{'MiB':>6}"]
    for row in rows:
        other = "-" if row.loss is None else f"{row.loss:+.0%}"
        value = f"{row.objective:g} {row.unit}"
        lines.append(
            f"{row.case:21}{row.status:10}{value:>12}  {row.pools:15}{other:>8}"
            f"{row.cpu_seconds:8.1f}{row.peak_bytes / 2**20:6.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Solve all cases, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case that count")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [run_case(case, Path(folder), arguments.repeat) for case in JOBS]
    sys.stdout.write(table(rows) + "\n")
    limited = [row for row in rows if row.case.startswith(LIMITED)]
    within = all(row.cpu_seconds <= MOST_CPU_SECONDS and row.peak_bytes <= MOST_BYTES for row in limited)
    summary = {
        "proven": sum(row.status == "optimal" for row in rows),
        "cases": len(rows),
        "most_cpu_seconds": max(row.cpu_seconds for row in limited),
        "within_limits": within,
    }
    if arguments.json is not None:
        document = {
            "benchmark": "serving_search",
            "version": __version__,
            "rows": [asdict(row) for row in rows],
            "summary": summary,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(0 if within else 1)


if __name__ == "__main__":
    main()
