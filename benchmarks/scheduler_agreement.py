"""Compare the model of the scheduler with decisions recorded from a real one.

``python -m benchmarks.scheduler_agreement FOLDER [--json OUT]``: every ``*.jsonl`` of the folder holds a case
per line with ``objects``, ``pods`` and ``verdict`` (scheduled, node, and devices where there are claims).
Cases whose nodes have different names were recorded in one cluster (a verdict counts all their nodes), and
are decided in it: domains of a spread constraint may lie on the nodes of another case.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planner
from planner.deploy.scheduler import Cluster, Verdict, schedule

PASSES = 5
LEAST = 0.5
"""CPU time over which passes are repeated, s."""


@dataclass(frozen=True)
class Case:
    """A recorded decision, the model's, and whether they agree."""

    name: str
    kind: str
    recorded: Mapping[str, Any]
    found: Verdict

    @property
    def agrees(self) -> bool:
        """Whether the pod goes to the same node and its claims get the same devices."""
        if bool(self.recorded["scheduled"]) != self.found.scheduled:
            return False
        if not self.found.scheduled:
            return True
        devices = self.recorded.get("devices")
        same = devices is None or sorted(devices) == sorted(self.found.devices)
        return same and self.recorded["node"] == self.found.node


def read(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the recorded cases of a folder, or of one file."""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.jsonl"))
    for path in files:
        with path.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.strip())


def run(folder: Path) -> tuple[list[Case], float]:
    """Decide every case; return them with the CPU time of a pass over all, s: the mean of `PASSES` at least.

    A pass reads the cluster anew; passes are repeated since one alone is over before the clock says much.
    """
    recorded = list(read(folder))
    nodes = [
        item["metadata"]["name"] for one in recorded for item in one["objects"] if item["kind"] == "Node"
    ]
    together = len(set(nodes)) == len(nodes)
    whole = [item for one in recorded for item in one["objects"]]
    gc.freeze()  # the recorded objects are no part of what is timed
    start, passes, cpu = time.process_time(), 0, 0.0
    while passes < PASSES or cpu < LEAST:
        shared = Cluster(whole) if together else None
        verdicts = [
            schedule(one["pods"][0], shared or Cluster(one["objects"]), kubelet=False) for one in recorded
        ]
        passes, cpu = passes + 1, time.process_time() - start
    cases = [
        Case(one["id"], one.get("kind", ""), one["verdict"], verdict)
        for one, verdict in zip(recorded, verdicts, strict=True)
    ]
    return cases, cpu / passes


def report(cases: list[Case], cpu: float) -> dict[str, Any]:
    """Return the figures as a document; a row per kind, and one per case that differs."""
    kinds = Counter(case.kind for case in cases)
    agree = Counter(case.kind for case in cases if case.agrees)
    rows: list[dict[str, Any]] = [
        {"case": kind, "metric": "agree", "value": agree[kind], "reference": count}
        for kind, count in kinds.items()
    ]
    rows += [
        {
            "case": case.name, "metric": "verdict",
            "value": case.found.node, "reference": case.recorded["node"],
            "devices": case.found.devices, "recorded_devices": case.recorded.get("devices"),
            "message": case.found.message, "recorded_message": case.recorded.get("message"),
        }
        for case in cases
        if not case.agrees
    ]  # fmt: skip
    summary = {
        "cases": len(cases),
        "agree": sum(agree.values()),
        "decisions_per_cpu_second": len(cases) / cpu if cpu > 0 else None,
    }
    return {
        "benchmark": "scheduler_agreement",
        "version": planner.__version__,
        "rows": rows,
        "summary": summary,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.scheduler_agreement", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="folder of recorded decisions")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    cases, cpu = run(options.folder)
    document = report(cases, cpu)
    for row in document["rows"]:
        print(" ".join(f"{key}={value}" for key, value in row.items()))
    print(", ".join(f"{key} {value}" for key, value in document["summary"].items()))
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
