"""PCI addresses, classes and link speeds, as the tools write them."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})(?:\.([0-7]))?", re.IGNORECASE)
_SPEED = re.compile(r"([0-9]{1,3}(?:\.[0-9])?)\s*GT/s(?:\s*PCIe)?", re.IGNORECASE)
_GENERATION = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6, 128.0: 7}
"""PCI Express generation by transfer rate of one lane, GT/s (PCI Express Base Specification)."""
WIDTHS = frozenset({1, 2, 4, 8, 12, 16, 32})
"""Lanes that a PCI Express link may have."""


def bus_id(text: str) -> str | None:
    """Return a PCI address as ``dddd:bb:dd.f`` in lower case, ``None`` where the text is none.

    A longer domain, such as ``10000`` behind a volume manager, keeps its digits.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    domain, bus, device, function = match.groups()
    if int(device, 16) > 0x1F:
        return None
    return f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(device, 16):02x}.{function or '0'}"


def generation_of_speed(text: str | None) -> int | None:
    """Return the PCI Express generation of a lane speed such as ``16.0 GT/s PCIe``."""
    match = _SPEED.fullmatch((text or "").strip())
    return None if match is None else _GENERATION.get(float(match[1]))


def width(text: str | None) -> int | None:
    """Return the number of lanes in ``16`` or ``16x``, ``None`` where it is none that a link can have."""
    digits = (text or "").strip().lower().strip("x")
    return int(digits) if digits.isascii() and digits.isdecimal() and _lanes(digits) else None


def _lanes(digits: str) -> bool:
    return len(digits) < 3 and int(digits) in WIDTHS


def hexadecimal(text: str | None) -> int | None:
    """Return the number that hexadecimal digits of at most 64 bits stand for, with or without ``0x``."""
    match = re.fullmatch(r"(?:0x)?([0-9a-f]{1,16})", (text or "").strip(), re.IGNORECASE)
    return None if match is None else int(match[1], 16)
