"""Tell the format of a dump from its content, and read it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from planner.errors import nearest
from planner.schema.foreign import read_foreign_text
from planner.topology.importers.nccl_export import from_nccl_xml
from planner.topology.importers.nvidia_matrix import header_names, lines_of
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import FabricView, HostView
from planner.topology.models import TopologyDocument

_READERS: Mapping[str, tuple[str, str]] = {
    "nvidia-smi-topo": ("nvidia_topo", "read_nvidia_topo"),
    "nvidia-smi-nvlink": ("nvidia_nvlink", "read_nvidia_nvlink"),
    "nvidia-smi-xml": ("nvidia_xml", "read_nvidia_xml"),
    "nccl-xml": ("nccl_xml", "read_nccl_xml"),
    "hwloc-xml": ("hwloc_xml", "read_hwloc"),
    "lscpu": ("lscpu", "read_lscpu"),
    "numactl": ("numactl", "read_numactl"),
    "ibnetdiscover": ("ibnet", "read_ibnetdiscover"),
    "slurm-conf": ("slurm", "read_topology_conf"),
    "slurm-yaml": ("slurm", "read_topology_yaml"),
    "topograph": ("topograph", "read_model"),
    "k8s-nodes": ("k8s_nodes", "read_nodes"),
}
"""Module and function of every reader of text, imported when first needed."""
_SNAPSHOT = ("sysfs", "read_snapshot")
"""Module and function that read a folder or an archive."""
_ROOTS: Mapping[str, str] = {
    "nvidia_smi_log": "nvidia-smi-xml",
    "system": "nccl-xml",
    "graphs": "nccl-xml",
    "topology": "hwloc-xml",
    "root": "hwloc-xml",
}
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
_PROLOGUE = re.compile(r"\s*(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>)", re.DOTALL)
_TAG = re.compile(r"\s*<([A-Za-z_][\w.-]*)")
_LINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("nvidia-smi-nvlink", re.compile(r"\s*GPU\s+[0-9]+:\s")),
    ("numactl", re.compile(r"available: [0-9]+ nodes?\b|node [0-9]+ cpus:")),
    (
        "ibnetdiscover",
        re.compile(r'# Topology file: generated|(?:Switch|Ca|Rt)\s+[0-9]+\s+"|(?:ca|switch)guid='),
    ),
    ("slurm-conf", re.compile(r"(?:SwitchName|BlockName|BlockSizes)\s*=", re.IGNORECASE)),
    ("slurm-yaml", re.compile(r"-\s+topology\s*:")),
    ("k8s-nodes", re.compile(r"apiVersion\s*:|kind\s*:\s*(?:List|NodeList|Node)\b")),
    ("topograph", re.compile(r"(?:switches|blocks|nodes|capacity_blocks)\s*:")),
    ("lscpu", re.compile(r"(?:Architecture|CPU\(s\)|Model name|Thread\(s\) per core|NUMA node\(s\)):\s")),
)
"""First lines by which a text format is known; the first format with such a line wins."""


def detect(text: str, name: str) -> str:
    """Return the name of the format of a text.

    Raises
    ------
    ImportRefusedError
        If it is no format that can be read.
    """
    body = text.lstrip("\ufeff \t\r\n")
    if not body:
        raise ImportRefusedError(name, 0, "the file is empty")
    if body.startswith("<"):
        return _xml_format(body, name)
    if body.startswith("{"):
        return "lscpu" if re.match(r'\{\s*"lscpu"', body) else "k8s-nodes"
    lines = lines_of(text)
    if any(header_names(line) for line in lines):
        return "nvidia-smi-topo"
    for known, pattern in _LINES:
        if any(pattern.match(line) for line in lines):
            return known
    raise ImportRefusedError(name, 0, f"no format that is known; these are: {', '.join(_READERS)}")


def _xml_format(body: str, name: str) -> str:
    position = 0
    while match := _PROLOGUE.match(body, position):
        position = match.end()
    tag = _TAG.match(body, position)
    if tag is None:
        raise ImportRefusedError(name, 0, "XML without an element; the file may be cut")
    if tag[1] not in _ROOTS:
        close = nearest(tag[1], _ROOTS)
        raise ImportRefusedError(
            name,
            0,
            f"XML of <{tag[1]}> is no format that is known" + (f"; nearest is <{close}>" if close else ""),
        )
    return _ROOTS[tag[1]]


def read_text(text: str, name: str) -> HostView | FabricView:
    """Read a text in the format that its content shows.

    Raises
    ------
    ImportRefusedError
        If the format is unknown, or the text cannot be read for certain.
    """
    module, function = _READERS[detect(text, name)]
    reader: Callable[[str, str], HostView | FabricView] = _load(module, function)
    return reader(text, name)


def read(path: str | Path) -> HostView | FabricView:
    """Read a dump from a file, or a snapshot of ``/sys`` and ``/proc`` from a folder or an archive.

    Raises
    ------
    ImportRefusedError
        If there is no such file, its format is unknown, or it cannot be read for certain.
    """
    place = Path(path)
    if place.is_dir() or _is_archive(place):
        return _load(*_SNAPSHOT)(place)
    return read_text(_decoded(place), str(path))


def carried(path: str | Path) -> TopologyDocument | None:
    """Return the document that a file written by ``planner topology export`` carries, ``None`` for others."""
    place = Path(path)
    if place.is_dir() or _is_archive(place):
        return None
    return from_nccl_xml(_decoded(place), str(path))


def _load(module: str, function: str) -> Callable[..., HostView | FabricView]:
    found: Callable[..., HostView | FabricView] = getattr(
        import_module(f"planner.topology.importers.{module}"), function
    )
    return found


def _is_archive(place: Path) -> bool:
    if not place.is_file():
        return False
    with place.open("rb") as file:
        start = file.read(262)
    return start.startswith(_ARCHIVES) or start[257:262] == b"ustar"


def _decoded(place: Path) -> str:
    return read_foreign_text(place, lambda text: ImportRefusedError(str(place), 0, text))
