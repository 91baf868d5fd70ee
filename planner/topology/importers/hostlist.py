"""Lists of host names as SLURM and Topograph write them: ``n[1-3,7],m9``."""

from __future__ import annotations

import re

from planner.schema import expand
from planner.topology.importers.words import has_long_number

LONGEST_NAME = 253  # RFC 1035
MOST_HOSTS = 1_000_000
"""More hosts than any cluster has."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]*")


def host_names(text: str) -> list[str]:
    """Return the names in a list; commas inside brackets separate ranges, other commas separate hosts.

    Raises
    ------
    ValueError
        If the brackets are malformed, a name holds a character that no host name has, or there are over a
        million names.
    """
    found: list[str] = []
    for piece in _pieces(text):
        names = expand(piece) if "[" in piece or "]" in piece else [piece]
        if not _PLAIN.fullmatch(names[0]) or len(names[-1]) > LONGEST_NAME or has_long_number(names[-1]):
            raise ValueError(f"{names[0][:80]!r} is no host name")
        found += names
        if len(found) > MOST_HOSTS:
            raise ValueError(f"more than {MOST_HOSTS} names")
    return found


def _pieces(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    pieces, depth, start = [], 0, 0
    for place, character in enumerate(text):
        if character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
        elif character == "," and depth == 0:
            pieces.append(text[start:place])
            start = place + 1
    pieces.append(text[start:])
    if any(not piece.strip() for piece in pieces):
        raise ValueError(f"an empty name in {text[:80]!r}")
    return [piece.strip() for piece in pieces]
