"""Judge the importers: every dump of a folder against what is true of its machine.

``python -m benchmarks.topology_import FOLDER [--json OUT]`` reads every file that FOLDER/truth.json lists,
FOLDER/KIND/FILE, and compares the view with the truth. A file is

- *exact*;
- *refused_as_expected*: the truth asks for, or allows, a typed refusal;
- *wrong*: something differs and the view has a remark, or it was refused without need;
- *silent_wrong*: something differs without any remark, or nothing may be read from it at all.

CPU time is that of the faster of two readings, so that importing modules does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planner
from benchmarks.topology_facts import compare, demands_refusal, expects_refusal
from planner.errors import PlannerError
from planner.topology.importers.detect import read
from planner.topology.importers.views import FabricView, HostView

VERDICTS = ("exact", "refused_as_expected", "wrong", "silent_wrong")
CRASHES = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What a reader must not raise; counted as wrong, so that the other files are still judged."""


@dataclass(frozen=True)
class Case:
    """One judged file.

    Attributes
    ----------
    cpu
        CPU time of reading, s.
    reasons
        What differs, or why the file was refused.
    unchecked
        Parts of the truth that were not compared.
    """

    kind: str
    file: str
    verdict: str
    cpu: float
    reasons: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    remarks: int = 0


def judge(path: Path, kind: str, truth: Mapping[str, Any]) -> Case:
    """Read one file and compare it with its truth."""
    cpu, found = min((_timed(path) for _ in range(2)), key=lambda pair: pair[0])
    if isinstance(found, PlannerError):
        verdict = "refused_as_expected" if expects_refusal(truth) else "wrong"
        return Case(kind, path.name, verdict, cpu, (str(found),))
    if isinstance(found, Exception):
        return Case(kind, path.name, "wrong", cpu, (f"{type(found).__name__}: {found}",))
    if demands_refusal(truth):
        return Case(kind, path.name, "silent_wrong", cpu, ("read, though it is no topology",))
    done = compare(truth, found)
    verdict = "exact" if not done.wrong else "wrong" if found.remarks else "silent_wrong"
    return Case(kind, path.name, verdict, cpu, tuple(done.wrong), tuple(done.unchecked), len(found.remarks))


def _timed(path: Path) -> tuple[float, HostView | FabricView | Exception]:
    started = time.process_time()
    found: HostView | FabricView | Exception
    try:
        found = read(path)
    except (PlannerError, *CRASHES) as failure:
        found = failure
    return time.process_time() - started, found


def run(folder: Path) -> list[Case]:
    """Judge every file that the folder's truth lists."""
    try:
        entries = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlannerError(f"{folder}/truth.json cannot be read: {error}") from error
    by_file = {entry["file"]: entry["truth"] for entry in entries}
    cases = []
    for entry in entries:
        truth = entry["truth"]
        if "same_as" in truth:
            truth = {
                **by_file[truth["same_as"]],
                **{key: one for key, one in truth.items() if key != "same_as"},
            }
        cases.append(judge(folder / entry["kind"] / entry["file"], entry["kind"], truth))
    return cases


def report(cases: Iterable[Case]) -> dict[str, Any]:
    """Return the figures as a document."""
    cases = list(cases)
    counts = Counter(case.verdict for case in cases)
    rows = [
        {
            "case": f"{case.kind}/{case.file}",
            "metric": metric,
            "value": value,
            "reference": reference,
            "reasons": list(case.reasons),
            "unchecked": list(case.unchecked),
        }
        for case in cases
        for metric, value, reference in (
            ("verdict", case.verdict, "exact or refused_as_expected"),
            ("cpu_seconds", case.cpu, None),
        )
    ]
    slowest = max(cases, key=lambda case: case.cpu, default=None)
    summary: dict[str, Any] = {"files": len(cases)} | {verdict: counts[verdict] for verdict in VERDICTS}
    summary["slowest"] = None if slowest is None else {"file": slowest.file, "cpu_seconds": slowest.cpu}
    return {
        "benchmark": "topology_import",
        "version": planner.__version__,
        "rows": rows,
        "summary": summary,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code, 0 when every file is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topology_import", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    cases = run(options.folder)
    width = max((len(case.file) for case in cases), default=4)
    print(f"{'kind':16}{'file':{width}}  {'verdict':20}{'CPU ms':>8}{'remarks':>9}")
    for case in cases:
        print(f"{case.kind:16}{case.file:{width}}  {case.verdict:20}{case.cpu * 1e3:8.1f}{case.remarks:9}")
        if case.verdict != "exact":
            for reason in case.reasons[:5]:
                print(f"{'':18}{reason[:200]}")
    document = report(cases)
    print(json.dumps(document["summary"]))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    good = all(case.verdict in VERDICTS[:2] for case in cases)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
