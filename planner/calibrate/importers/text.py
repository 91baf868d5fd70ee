"""Lines of a benchmark's output as a terminal, a log collector or another system left them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from planner.calibrate.importers.blocks import OutputRefusedError
from planner.schema.foreign import read_foreign_text

LARGEST = 1e18
"""Larger numbers are no size, time or rate of any program."""
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TASK = re.compile(r"\s*[0-9]+:(?: |$)")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Line:
    """A line without colours and without the task number that a launcher put before it."""

    number: int
    text: str

    @property
    def words(self) -> list[str]:
        """Its words."""
        return self.text.split()


def lines_of(text: str) -> list[Line]:
    """Return the lines, counted from 1; task numbers (``srun --label``) go where most lines have one."""
    plain = [_ESCAPE.sub("", line).rstrip("\r") for line in text.lstrip("\ufeff").split("\n")]
    filled = [line for line in plain if line.strip()]
    if sum(_TASK.match(line) is not None for line in filled) > 0.8 * len(filled) > 0:
        plain = [_TASK.sub("", line, count=1) for line in plain]
    return [Line(number, line) for number, line in enumerate(plain, start=1)]


def number(word: str) -> float | None:
    """Return a plain decimal number, ``None`` for any other word; not-a-number and infinity are none."""
    value = float(word) if _NUMBER.fullmatch(word) else math.inf
    return value if abs(value) <= LARGEST else None


def decoded(path: Path) -> str:
    """Return the text of a file.

    Raises
    ------
    OutputRefusedError
        If there is no such file, it is too large, or it is no text.
    """
    return read_foreign_text(path, lambda text: OutputRefusedError(str(path), 0, text))


def differs(printed: float, computed: float, decimals: float) -> bool:
    """Whether two figures differ by more than the rounding of the printed one and of its inputs.

    ``decimals`` is one unit of the last printed digit. Times carry four digits at least, hence 0.6 %.
    """
    return abs(printed - computed) > 1.01 * decimals + 0.006 * abs(computed)


def after(lines: list[Line], pattern: re.Pattern[str]) -> Iterator[tuple[Line, re.Match[str]]]:
    """Yield every line that a pattern matches from its start, with the match."""
    for line in lines:
        if match := pattern.match(line.text):
            yield line, match
