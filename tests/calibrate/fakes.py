"""A device without torch: its clock is a list of times, its items say what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner.calibrate.run.backend import DeviceKind, Identity, Work
from planner.calibrate.run.items import Bench, Item, Run


@dataclass
class FakeDevice:
    """A device whose runs take no time."""

    torch: Any = None
    kind: DeviceKind = "cpu"
    device: str = "cpu"
    cold_bytes: float = 1e3
    dtypes: tuple[str, ...] = ("fp32",)
    driver: str = "1.0"

    def identity(self) -> Identity:
        return Identity("cpu-core", "fake", "here", self.driver, {"torch": "0"})

    def timed(self, work: Work, loops: int) -> float:
        work()
        return 1e-3

    def free_memory(self) -> float:
        return 1e9


def item(name: str, prepare: Callable[[Bench], Run] | None = None) -> Item:
    """Return an item that always takes a millisecond, or does what it is told."""
    return Item(name, "copy", {"bytes": 1.0}, {"way": "in"}, prepare or (lambda bench: lambda loops: 1e-3))
