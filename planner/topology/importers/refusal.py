"""The error for a dump that cannot be read for certain."""

from __future__ import annotations

from planner.errors import TopologyError


class ImportRefusedError(TopologyError):
    """A dump is not what it seems, or contradicts itself; nothing was concluded from it.

    Attributes
    ----------
    line
        Line of the dump, 0 for the whole file.
    """

    def __init__(self, name: str, line: int, text: str) -> None:
        self.name, self.line, self.text = name, line, text
        place = f"{name}:{line}" if line else name
        super().__init__(f"{place}: {text}")
