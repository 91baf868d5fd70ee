"""Rows as data frames, for those who have pandas."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from planner.errors import StudyError

Rows = list[dict[str, Any]]


def frame(rows: Sequence[Mapping[str, object]]) -> Any:
    """Return rows as a pandas ``DataFrame``.

    Raises
    ------
    StudyError
        If pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise StudyError("tables need pandas: pip install 'planner[notebooks]'") from None
    return pandas.DataFrame(list(rows))
