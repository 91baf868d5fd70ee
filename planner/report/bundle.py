"""The folder that a solve leaves: plan, manifests, launch files, page, summary; written all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from planner.deploy import Target, kubernetes_bundle, launch_files
from planner.errors import OutputExistsError
from planner.report.page import render_report
from planner.report.summary import summary_json
from planner.schema import dump_yaml
from planner.simulate.result import SimulationResult
from planner.study import Study


def bundle_files(study: Study, simulation: SimulationResult | None, plan_path: Path) -> dict[str, str]:
    """Return the text of every file of the folder by relative name.

    Raises
    ------
    DeployError
        If the plan cannot be expressed as manifests or scripts.
    """
    target = Target()
    manifests = kubernetes_bundle(study.plan, study.topology, study.workload, target)
    scripts = launch_files(study.plan, study.topology, study.workload, target)
    summary = summary_json(study.plan, simulation, plan_path)
    files = {
        "plan.yaml": dump_yaml(study.plan),
        "summary.json": json.dumps(summary, indent=2) + "\n",
        "report.html": render_report(study.plan, study.topology, simulation, study.workload.document),
        **{f"k8s/{name}": text for name, text in manifests.items()},
        **{f"launch/{name}": text for name, text in scripts.items()},
    }
    if simulation is not None:
        files["simulation.yaml"] = dump_yaml(simulation)
    return files


def write_folder(folder: Path, files: Mapping[str, str], *, force: bool = False) -> None:
    """Write files into a new folder, or replace one as a whole.

    Everything is written beside the target first; an error leaves what was there untouched.

    Raises
    ------
    OutputExistsError
        If the folder exists and ``force`` is off.
    OSError
        If the place cannot be written.
    """
    if folder.exists() and not force:
        raise OutputExistsError(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; choose another place")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        for name, text in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            if text.startswith("#!"):
                path.chmod(0o755)
        _replace(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replace(folder: Path, fresh: Path) -> None:
    """Put a folder in the place of another, which is removed only after."""
    if not folder.exists():
        os.replace(fresh, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.replace(folder, old / folder.name)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
