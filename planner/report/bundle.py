"""The folder that a solve leaves: plan, manifests, launch files, page, summary; all of it or nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from planner.deploy import Target, kubernetes_bundle, launch_files
from planner.deploy.errors import UnexpressedError
from planner.errors import OutputExistsError
from planner.report.page import render_report
from planner.report.summary import summary_json
from planner.schema import dump_yaml
from planner.simulate.result import SimulationResult
from planner.study.alternatives import alternatives

if TYPE_CHECKING:
    from planner.study import Study

PLAN = "plan.yaml"
SIMULATION = "simulation.yaml"
NO_MANIFESTS = "README"
"""Says why a plan has no manifests, in their place."""
HOST = "host"
"""Vendor of ranks that are cores of a host: plans for them are checked on the spot and deployed nowhere."""


def bundle_files(study: Study, simulation: SimulationResult | None, plan_path: Path) -> dict[str, str]:
    """Return the text of every file of the folder by relative name.

    Raises
    ------
    DeployError
        If the plan cannot be expressed as manifests or scripts.
    """
    target = Target()
    manifests: Mapping[str, str] = {}
    scripts: Mapping[str, str] = {}
    if not any(study.topology.device(gpu).vendor == HOST for gpu in study.topology.gpus):
        try:
            manifests = kubernetes_bundle(study.plan, study.topology, study.workload, target)
        except UnexpressedError as error:
            manifests = {NO_MANIFESTS: f"There are no manifests for this plan: {error}\n"}
        scripts = launch_files(study.plan, study.topology, study.workload, target)
    summary = summary_json(study.plan, simulation, plan_path)
    files = {
        PLAN: dump_yaml(study.plan),
        "summary.json": json.dumps(summary, indent=2) + "\n",
        "report.html": render_report(
            study.plan, study.topology, simulation, study.workload.document, alternatives(study)
        ),
        **{f"k8s/{name}": text for name, text in manifests.items()},
        **{f"launch/{name}": text for name, text in scripts.items()},
    }
    if simulation is not None:
        files[SIMULATION] = dump_yaml(simulation)
    return files


def write_folder(folder: Path, files: Mapping[str, str], *, force: bool = False) -> None:
    """Write files into a folder, all of them or none; of several processes one after the other.

    With ``force``, what an earlier call left gives way: every file or sub-folder of the same name at the top
    of the folder, and a simulation of an earlier plan. Whatever else lies there stays.

    Raises
    ------
    OutputExistsError
        If the folder holds something and ``force`` is off.
    NotADirectoryError
        If it is a file.
    OSError
        If the place cannot be written; what was there is put back.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file; choose another place", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if any(folder.iterdir()) and not force:
            raise OutputExistsError(folder)
        _replace(folder, files)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process writes the folder; where it cannot be locked, go on without."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _replace(folder: Path, files: Mapping[str, str]) -> None:
    work = Path(tempfile.mkdtemp(prefix=".planner-", dir=folder))
    fresh, old = work / "fresh", work / "old"
    replaced = False
    try:
        old.mkdir()
        with _said_of(folder):
            _fill(fresh, files)
        _swap(folder, fresh, old, {SIMULATION} if PLAN in files else set())
        replaced = True
    finally:
        if replaced or not any(old.iterdir()):  # what could not be put back is kept
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Let errors of the system that name no file, as that of a full disk, name the folder."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        if text.startswith("#!"):
            path.chmod(0o755)


def _swap(folder: Path, fresh: Path, old: Path, outdated: set[str]) -> None:
    """Move everything from ``fresh`` into a folder and what it replaces into ``old``, or change nothing."""
    names = sorted(item.name for item in fresh.iterdir())
    moved: list[tuple[Path, Path]] = []
    try:
        for name in sorted({*names, *outdated}):
            if (folder / name).exists():
                _move(folder / name, old / name, moved)
        for name in names:
            _move(fresh / name, folder / name, moved)
    except BaseException:
        for source, target in reversed(moved):
            os.replace(target, source)
        raise


def _move(source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
    os.replace(source, target)
    moved.append((source, target))
