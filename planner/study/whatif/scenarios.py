"""From a study to its scenarios: the inputs of each, written out."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from planner.costs import Calibration, load_calibration
from planner.errors import StudyError
from planner.schema import expand, loads, plain, presets
from planner.study.inputs import Documents
from planner.study.whatif.document import Options, Parameter, StudyDocument, Value
from planner.study.whatif.paths import parse_path, scale_field, set_field, split_quantity
from planner.topology import load_topology
from planner.topology import resolve as resolve_topology
from planner.topology.machine import pairs_of
from planner.topology.models import Link, TopologyDocument
from planner.workload import WorkloadDocument, load_workload
from planner.workload import resolve as resolve_workload

WHOLE = ("topology", "workload", "calibration")
"""Inputs that a parameter may exchange as a whole."""
FOLDERS = {"topology": "topologies", "workload": "workloads", "calibration": "calibrations"}
_RANGE = re.compile(r"(.*)\[(\d+)-(\d+)\]")


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
        _change(data, parameter, value)
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
        return " + ".join(shown(item) for item in value) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


class Bases:
    """The unchanged inputs as plain data, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[str, str], dict[str, Any]] = {}

    def path(self, what: str, reference: str) -> Path:
        """Return the file of an input: beside the study, or a preset."""
        beside = self.folder / reference
        return presets.find(FOLDERS[what], beside if beside.is_file() else reference, StudyError)

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


def _change(data: dict[str, Any], parameter: Parameter, value: Value) -> None:
    path = parameter.parameter
    steps = parse_path(path)
    if steps[0].field not in data:
        raise StudyError(
            f"{path}: a path starts with topology, workload or options, or is one of {', '.join(WHOLE)}"
        )
    if path == "topology.links_down":
        _cut(data["topology"], value)
    elif steps[-1].field == "count" and [step.field for step in steps[:-1]] == ["topology", "nodes"]:
        _resize(data["topology"], steps[1].selector or "0", value, path)
    elif parameter.factors is not None and not isinstance(value, list):
        scale_field(data, path, split_quantity(value)[0])
    else:
        set_field(data, path, value)


def _resize(topology: dict[str, Any], selector: str, value: Value, path: str) -> None:
    """Give a group of nodes another number of nodes."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise StudyError(f"{path}: a count is a whole number above zero, not {value!r}")
    groups = topology.get("nodes", [])
    found = [g for place, g in enumerate(groups) if selector in ("*", str(place), g["machine"], g["name"])]
    if not found:
        raise StudyError(f"{path}: no group of nodes is [{selector}]; the document has {len(groups)} of them")
    for group in found:
        match = _RANGE.fullmatch(group["name"])
        stem, first, width = (
            (match[1], int(match[2]), len(match[2])) if match else (f"{group['name']}-", 0, 1)
        )
        last = first + value - 1
        group["name"] = (
            f"{stem}[{first:0{width}d}-{last:0{width}d}]" if value > 1 else f"{stem}{first:0{width}d}"
        )


def _cut(topology: dict[str, Any], value: Value) -> None:
    """Take links out of the machines or the fabric; each is a pair of ends."""
    pairs = (
        [tuple(map(str, pair)) for pair in value if isinstance(pair, list)] if isinstance(value, list) else []
    )
    if not isinstance(value, list) or len(pairs) != len(value) or any(len(pair) != 2 for pair in pairs):
        raise StudyError(f"topology.links_down: a list of pairs of ends is expected, not {value!r}")
    holders = [*topology["machines"], *([topology["fabric"]] if topology.get("fabric") else [])]
    for pair in pairs:
        found = [_cut_in(holder, pair) for holder in holders]
        if not any(found):
            raise StudyError(f"topology.links_down: there is no link between {pair[0]!r} and {pair[1]!r}")


def _cut_in(holder: dict[str, Any], pair: tuple[str, ...]) -> bool:
    """Take one link out of a machine; links given as ranges or meshes are written out. Return if found."""
    found, kept = False, []
    for link in [*holder.get("links", []), *_mesh_links(holder, pair)]:
        ends = pairs_of(Link.model_validate(link))
        if not any(set(one) == set(pair) for one in ends):
            kept.append(link)
            continue
        found = True
        kept.extend({**link, "between": list(one)} for one in ends if set(one) != set(pair))
    if found:
        holder["links"] = kept
    return found


def _mesh_links(holder: dict[str, Any], pair: tuple[str, ...]) -> list[dict[str, Any]]:
    """Write out, link by link, the meshes that hold a pair."""
    links: list[dict[str, Any]] = []
    for mesh in list(holder.get("meshes", [])):
        among = mesh["among"] if isinstance(mesh["among"], list) else [mesh["among"]]
        names = [name for item in among for name in expand(item)]
        if set(pair) <= set(names):
            holder["meshes"].remove(mesh)
            rest = {key: item for key, item in mesh.items() if key != "among"}
            links += [
                {**rest, "between": [left, right]} for i, left in enumerate(names) for right in names[i + 1 :]
            ]
    return links
