"""Everything that a calibration run measures on a device, and the run itself."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from planner.calibrate.run.backend import CORE, Backend
from planner.calibrate.run.collectives import collective_items
from planner.calibrate.run.compute import kernel_items
from planner.calibrate.run.copies import copy_items
from planner.calibrate.run.items import Bench, Item, shuffled
from planner.calibrate.run.runner import Rules, measure
from planner.calibrate.run.stages import stage_items
from planner.calibrate.run.team import Team, open_team
from planner.calibrate.run.unified import unified_items
from planner.calibrate.samples import Kind, Samples, load_samples
from planner.errors import CalibrationError

HOST_CORES = frozenset({CORE})
"""Devices of the catalogue that are cores of a host."""
CORE_RANKS = 2
"""Processes that measure collectives on a host without GPUs."""


def all_items(backend: Backend, ranks: int) -> list[Item]:
    """Return every measurement of a device."""
    return [
        *kernel_items(backend),
        *copy_items(backend),
        *unified_items(backend),
        *collective_items(backend, ranks),
        *stage_items(),
    ]


def ranks_of(backend: Backend) -> int:
    """Return how many processes can measure collectives here."""
    return CORE_RANKS if backend.kind == "cpu" else int(backend.torch.cuda.device_count())


def calibrate(
    backend: Backend, rules: Rules, *, seed: int = 0, resume: bool = False, name: str | None = None,
    only: Iterable[str] | None = None,
) -> Samples:  # fmt: skip
    """Measure a device within a budget.

    Parameters
    ----------
    resume
        Go on with the samples at the path of the rules.
    only
        Kinds of items to measure; all when absent.

    Raises
    ------
    CalibrationError
        If the samples to go on with are of another device or host.
    """
    samples = fresh(backend, seed, name)
    if resume and rules.path is not None and rules.path.is_file():
        samples = resumed(rules.path, samples)
    ranks = ranks_of(backend)
    kinds = None if only is None else set(only)
    items = [item for item in all_items(backend, ranks) if kinds is None or item.kind in kinds]
    opened: list[Team] = []

    def team() -> Team:
        if not opened:
            opened.append(open_team(backend, ranks))
        return opened[0]

    try:
        return measure(shuffled(items, samples.seed), Bench(backend, team), samples, rules)
    finally:
        for one in opened:
            one.close()


def fresh(backend: Backend, seed: int, name: str | None = None) -> Samples:
    """Return samples without items: what device, host and versions they will belong to."""
    who = backend.identity()
    return Samples(
        name=name or f"{who.device}-samples", device=who.device, product=who.product,
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(), host=who.host, driver=who.driver,
        versions=who.versions, seed=seed,
    )  # fmt: skip


def resumed(path: Path, now: Samples) -> Samples:
    """Return stored samples to go on with.

    Raises
    ------
    CalibrationError
        If they are of another device, host, driver or version: such times do not mix.
    """
    before = load_samples(path)
    for what in ("device", "product", "host", "driver", "versions"):
        old, new = getattr(before, what), getattr(now, what)
        if old != new:
            raise CalibrationError(
                f"{path} was measured with another {what} ({old} then, {new} now); "
                "measure anew into another file"
            )
    return before


def known_kinds() -> tuple[str, ...]:
    """Return the kinds of items that a run can be limited to."""
    return tuple(kind for kind in get_args(Kind) if kind != "verify")
