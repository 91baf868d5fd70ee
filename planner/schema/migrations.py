"""Old documents are read for ever: pure functions carry one version of a kind to the next."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

Tree: TypeAlias = dict[str, Any]
Migration: TypeAlias = Callable[[Tree], Tree]

_MIGRATIONS: dict[tuple[str, int], Migration] = {}


def register_migration(kind: str, from_version: int, fn: Migration) -> None:
    """Register the pure function that turns ``kind/from_version`` into ``kind/(from_version + 1)``.

    Raises
    ------
    ValueError
        If that step is registered already.
    """
    if (kind, from_version) in _MIGRATIONS:
        raise ValueError(f"a migration from {kind}/{from_version} is registered already")
    _MIGRATIONS[kind, from_version] = fn


def can_migrate(kind: str, from_version: int, to_version: int) -> bool:
    """Return whether every step between two versions of a kind is known."""
    return all((kind, version) in _MIGRATIONS for version in range(from_version, to_version))


def migrate(data: Tree, kind: str, from_version: int, to_version: int) -> Tree:
    """Return ``data`` carried from one version of ``kind`` to a later one; ``data`` itself is not changed."""
    tree = copy.deepcopy(data)
    for version in range(from_version, to_version):
        tree = _MIGRATIONS[kind, version](tree)
    return {**tree, "schema": f"{kind}/{to_version}"}
