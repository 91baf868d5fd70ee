"""What the output of a benchmark says, in SI units, whatever tool printed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.errors import CalibrationError

FloatArray = NDArray[np.float64]


class OutputRefusedError(CalibrationError):
    """The output of a benchmark cannot be read for certain; nothing was concluded from it.

    Attributes
    ----------
    line
        Line of the file, 0 for the whole file.
    """

    def __init__(self, name: str, line: int, text: str) -> None:
        self.name, self.line, self.text = name, line, text
        super().__init__(f"{name}:{line}: {text}" if line else f"{name}: {text}")


@dataclass(frozen=True)
class Sample:
    """One measured point.

    Attributes
    ----------
    operation
        What ran, such as ``all_reduce`` or ``host_to_device_memcpy_ce``.
    place
        Between what, such as ``0 -> 1``; empty for all devices together.
    ranks
        Devices that took part, ``None`` where the output does not say.
    size
        Message, bytes; ``None`` where the tool only prints a rate.
    time, rate
        Duration, s, and payload rate, bytes/s; one of them at least.
    line
        Line of the file.
    """

    operation: str
    place: str
    ranks: int | None
    size: float | None
    time: float | None
    rate: float | None
    line: int


@dataclass(frozen=True)
class CollectiveRow:
    """One message size: times, s, and rates, bytes/s, out of place and in place.

    Attributes
    ----------
    percentiles
        Further times of single iterations by name (``p50``, ``p99``, ...), s, out of place.
    """

    size: float
    time: float
    algorithm_rate: float
    bus_rate: float
    in_place_time: float | None
    in_place_bus_rate: float | None
    line: int
    wrong: float = 0.0
    percentiles: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CollectiveTable:
    """A run of one collective over sizes.

    Attributes
    ----------
    average
        Mean bus rate that the tool printed, bytes/s.
    """

    operation: str
    ranks: int | None
    rows: tuple[CollectiveRow, ...]
    average: float | None

    def samples(self) -> Iterator[Sample]:
        """Yield the out-of-place points."""
        for row in self.rows:
            yield Sample(self.operation, "", self.ranks, row.size, row.time, row.algorithm_rate, row.line)


@dataclass(frozen=True)
class Matrix:
    """Values between pairs of devices.

    Attributes
    ----------
    values : ndarray, shape (rows, columns)
        bytes/s or s by ``unit``; not a number where the tool printed none.
    total
        Sum that the tool printed, in the same unit.
    """

    name: str
    unit: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: FloatArray
    total: float | None
    line: int

    def samples(self) -> Iterator[Sample]:
        """Yield the pairs with a value."""
        for i, row in enumerate(self.rows):
            for j, column in enumerate(self.columns):
                value = float(self.values[i, j])
                if np.isfinite(value):
                    time, rate = (value, None) if self.unit == "s" else (None, value)
                    yield Sample(self.name, f"{row} -> {column}", None, None, time, rate, self.line)


@dataclass(frozen=True)
class SweepRow:
    """A copy of one size: its rate, bytes/s, and time, s, as printed."""

    size: float
    rate: float
    time: float
    line: int


@dataclass(frozen=True)
class Sweep:
    """Copies of one kind over sizes."""

    operation: str
    rows: tuple[SweepRow, ...]

    def samples(self) -> Iterator[Sample]:
        """Yield every size; the rate is printed more finely than the time."""
        for row in self.rows:
            yield Sample(self.operation, "", 1, row.size, None, row.rate, row.line)


@dataclass(frozen=True)
class RateTable:
    """Named rates, bytes/s, without sizes.

    Attributes
    ----------
    rates
        By the tool's own name of the path.
    lines
        Line of each name.
    """

    operation: str
    rates: dict[str, float]
    lines: dict[str, int]

    def samples(self) -> Iterator[Sample]:
        """Yield every path."""
        for name, rate in self.rates.items():
            yield Sample(name, "", None, None, None, rate, self.lines[name])


@dataclass(frozen=True)
class SizeTable:
    """Rates, bytes/s, of one collective by message size (or by number of devices) and setting.

    Attributes
    ----------
    key
        What the rows stand for: ``bytes`` or ``ranks``.
    rates : ndarray, shape (rows, settings)
        Bus rates.
    """

    operation: str
    key: str
    keys: tuple[float, ...]
    settings: tuple[str, ...]
    rates: FloatArray
    lines: tuple[int, ...]

    def samples(self) -> Iterator[Sample]:
        """Yield every cell."""
        for i, key in enumerate(self.keys):
            ranks, size = (int(key), None) if self.key == "ranks" else (None, key)
            for j, setting in enumerate(self.settings):
                rate = float(self.rates[i, j])
                yield Sample(self.operation, setting, ranks, size, None, rate, self.lines[i])


Block = CollectiveTable | Matrix | Sweep | RateTable | SizeTable


@dataclass(frozen=True)
class BenchOutput:
    """Everything that one file says.

    Attributes
    ----------
    tool
        Name of the format.
    versions
        Versions that the output states, by component.
    devices
        Product names in order, as printed.
    waived
        Tests that the tool did not run.
    warnings
        What was repaired or is not to be believed, each with its line.
    """

    tool: str
    blocks: tuple[Block, ...]
    versions: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def samples(self) -> Iterator[Sample]:
        """Yield every measured point."""
        for block in self.blocks:
            yield from block.samples()
