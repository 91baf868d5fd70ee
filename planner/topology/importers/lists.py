"""Lists of processor and node numbers, as the kernel writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_NUMBERS = 65_536
"""More processors or NUMA nodes than any host has."""
_ITEM = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def numbers(text: str) -> tuple[int, ...] | None:
    """Return the numbers in ``0-7,16-23``, ``None`` where the text is no such list or names one twice."""
    found: list[int] = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None or len(found) > MOST_NUMBERS:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= MOST_NUMBERS:
            return None
        found.extend(range(first, last + 1))
    return tuple(found) if len(set(found)) == len(found) else None


def mask(text: str) -> tuple[int, ...] | None:
    """Return the processors in a mask ``ffff0000,00ffffff`` of 32-bit words, the highest word first."""
    words = text.strip().split(",")
    if not all(re.fullmatch(r"[0-9a-fA-F]{1,8}", word) for word in words) or len(words) > MOST_NUMBERS // 32:
        return None
    return tuple(
        base + bit
        for base, word in zip(range(0, 32 * len(words), 32), reversed(words), strict=True)
        for bit in range(32)
        if int(word, 16) >> bit & 1
    )


def listed(values: Sequence[int]) -> str:
    """Return numbers as a list with ranges, ``0-7,16-23``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
