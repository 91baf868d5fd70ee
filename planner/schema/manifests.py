"""Manifests of Kubernetes: streams of YAML or JSON documents, read as plain data within bounds."""

from __future__ import annotations

from typing import Any

import yaml

from planner.errors import DocumentError, Problem
from planner.schema.tree import DEEPEST

LARGEST_MANIFEST = 16 * 1024 * 1024
"""Bytes of the largest stream that is read."""
MOST_ALIASES = 1000
"""Aliases in one stream; more would let a small file stand for a huge one."""
MOST_MANIFEST_VALUES = 1_000_000
"""Values in one stream, those shared by aliases counted wherever they are used."""


class _Loader(yaml.CSafeLoader):
    """Scalars as Kubernetes has them: dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_manifests(text: str, name: str) -> list[dict[str, Any]]:
    """Return the objects of a stream, those inside a ``List`` one by one.

    Parameters
    ----------
    name
        What stands for the file in messages.

    Raises
    ------
    DocumentError
        If the stream is too large, is no YAML, or holds something else than objects with a kind.
    """
    if len(text.encode("utf-8")) > LARGEST_MANIFEST:
        raise _error(name, 1, f"more than {LARGEST_MANIFEST} bytes")
    try:
        _refuse_excess(text, name)
        found = [one for one in yaml.load_all(text, _Loader) if one is not None]  # a safe loader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _error(name, mark.line + 1 if mark else 1, f"no YAML: {error}") from None
    if _is_huge(found):
        raise _error(name, 1, f"more than {MOST_MANIFEST_VALUES} values, aliases written out")
    objects: list[dict[str, Any]] = []
    for index, one in enumerate(found):
        many = (
            one.get("items") if isinstance(one, dict) and str(one.get("kind", "")).endswith("List") else [one]
        )
        for item in many if isinstance(many, list) else [many]:
            if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
                raise _error(name, 1, f"document {index + 1} is no object with a kind")
            objects.append(item)
    return objects


def _refuse_excess(text: str, name: str) -> None:
    """Refuse a stream that is too deep for the loader or shares too much, from its events alone."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        aliases += isinstance(event, yaml.AliasEvent)
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if depth > DEEPEST:
            raise _error(name, line, f"nested deeper than {DEEPEST} levels")
        if aliases > MOST_ALIASES:
            raise _error(name, line, f"more than {MOST_ALIASES} aliases")


def _is_huge(documents: list[Any]) -> bool:
    """Whether a walk through everything would never end, or not soon."""
    waiting, seen = list(documents), 0
    while waiting and seen <= MOST_MANIFEST_VALUES:
        value = waiting.pop()
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting.extend(inside)
        seen += 1 + len(inside)
    return seen > MOST_MANIFEST_VALUES


def _error(name: str, line: int, text: str) -> DocumentError:
    return DocumentError([Problem(path=name, line=line, column=1, where="", text=text, hint="")])
