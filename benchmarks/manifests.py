"""Judge the manifests that the planner emits, and its own checker, by what an API server says.

``python -m benchmarks.manifests FOLDER [--json OUT]``: the folder holds ``core/`` and ``crds/`` with schemas,
``examples/`` and ``apiserver-golden/`` with recorded verdicts. Every situation is emitted for every release,
way to get devices and scheduler, and each object checked strictly by the schemas of that release; targets
that cannot be are refused with a reason and counted apart.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

import planner
from benchmarks.manifest_situations import situations
from benchmarks.manifest_verdicts import Case, judge
from planner.deploy import DeployError, Target, kubernetes_bundle
from planner.deploy.apiserver import Checker, read_schemas
from planner.deploy.platform import COMPONENTS, Platform
from planner.deploy.target import VERSIONS, Sizing

RECORDED = "1.36"
"""Release of the API server whose verdicts were recorded."""
STACKS = ("core", "kueue", "kai", "volcano", "numa")


@dataclass
class Matrix:
    """Emitted documents over all targets: how many, of which kinds, faults, and refused targets."""

    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    targets: int = 0
    documents: int = 0


def targets() -> Iterator[tuple[str, Target | str]]:
    """Yield every target of the matrix by name, or why it cannot be."""
    for release, devices, stack in product(VERSIONS, ("device-plugin", "dra"), STACKS):
        name = f"{release} {devices} {stack}"
        try:
            platform = Platform(
                devices=devices,  # type: ignore[arg-type]
                driver="0.5",
                stack=stack,
                labels="topograph-1.0",
                components=COMPONENTS,
            )
            sizing = Sizing(huge_page="1Gi")
            yield name, Target(version=release, platform=platform, sizing=sizing, own_priorities=True)
        except DeployError as error:
            yield name, str(error)


def emit(folder: Path) -> Matrix:
    """Emit the matrix and check every document of it."""
    found = Matrix()
    checkers = {release: Checker(read_schemas(folder, release)) for release in VERSIONS}
    plans = situations()
    for name, target in targets():
        if isinstance(target, str):
            found.refused[target] += 1
            continue
        found.targets += 1
        for one in plans:
            try:
                files = kubernetes_bundle(one.plan, one.topology, one.workload, target)
            except DeployError as error:
                found.refused[f"{one.name}: {error}"] += 1
                continue
            for path, item in _documents(files):
                found.documents += 1
                found.kinds[f"{item['apiVersion']} {item['kind']}"] += 1
                reasons = checkers[target.version].problems(item)
                if reasons:
                    found.faults.append(
                        {"case": f"{name}: {one.name}: {path}", "metric": "invalid", "value": reasons}
                    )
    return found


def _documents(files: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for path, text in files.items():
        if path.startswith(("base/", "components/")) and not path.endswith("kustomization.yaml"):
            for item in yaml.load_all(text, yaml.CSafeLoader):
                yield path, item


def report(matrix: Matrix, cases: list[Case]) -> dict[str, Any]:
    """Return the figures as a document: a row for each mutation, each refused target, each difference."""
    refused = [case for case in cases if case.refused]
    whole = [case for case in cases if case.recorded["op"] == "none"]
    totals, agree = (
        Counter(_kind(case) for case in cases),
        Counter(_kind(case) for case in cases if case.agrees),
    )
    rows: list[dict[str, Any]] = [
        {"case": kind, "metric": "agree", "value": agree[kind], "reference": count}
        for kind, count in sorted(totals.items())
    ]
    rows += [
        {"case": text, "metric": "targets refused", "value": n} for text, n in sorted(matrix.refused.items())
    ]
    rows += matrix.faults
    rows += [
        {
            "case": f"{case.recorded['file']} {case.recorded['doc']} {case.recorded['path']}",
            "metric": "verdict", "value": list(case.reasons), "reference": case.recorded["message"],
        }
        for case in cases
        if not case.agrees
    ]  # fmt: skip
    summary = {
        "documents": matrix.documents,
        "valid": matrix.documents - len(matrix.faults),
        "kinds": len(matrix.kinds),
        "targets": matrix.targets,
        "verdicts": len(cases),
        "agreement": _share(cases),
        "agreement_where_refused": _share(refused),
        "refused": len(refused),
        "unmutated": len(whole),
        "unmutated_accepted": sum(not case.reasons for case in whole),
    }
    return {"benchmark": "manifests", "version": planner.__version__, "rows": rows, "summary": summary}


def _kind(case: Case) -> str:
    return f"{case.recorded['mutation']} {'refused' if case.refused else 'accepted'}"


def _share(cases: list[Case]) -> float | None:
    return sum(case.agrees for case in cases) / len(cases) if cases else None


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.manifests", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of schemas, examples and recorded verdicts")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    checker = Checker(read_schemas(options.folder, RECORDED))
    document = report(emit(options.folder), list(judge(options.folder, checker)))
    for row in document["rows"]:
        print(" ".join(f"{key}={value}" for key, value in row.items()))
    print(", ".join(f"{key} {value}" for key, value in document["summary"].items()))
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
