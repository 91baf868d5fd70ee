"""Cells of tables that others publish: numbers that can be trusted, and their names of data types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
MILLI = 1e-3
DTYPES = {
    "fp32": "fp32", "float32": "fp32", "float": "fp32", "bf16": "bf16", "bfloat16": "bf16",
    "fp16": "fp16", "float16": "fp16", "half": "fp16", "fp8": "fp8", "fp8_block": "fp8", "fp8_static": "fp8",
    "fp8_ootb": "fp8", "fp4": "fp4", "nvfp4": "fp4", "int8": "int8", "sq": "int8",
}  # fmt: skip
"""Data types of both factors by how tables call them; ``sq``: SmoothQuant, eight bits each."""
WIDTHS = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Bytes of an element in a message."""


@dataclass(frozen=True)
class LeftOut:
    """A sound row that no coefficient rests on, and why."""

    reason: str


def positive(row: Row, name: str) -> float:
    """Return a cell as a number.

    Raises
    ------
    ValueError
        If it is none, or not above zero.
    """
    value = float(row[name])
    if not math.isfinite(value) or value <= 0.0:
        raise ValueError(f"{name} is {row[name]!r}")
    return value


def optional(row: Row, name: str, default: float) -> float:
    """Return a cell as a number of zero or more, ``default`` where it is blank or the column is absent.

    Raises
    ------
    ValueError
        If it is no such number.
    """
    cell = row.get(name)
    if cell is None or cell == "":
        return default
    value = float(cell)
    if not math.isfinite(value) or value < 0.0:
        raise ValueError(f"{name} is {cell!r}")
    return value


def dtype_of(row: Row, name: str, default: str = "") -> str | LeftOut:
    """Return a data type by our name, or why the row is left out: factors of two widths have no fit."""
    stated = str(row.get(name) or default).casefold()
    known = DTYPES.get(stated)
    return LeftOut(f"data type {stated!r}") if known is None else known
