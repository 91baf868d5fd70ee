"""Many names in few words."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence

TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_NUMBER = re.compile(r"([0-9]{1,18})")


def natural(name: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts ``leaf-10`` after ``leaf-9``."""
    pieces = _NUMBER.split(name)
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces if piece]


def stem(name: str) -> str:
    """Return the name with every number replaced by ``#``."""
    return _NUMBER.sub("#", name)


def fold(names: Sequence[str], most: int = 4) -> str:
    """Return names for people: ``tray-[0-17]/gpu[0-3]``, at most ``most`` of such patterns."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in sorted(dict.fromkeys(names), key=natural):
        by_stem[stem(name)].append(name)
    patterns = [pattern for alike in by_stem.values() for pattern in _patterns(alike)]
    more = len(patterns) - most
    return ", ".join(patterns[:most]) + (f" and {more} more" if more > 0 else "")


def _patterns(names: list[str]) -> list[str]:
    """Return one pattern when the numbers of the names make a full grid, else the names."""
    pieces = [_NUMBER.split(name) for name in names]
    slots = [sorted(set(values), key=int) for values in zip(*(piece[1::2] for piece in pieces), strict=True)]
    if len(names) == 1 or math.prod(map(len, slots)) != len(names) or any(map(_uneven, slots)):
        return names
    inner = [slot[0] if len(slot) == 1 else f"[{_spans(slot)}]" for slot in slots]
    texts = pieces[0][::2]
    return ["".join(text + number for text, number in zip(texts, [*inner, ""], strict=True))]


def _uneven(numbers: Sequence[str]) -> bool:
    """Return whether only some of the numbers are padded with zeros to one width."""
    return any(text.startswith("0") and len(text) > 1 for text in numbers) and len(set(map(len, numbers))) > 1


def _spans(numbers: Sequence[str]) -> str:
    width = len(numbers[0])
    return re.sub("[0-9]+", lambda found: found[0].zfill(width), spans([int(text) for text in numbers]))


def spans(numbers: Sequence[int], dash: str = "-") -> str:
    """Return ``0-3,7`` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}{dash}{run[-1]}" for run in runs]
    return ("," if dash == "-" else ", ").join(texts)


def count(number_of: int, word: str) -> str:
    """Return ``1 node``, ``2,048 nodes``."""
    return f"{number_of:,} {word}" + ("" if number_of == 1 else "s")
