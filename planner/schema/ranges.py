"""Compact lists of names: ``node-[0-511]`` stands for 512 of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

MOST_NAMES = 1_000_000
_ITEM = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for.

    Brackets hold numbers and ranges, ``gpu[0-3,6]``; several brackets give every combination, the last
    one running fastest; zeros in front are kept, ``n[001-128]``.

    Raises
    ------
    ValueError
        If the brackets are malformed, a range runs backwards, or there would be over a million names.
    """
    pieces = re.split(r"\[([^\[\]]*)\]", pattern)
    literals, insides = pieces[::2], pieces[1::2]
    if any(bracket in literal for literal in literals for bracket in "[]"):
        raise ValueError(f"unbalanced bracket in {pattern!r}; write ranges like node-[0-7]")
    total = 1
    spans: list[list[tuple[int, int, int]]] = []
    for inside in insides:
        spans.append([_span(item, pattern) for item in inside.split(",")])
        total *= sum(last - first + 1 for first, last, _ in spans[-1])
        if total > MOST_NAMES:
            raise ValueError(f"{pattern!r} stands for more than {MOST_NAMES} names")
    choices = [
        [f"{number:0{width}d}" for first, last, width in group for number in range(first, last + 1)]
        for group in spans
    ]
    return [
        "".join(itertools.chain(*itertools.zip_longest(literals, numbers, fillvalue="")))
        for numbers in itertools.product(*choices)
    ]


def _span(item: str, pattern: str) -> tuple[int, int, int]:
    """Return first number, last number and least width of one item of a bracket."""
    match = _ITEM.fullmatch(item.strip())
    if match is None:
        raise ValueError(f"{item!r} in {pattern!r} is not a number or a range; write ranges like node-[0-7]")
    first, last = match[1], match[2] or match[1]
    if int(last) < int(first):
        raise ValueError(f"range {item!r} in {pattern!r} runs backwards")
    width = len(first) if first.startswith("0") else 0
    if width > len(last) or (len(last) > len(first) and last.startswith("0")):
        raise ValueError(f"range {item!r} in {pattern!r} mixes widths")
    return int(first), int(last), width


def compress(names: Sequence[str]) -> list[str]:
    """Return patterns whose expansions, one after the other, are exactly ``names``.

    Runs of names that differ only in their last number, counting up by one, are folded into one range.

    Raises
    ------
    ValueError
        If a name holds a bracket, which no pattern can express.
    """
    patterns: list[str] = []
    run: list[str] = []
    for name in names:
        if "[" in name or "]" in name:
            raise ValueError(f"name {name!r} holds a bracket")
        if run and not _follows(run[-1], name):
            patterns.append(_fold(run))
            run = []
        run.append(name)
    if run:
        patterns.append(_fold(run))
    return patterns


def _follows(before: str, name: str) -> bool:
    """Return whether ``name`` is ``before`` with its last number raised by one and the same padding."""
    left, right = _LAST_NUMBER.fullmatch(before), _LAST_NUMBER.fullmatch(name)
    if left is None or right is None or (left[1], left[3]) != (right[1], right[3]):
        return False
    padded = left[2].startswith("0") and len(left[2]) > 1
    following = f"{int(left[2]) + 1:0{len(left[2]) if padded else 0}d}"
    return right[2] == following


def _fold(run: list[str]) -> str:
    first, last = _LAST_NUMBER.fullmatch(run[0]), _LAST_NUMBER.fullmatch(run[-1])
    if len(run) == 1 or first is None or last is None:
        return run[0]
    return f"{first[1]}[{first[2]}-{last[2]}]{first[3]}"
