"""Shipped documents: found beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from planner.errors import PlannerError, nearest
from planner.schema.files import is_file


@cache
def folder(kind: str) -> Path:
    """Return the folder of the shipped ``topologies``, ``workloads`` or ``calibrations``."""
    package = Path(str(files("planner")))
    packed = package / "_presets" / kind
    return packed if packed.is_dir() else package.parent / kind


CATALOGUES = frozenset({"devices", "models"})
"""Shipped documents that others refer to; no command takes one by name."""


def names(kind: str) -> list[str]:
    """Return the names of the shipped documents of a kind, sorted, without the catalogues."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml") if path.stem not in CATALOGUES)


def exists(kind: str, name: str) -> bool:
    """Whether a shipped document has this name."""
    return name in names(kind)


def find(kind: str, reference: str | Path, error: type[PlannerError]) -> Path:
    """Return the path of a document given by file or by preset name.

    Raises
    ------
    PlannerError
        Of the given type, with the nearest preset, if there is neither.
    """
    path = Path(reference)
    if is_file(path):
        return path
    if exists(kind, str(reference)):
        return folder(kind) / f"{reference}.yaml"
    close = nearest(path.stem, names(kind))
    hint = f"; did you mean {close!r}?" if close else ""
    raise error(f"{reference}: no such file and no preset of that name under {kind}{hint}")
