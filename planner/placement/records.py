"""Records that the plans of all kinds of job share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from planner.schema import Bytes, Record, expand


def _core_list(text: str) -> str:
    expand(f"[{text}]")
    return text


CoreList = Annotated[str, AfterValidator(_core_list)]
"""Core numbers in the kernel's list format, such as ``0-7,16-23``."""


class Binding(Record):
    """Where the process of one rank runs on its host."""

    gpu: str
    numa: str
    cores: CoreList
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
