"""Schedules of cron, as the API server reads them: five fields or a macro, no time zone within."""

from __future__ import annotations

import re

_MACRO = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \d+(ns|us|ms|s|m|h).*)")
_PART = re.compile(r"(\*|\?|[0-9A-Za-z]+(?:-[0-9A-Za-z]+)?)(?:/([0-9]+))?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
"""Lowest and highest minute, hour, day of the month, month and day of the week."""
_WORDS: tuple[dict[str, int], ...] = (
    {}, {}, {}, {word: index for index, word in enumerate(_MONTHS, 1)},
    {word: index for index, word in enumerate(_DAYS)},
)  # fmt: skip


def schedule(text: str) -> str:
    """Return what is wrong with a schedule."""
    fields = text.split()
    if _MACRO.fullmatch(text) or (
        len(fields) == 5
        and all(_legal(part, index) for index, field in enumerate(fields) for part in field.split(","))
    ):
        return ""
    return f"{text!r} is no schedule of cron"


def _legal(part: str, index: int) -> bool:
    found = _PART.fullmatch(part)
    if found is None or (found[2] is not None and int(found[2]) == 0):
        return False
    if found[1] in ("*", "?"):
        return True
    bounds = [_number(word, index) for word in found[1].split("-")]
    least, most = _RANGES[index]
    inside = all(least <= bound <= most for bound in bounds)
    return inside and bounds[0] <= bounds[-1]


def _number(word: str, index: int) -> int:
    """Return the number of a word, -1 where it has none."""
    return int(word) if word.isdecimal() else _WORDS[index].get(word.lower(), -1)
