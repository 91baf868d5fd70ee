"""Schemas of the kinds that a cluster serves: read from files, or from the package with those of the core.

The folder holds ``core/k8s-RELEASE.json`` (``kinds`` by ``apiVersion:Kind``, and ``$defs``) and
``crds/*.json`` with ``apiVersion``, ``kind`` and ``openAPIV3Schema`` as the API server has it. Objects of
kind CustomResourceDefinition, as ``kubectl get crds -o json`` prints them, are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.errors import PlannerError

Json = Mapping[str, Any]


class SchemaFilesError(PlannerError):
    """The folder of schemas lacks what was asked for."""


@dataclass(frozen=True)
class Kind:
    """A kind that is served: its schema, definitions that it refers to, whether it is custom, its scope."""

    schema: Json
    definitions: Json = field(default_factory=dict)
    custom: bool = False
    namespaced: bool | None = None


@dataclass(frozen=True)
class Schemas:
    """Kinds by ``apiVersion:Kind``, and the release of the core kinds."""

    release: str
    kinds: Mapping[str, Kind]

    def of(self, document: Json) -> Kind | None:
        """Return the kind of a document, ``None`` where the cluster does not serve it."""
        return self.kinds.get(f"{document.get('apiVersion')}:{document.get('kind')}")

    def with_definitions(self, objects: Iterable[Json]) -> Schemas:
        """Return the schemas and those of CustomResourceDefinition objects."""
        more = dict(self.kinds)
        for one in objects:
            spec = one["spec"]
            for version in spec["versions"]:
                if version.get("served", True):
                    name = f"{spec['group']}/{version['name']}:{spec['names']['kind']}"
                    schema = version["schema"]["openAPIV3Schema"]
                    more[name] = Kind(schema, {}, True, spec["scope"] == "Namespaced")
        return Schemas(self.release, more)


def read_schemas(folder: Path, release: str) -> Schemas:
    """Return the schemas of a folder for a release such as ``1.36``.

    Raises
    ------
    SchemaFilesError
        If the folder has no schemas of this release.
    """
    found = sorted((folder / "core").glob(f"k8s-{release}*.json"))
    if not found:
        raise SchemaFilesError(
            f"{folder} has no core/k8s-{release}*.json with the core kinds of Kubernetes {release}"
        )
    core = json.loads(found[-1].read_text(encoding="utf-8"))
    kinds = {
        name: Kind(core["$defs"][definition], core["$defs"]) for name, definition in core["kinds"].items()
    }
    for path in sorted((folder / "crds").glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        kinds[f"{entry['apiVersion']}:{entry['kind']}"] = Kind(
            entry["openAPIV3Schema"], core["$defs"], True, entry["scope"] == "Namespaced"
        )
    return Schemas(release, kinds)
