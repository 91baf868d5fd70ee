"""Records that the plans of all kinds of job share."""

from __future__ import annotations

from planner.schema import Bytes, Record


class Binding(Record):
    """Where the process of one rank runs on its host."""

    gpu: str
    numa: str
    cores: str
    nic: str | None = None


class StageMemory(Record):
    """Bytes per device of one pipeline stage, by part, and the capacity that it has to fit in."""

    stage: int
    parts: dict[str, Bytes]
    capacity: Bytes

    @property
    def total(self) -> float:
        """Sum of the parts, bytes."""
        return sum(self.parts.values())
