"""Words in dumps that are taken over: kept where they look like what they should be, else unknown."""

from __future__ import annotations

import re

from planner.topology.importers.views import Remark

_NAME = re.compile(r"[\w .,()@/+:#&'\[\]=;~*-]{1,160}")
_ARCHITECTURE = re.compile(r"[a-z][a-z0-9_]{1,15}")
_ISA = re.compile(r"rv(32|64|128)[a-z][a-z0-9_]{0,400}")
_LONG_NUMBER = re.compile(r"[0-9]{19}")


def product(text: str | None) -> str | None:
    """Return the name of a product or maker, None where it holds what no such name does."""
    words = (text or "").strip()
    return words if _NAME.fullmatch(words) and not has_long_number(words) else None


def architecture(text: str | None) -> str | None:
    """Return an architecture as ``uname -m`` writes it, None where it is none."""
    return text if text and _ARCHITECTURE.fullmatch(text) else None


def isa(text: str | None) -> str | None:
    """Return the instruction set of a RISC-V processor, None where it is none."""
    return text if text and _ISA.fullmatch(text) else None


def has_long_number(text: str) -> bool:
    """Whether there are more digits in a row than any number or name has."""
    return _LONG_NUMBER.search(text) is not None


def cut_remark(text: str) -> list[Remark]:
    """Return a remark where a text does not end with a line end, as programs write them."""
    if not text or text.endswith(("\n", "\r")):
        return []
    return [Remark(text.count("\n") + 1, "the last line has no end; the file may be cut")]
