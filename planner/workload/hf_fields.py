"""Strict reading of a JSON configuration: every mistake names the file and the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import WorkloadError

LARGEST = 2**20
"""Size limit of a file, bytes; real ones have a few kilobytes."""
_MOST = 10**9


@dataclass(frozen=True)
class Fields:
    """The fields of one mapping of a configuration, read strictly."""

    path: Path
    data: Mapping[str, Any]
    place: str = ""

    def error(self, name: str, text: str) -> WorkloadError:
        """Return the error about a field."""
        return WorkloadError(f"{self.path}: {self.place}{name}: {text}")

    def count(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """Return a whole number; an absent field or a null takes the default, if there is one."""
        value = self.data.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.error(name, "missing field")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            raise self.error(name, f"must be a whole number from {least} to {_MOST}, not {value!r:.80}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, f"must be true or false, not {value!r:.80}")
        return value

    def inner(self, name: str) -> Fields | None:
        """Return the fields of a mapping inside, or ``None`` where it is absent."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, f"must be a mapping, not {value!r:.80}")
        return Fields(self.path, value, f"{self.place}{name}.")


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file.

    Raises
    ------
    WorkloadError
        If the file cannot be read, is too large, or is not a JSON mapping.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > LARGEST:
        raise WorkloadError(f"{path}: larger than {LARGEST // 2**20} MiB; is this a config.json?")
    try:
        data = json.loads(raw)
    except json.JSONDecodeError as error:
        raise WorkloadError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: not valid JSON: {type(error).__name__}") from error
    if not isinstance(data, dict):
        raise WorkloadError(f"{path}: must be a mapping")
    return data
