"""One measurement: its name, what it belongs to, and how a run of it is timed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.calibrate.run.backend import Backend, Work
from planner.calibrate.samples import Kind
from planner.calibrate.torch_here import Torch

if TYPE_CHECKING:
    from planner.calibrate.run.team import Team

Run = Callable[[int], float]
"""Returns the time of one of so many runs, s."""


class UnavailableError(Exception):
    """The machine lacks what an item needs; the item is left out and the reason is kept."""


@dataclass(frozen=True)
class Item:
    """One measurement.

    Attributes
    ----------
    prepare
        Makes its buffers and returns how to time it.
    long
        Whether a run takes so long that it is visited once and its quicker half counts.
    """

    name: str
    kind: Kind
    sizes: Mapping[str, float]
    labels: Mapping[str, str]
    prepare: Callable[[Bench], Run]
    long: bool = False


@dataclass
class Bench:
    """What the items share: the device, one cold buffer, the processes of the collectives.

    Attributes
    ----------
    team
        Opens the processes when the first collective needs them.
    """

    backend: Backend
    team: Callable[[], Team] | None = None
    _pools: dict[str, object] = field(default_factory=dict)

    @property
    def torch(self) -> Torch:
        """The module ``torch``."""
        return self.backend.torch

    def looped(self, work: Work) -> Run:
        """Return how to time ``work`` by the clock of the device."""
        return lambda loops: self.backend.timed(work, loops)

    def rotating(self, dims: Sequence[int], dtype: object) -> Callable[[], Torch]:
        """Return a function that gives tensors of a shape which no cache holds any more.

        All are windows on one buffer; each call gives the next. A tensor as large as the buffer is always
        the same one.
        """
        count = 1
        for dim in dims:
            count *= dim
        buffer = self._pool(dtype, count)
        step = max(count, 1)
        windows = max(int(buffer.numel()) // step, 1)
        place = iter(range(1 << 62))
        views = [buffer[index * step : index * step + count].view(*dims) for index in range(windows)]
        return lambda: views[next(place) % windows]

    def _pool(self, dtype: object, count: int) -> Torch:
        """Return a flat buffer of random numbers of more than ``count`` elements, larger than the caches."""
        torch = self.torch
        width = torch.empty(0, dtype=dtype).element_size()
        least = max(int(self.backend.cold_bytes / width), count)
        held = self._pools.get(str(dtype))
        if held is None or held.numel() < least:  # type: ignore[attr-defined]
            self._pools.pop(str(dtype), None)
            wide = torch.rand(least, device=self.backend.device)
            self._pools[str(dtype)] = (wide - 0.5).to(dtype)
        return self._pools[str(dtype)]

    def clear(self) -> None:
        """Let go of all buffers, after memory ran out."""
        self._pools.clear()
        if self.backend.kind == "cuda":
            self.torch.cuda.empty_cache()


def shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    """Return the items in random order, every kind spread evenly: a run cut short has some of each.

    A drift of the machine (heat, other programs) then looks like noise and not like an effect of the size.
    """
    dice = random.Random(seed)
    by_kind: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        by_kind.setdefault((item.kind, *sorted(item.labels.values())), []).append(item)
    placed: list[tuple[float, int, Item]] = []
    for group in by_kind.values():
        dice.shuffle(group)
        placed += [
            ((index + dice.random()) / len(group), dice.randrange(1 << 30), one)
            for index, one in enumerate(group)
        ]
    return [item for _, _, item in sorted(placed, key=lambda one: one[:2])]
