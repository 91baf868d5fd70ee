"""JSON of benchmark tools, bounded and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from planner.calibrate.importers.blocks import OutputRefusedError


def parsed(text: str, name: str) -> Mapping[str, Any]:
    """Return the mapping that a JSON text holds.

    Raises
    ------
    OutputRefusedError
        If the text is no JSON, is nested too deeply, holds not-a-number, or is no mapping.
    """

    def refuse(word: str) -> NoReturn:
        raise OutputRefusedError(name, 0, f"{word} where a figure belongs")

    try:
        body = json.loads(text.lstrip("\ufeff"), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise OutputRefusedError(name, error.lineno, f"no JSON: {error.msg}; the file may be cut") from None
    except RecursionError:
        raise OutputRefusedError(name, 0, "nested too deeply for the output of a benchmark") from None
    if not isinstance(body, Mapping):
        raise OutputRefusedError(name, 0, "no mapping at the top")
    return body


def figure(body: Mapping[str, Any], key: str, where: str, name: str) -> float:
    """Return a figure of at least 0 that must be there.

    Raises
    ------
    OutputRefusedError
        If it is missing, negative, or no number.
    """
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise OutputRefusedError(name, 0, f"{where}.{key}: {value!r} where a figure belongs")
    return float(value)


def strings(value: Any) -> tuple[str, ...]:
    """Return the strings of a list, none for anything else."""
    return tuple(str(one) for one in value) if isinstance(value, list) else ()
