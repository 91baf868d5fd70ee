"""Recorded verdicts of a real API server, and what the project's own checker says to the same documents.

``apiserver-golden/verdicts.jsonl`` holds one verdict per line: ``file`` and ``doc`` name a document of
``examples/``, ``op``, ``path`` and ``value`` what was changed in it, ``accepted`` and ``message`` the answer.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from planner.deploy.apiserver import Checker

Json = Mapping[str, Any]
UNKNOWN = "zzUnknown"


@dataclass(frozen=True)
class Case:
    """A recorded verdict, and the reasons that the checker gives against the document."""

    recorded: Json
    reasons: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether the server refused the document."""
        return not self.recorded["accepted"]

    @property
    def agrees(self) -> bool:
        """Whether the checker came to the same verdict."""
        return self.refused is bool(self.reasons)


def judge(folder: Path, checker: Checker) -> Iterator[Case]:
    """Yield every recorded verdict of a folder beside the checker's."""
    documents: dict[str, list[Any]] = {}
    for path in sorted((folder / "apiserver-golden").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry["file"] not in documents:
                text = (folder / "examples" / entry["file"]).read_text(encoding="utf-8")
                documents[entry["file"]] = list(yaml.load_all(text, yaml.CSafeLoader))
            document = changed(documents[entry["file"]][entry["doc"]], entry)
            yield Case(entry, tuple(checker.problems(document)))


def changed(document: Any, entry: Json) -> Any:
    """Return a document with the change of a recorded verdict."""
    whole = copy.deepcopy(document)
    if entry["op"] == "none":
        return whole
    if entry["path"].startswith("/metadata/labels/"):
        whole["metadata"].setdefault("labels", {})
    parent, key = _reach({"": whole}, "", entry["path"].strip("/").split("/"))
    if entry["op"] == "remove":
        del parent[key]
    elif entry["op"] == "rename":
        parent[entry["value"]] = parent.pop(key)
    elif entry["op"] == f"add {UNKNOWN}":
        parent[key][UNKNOWN] = 1 if entry["value"] is None else entry["value"]  # the recording added a number
    else:
        parent[key] = entry["value"]
    return whole


def _reach(parent: Any, key: Any, parts: list[str]) -> tuple[Any, Any]:
    """Return the container and the key that a path leads to; of keys with slashes the longest counts."""
    if not parts or parts == [""]:
        return parent, key
    target = parent[key]
    if isinstance(target, list):
        return _reach(target, int(parts[0]), parts[1:])
    for end in range(len(parts), 0, -1):
        name = "/".join(parts[:end])
        if name in target:
            return _reach(target, name, parts[end:])
    return target, "/".join(parts)  # a new key
