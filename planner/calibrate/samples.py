"""Document ``samples/1``: what was measured on one host, item by item, and what was not and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from planner.schema import Document, Name, Record, dump_yaml, load, write_text_atomic

Kind = Literal[
    "gemm", "prefill", "decode", "stream", "launch", "copy", "peer", "managed", "coherent", "collective",
    "stage", "verify",
]  # fmt: skip
"""Families of measurements; see ``planner/calibrate/run`` for what each runs."""
OUTLIER = 5.0
"""Distance from the median, in robust standard deviations, from which a repetition is left out."""
TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, of a normal law."""


class Sampled(Record):
    """One item: what ran, at which size, and the times of its repetitions.

    Attributes
    ----------
    sizes
        Numbers of the item by name: rows, bytes, ranks, ...
    labels
        What is not a number: data type, direction, memory mode, operation.
    seconds
        Times of single runs, s, outliers left out, in the order in which they were taken.
    dropped
        Repetitions that were left out.
    pace
        Pace of the host meanwhile, s; 0 where nobody took it. See :mod:`planner.calibrate.run.pace`.
    """

    item: str
    kind: Kind
    sizes: dict[str, float] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    seconds: list[float] = Field(min_length=1)
    dropped: int = Field(default=0, ge=0)
    pace: float = Field(default=0.0, ge=0)

    @property
    def median(self) -> float:
        """Median of the repetitions, s."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Median absolute deviation over the median."""
        middle = self.median
        return float(np.median(np.abs(np.asarray(self.seconds) - middle)) / middle)

    def at(self, pace: float) -> Sampled:
        """Return the item as it would have been at another pace of the host, where both are known."""
        if not pace or not self.pace:
            return self
        seconds = [float(f"{second * pace / self.pace:.6g}") for second in self.seconds]
        return self.model_copy(update={"seconds": seconds, "pace": pace})


class Skipped(Record):
    """An item that was not measured, and why."""

    item: str
    reason: str


class Samples(Document):
    """Document ``samples/1``.

    Attributes
    ----------
    device
        Name in the catalogue of the device that was measured.
    product
        What the device calls itself.
    complete
        Whether nothing was left to do; an interrupted or a short run is valid, too.
    seconds
        Time that the measurements took so far, s.
    pace, pulses
        Pace of the host over the whole run, s, and from how many pulses.
    """

    kind: ClassVar[str] = "samples"
    version: ClassVar[int] = 1
    name: Name
    device: str
    product: str = ""
    date: str = ""
    host: str = ""
    driver: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    complete: bool = False
    pace: float = Field(default=0.0, ge=0)
    pulses: int = Field(default=0, ge=0)
    warnings: list[str] = Field(default_factory=list)
    items: list[Sampled] = Field(default_factory=list)
    skipped: list[Skipped] = Field(default_factory=list)

    def of(self, kind: Kind, **labels: str) -> list[Sampled]:
        """Return the items of a kind that carry all these labels."""
        return [
            one
            for one in self.items
            if one.kind == kind and all(one.labels.get(key) == value for key, value in labels.items())
        ]

    def labels(self, kind: Kind, name: str) -> list[str]:
        """Return the values of a label among the items of a kind, sorted."""
        return sorted({one.labels[name] for one in self.of(kind) if name in one.labels})

    def joined(self, other: Samples) -> Samples:
        """Return both, at the pace of the first; of an item in both that of the other, which is newer."""
        newer = {one.item for one in other.items}
        items = [one for one in self.items if one.item not in newer]
        items += [one.at(self.pace) for one in other.items]
        done = {one.item for one in items}
        skipped = {one.item: one for one in (*self.skipped, *other.skipped) if one.item not in done}
        return other.model_copy(
            update={
                "items": items,
                "skipped": list(skipped.values()),
                "seconds": self.seconds + other.seconds,
                "pace": self.pace if self.pulses else other.pace,
                "pulses": self.pulses or other.pulses,
                "warnings": list(dict.fromkeys([*self.warnings, *other.warnings])),
                "versions": self.versions | other.versions,
            }
        )


def without_outliers(seconds: Sequence[float]) -> tuple[list[float], int]:
    """Return the repetitions without those far above the median, and how many were left out.

    Far is :data:`OUTLIER` robust standard deviations (median absolute deviation times 1.4826), and no less
    than a tenth of the median: identical times have no deviation. Only slow ones are left out: a clock does
    not run short.
    """
    values = np.asarray(seconds, dtype=float)
    middle = np.median(values)
    deviation = TO_SIGMA * np.median(np.abs(values - middle))
    kept = values[values <= middle + max(OUTLIER * deviation, 0.1 * middle)]
    return [float(f"{value:.6g}") for value in kept], len(values) - len(kept)


def quicker_half(seconds: Sequence[float]) -> tuple[list[float], int]:
    """Return the quicker half of the repetitions, and how many were left out.

    For long runs of several processes by the wall clock: other programs on the host only make them longer.
    """
    kept = sorted(seconds)[: (len(seconds) + 1) // 2]
    return [float(f"{value:.6g}") for value in kept], len(seconds) - len(kept)


def column(items: Iterable[Sampled], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return one size of every item, shape (n,)."""
    return np.asarray([one.sizes[name] for one in items], dtype=float)


def medians(items: Iterable[Sampled]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the median time of every item, s, shape (n,)."""
    return np.asarray([one.median for one in items], dtype=float)


def ranges(items: Sequence[Sampled], names: Iterable[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the smallest and largest measured value of each size."""
    for name in names:
        values = column(items, name)
        yield name, (float(values.min()), float(values.max()))


def load_samples(path: str | Path) -> Samples:
    """Load a document of samples."""
    return load(path, Samples)


def store(samples: Samples, path: Path) -> None:
    """Write samples in one step, so that an interrupt leaves the last complete state."""
    write_text_atomic(path, dump_yaml(samples))
