"""From a study to its scenarios: the inputs of each, written out."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from planner.costs import Calibration, load_calibration
from planner.errors import StudyError
from planner.schema import is_file, loads, plain, presets
from planner.study.inputs import Documents
from planner.study.whatif.document import Options, Scalar, StudyDocument, Value
from planner.study.whatif.edits import WHOLE, change
from planner.topology import load_topology
from planner.topology import resolve as resolve_topology
from planner.topology.models import TopologyDocument
from planner.workload import WorkloadDocument, load_workload
from planner.workload import resolve as resolve_workload

FOLDERS = {"topology": "topologies", "workload": "workloads", "calibration": "calibrations"}


@dataclass(frozen=True)
class Scenario:
    """One combination of values, with its inputs written out; it can be sent to another process.

    Attributes
    ----------
    labels
        Value of each parameter as shown, by title.
    topology, workload
        Documents in canonical JSON.
    folder
        Where the files that the workload names lie.
    calibration
        File or preset.
    """

    labels: dict[str, str]
    topology: str
    workload: str
    folder: str
    calibration: str
    options: Options

    def documents(self) -> Documents:
        """Return the inputs, checked.

        Raises
        ------
        PlannerError
            If the values that were set make no sound document.
        """
        where = ", ".join(f"{title} = {value}" for title, value in self.labels.items()) or "base"
        topology = resolve_topology(loads(self.topology, TopologyDocument, f"topology of scenario ({where})"))
        document = loads(self.workload, WorkloadDocument, f"workload of scenario ({where})")
        workload = resolve_workload(document, Path(self.folder))
        return Documents(topology, workload, _calibration(self.calibration))


def _calibration(path: str) -> Calibration:
    """Return a calibration; that of many scenarios is read, and its digest taken, once."""
    return _calibration_of(path, Path(path).stat().st_mtime_ns)


@cache
def _calibration_of(path: str, changed: int) -> Calibration:
    return load_calibration(path)


def make_scenarios(study: StudyDocument, folder: Path) -> list[Scenario]:
    """Return the scenarios of a study in order, the last parameter varying fastest.

    Parameters
    ----------
    folder
        Folder of the study; files that it names are relative to it.

    Raises
    ------
    PlannerError
        If an input or a path leads nowhere.
    """
    return list(_scenarios(study, folder, [parameter.settings() for parameter in study.vary]))


def _scenarios(study: StudyDocument, folder: Path, settings: Sequence[Sequence[Value]]) -> Iterator[Scenario]:
    bases = Bases(folder)
    rows = product(*settings) if study.combine == "cross" else zip(*settings, strict=True)
    for row in rows:
        yield scenario_of(study, bases, dict(zip((p.title for p in study.vary), row, strict=True)))


def scenario_of(study: StudyDocument, bases: Bases, values: dict[str, Value]) -> Scenario:
    """Return the scenario in which the parameters, by title, have some values."""
    chosen = {what: getattr(study, what) for what in WHOLE}
    fields = []
    for parameter in study.vary:
        value = values[parameter.title]
        if parameter.parameter in WHOLE:
            chosen[parameter.parameter] = str(value)
        else:
            fields.append((parameter, value))
    data = {
        "topology": bases.topology(chosen["topology"]),
        "workload": bases.workload(chosen["workload"]),
        "options": plain(study.options),
    }
    for parameter, value in fields:
        change(data, parameter, value, bases.topology)
    options = Options.model_validate(data["options"])
    return Scenario(
        {title: shown(value) for title, value in values.items()},
        json.dumps(data["topology"]),
        json.dumps(data["workload"]),
        str(bases.path("workload", chosen["workload"]).parent),
        str(bases.path("calibration", chosen["calibration"])),
        options,
    )


def shown(value: Value) -> str:
    """Return a value as a table shows it."""
    if isinstance(value, list):
        return " + ".join(_pair(item) for item in value) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pair(item: Scalar | list[Scalar]) -> str:
    return "-".join(map(shown, item)) if isinstance(item, list) else shown(item)


class Bases:
    """The unchanged inputs as plain data, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[str, str], dict[str, Any]] = {}

    def path(self, what: str, reference: str) -> Path:
        """Return the file of an input: beside the study, or a preset."""
        beside = self.folder / reference
        return presets.find(FOLDERS[what], beside if is_file(beside) else reference, StudyError)

    def topology(self, reference: str) -> dict[str, Any]:
        """Return a topology with its presets and devices written out."""
        return self._copy("topology", reference)

    def workload(self, reference: str) -> dict[str, Any]:
        """Return a workload."""
        return self._copy("workload", reference)

    def _copy(self, what: str, reference: str) -> dict[str, Any]:
        if (what, reference) not in self._read:
            path = self.path(what, reference)
            document = load_topology(path).document if what == "topology" else load_workload(path).document
            self._read[what, reference] = plain(document)
        return copy.deepcopy(self._read[what, reference])
