"""Giving parameters their values in plain documents: fields, numbers of nodes, missing links, other hosts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from planner.errors import StudyError
from planner.schema import expand
from planner.study.whatif.document import Parameter, Value
from planner.study.whatif.paths import parse_path, scale_field, set_field, split_quantity
from planner.topology.machine import pairs_of
from planner.topology.models import Link

WHOLE = ("topology", "workload", "calibration")
"""Inputs that a parameter may exchange as a whole."""
PROCESSOR = ("arch", "cpu", "cores", "core_speed", "vector_bits", "memory_bandwidth")
"""Fields of a NUMA domain that ``topology.host`` takes from another machine."""
STATED = "stated"
"""The value of ``topology.host`` that leaves the hosts as they are."""
_RANGE = re.compile(r"(.*)\[(\d+)-(\d+)\]")


def change(
    data: dict[str, Any], parameter: Parameter, value: Value, topology: Callable[[str], dict[str, Any]]
) -> None:
    """Give a parameter its value in the plain inputs of a scenario.

    Parameters
    ----------
    topology
        Returns another topology, a file or preset, with its presets written out.

    Raises
    ------
    StudyError
        If the path leads nowhere, or the value is none that it can have.
    """
    path = parameter.parameter
    steps = parse_path(path)
    if steps[0].field not in data:
        raise StudyError(
            f"{path}: a path starts with topology, workload or options, or is one of {', '.join(WHOLE)}"
        )
    if path == "topology.links_down":
        _cut(data["topology"], value)
    elif path == "topology.host":
        if value != STATED:
            _rehost(data["topology"], topology(str(value)))
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


def _rehost(topology: dict[str, Any], other: dict[str, Any]) -> None:
    """Give every NUMA domain the processor of another machine; memory size, GPUs and links stay."""
    source = other["machines"][0]["numa"][0]
    sources = other.get("sources", {})
    new = {field: _sourced(source[field], sources) for field in PROCESSOR if field in source}
    for machine in topology["machines"]:
        machine["numa"] = [
            {**{key: item for key, item in domain.items() if key not in (*PROCESSOR, "core_list")}, **new}
            for domain in machine["numa"]
        ]


def _sourced(figure: Any, sources: dict[str, str]) -> Any:
    """Return a figure that carries its source with it instead of naming one of its document."""
    if not isinstance(figure, dict) or "source" not in figure:
        return figure
    return {**figure, "source": sources.get(figure["source"], figure["source"])}
