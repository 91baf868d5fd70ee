"""Run items within a budget; what was measured is stored after every one, whatever happens next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.calibrate.run.items import Bench, Item, Run, UnavailableError
from planner.calibrate.run.pace import Pace
from planner.calibrate.samples import Sampled, Samples, Skipped, quicker_half, store, without_outliers
from planner.calibrate.torch_here import is_out_of_memory, reason_of
from planner.errors import CalibrationError

LEAST_TIME = {"cpu": 2e-4, "cuda": 1e-3}
"""Shortest run that a clock is trusted with, s: shorter work is looped."""
FEWEST, MOST = 5, 15
"""Repetitions of an item in a round."""
ROUNDS = 2
"""Visits to every item: the host's speed drifts over seconds, and so all items see the same mix of it."""
FEWEST_LONG = 4
"""Repetitions of an item that several processes do together for long; it is visited once."""
PAUSE = 0.5
"""Least time between two writes of the samples, s: writing takes time from the budget."""
WARM_UPS = 2
FEWEST_TO_COUNT = 3
PATIENT = 4.0
"""Times its share of the budget that an item may take for the fewest repetitions; after that three do."""
MOST_LOOPS = 10_000
OUT_OF_TIME = "the budget ended before its turn"
INTERRUPTED = "interrupted before its turn"

Shown = Callable[[int, int, str], None]
"""Progress: items done, items in all, name of the item that runs."""


def _quiet(done: int, total: int, name: str) -> None:
    """Show nothing."""


@dataclass
class Rules:
    """How a run goes.

    Attributes
    ----------
    budget
        Time for everything, s.
    stopped
        Asked between repetitions: whether to end now and keep what there is.
    path
        Where the samples are stored: after every item, but no more often than :data:`PAUSE`.
    """

    budget: float
    stopped: Callable[[], bool] = lambda: False
    shown: Shown = _quiet
    path: Path | None = None
    _stored: float = 0.0

    def keep(self, samples: Samples, *, now: bool = False) -> None:
        """Store what there is."""
        if self.path is not None and (now or time.monotonic() - self._stored > PAUSE):
            store(samples, self.path)
            self._stored = time.monotonic()


def measure(items: Sequence[Item], bench: Bench, samples: Samples, rules: Rules) -> Samples:
    """Measure what the samples lack yet and return them with it.

    Every item is visited in :data:`ROUNDS` rounds. One that the machine cannot run is left out with its
    reason, and so is one whose turn does not come; the others count.
    """
    start, clock = time.monotonic(), samples.seconds
    done = {one.item for one in samples.items}
    fresh = [item for item in items if item.name not in done]
    visits = [item for number in range(ROUNDS) for item in fresh if number == 0 or not item.long]
    pace = Pace(bench.torch) if bench.backend.kind == "cpu" and bench.torch is not None else None
    kept = samples.model_copy(update={"skipped": [], "complete": False})
    total, finished = len(visits) + len(done), len(done)
    refused: set[str] = set()
    for place, item in enumerate(visits):
        left = rules.budget - (time.monotonic() - start)
        reason = INTERRUPTED if rules.stopped() else OUT_OF_TIME if left <= 0.0 else ""
        if reason:
            kept = _cut(kept, visits[place:], reason)
            break
        if item.name in refused:
            continue
        rules.shown(finished + place, total, item.name)
        begun = time.monotonic()
        between = _nothing if pace is None else pace.take
        found = attempt(item, bench, left / (len(visits) - place), rules.stopped, between)
        if pace is not None:
            pace.visited(item.name, begun)
        if isinstance(found, Skipped):
            refused.add(item.name)
        kept = _with(kept, found, clock + time.monotonic() - start)
        rules.keep(kept)
    kept = kept if pace is None else pace.told(kept)
    reasons = {one.reason for one in kept.skipped}
    kept = kept.model_copy(
        update={
            "complete": not reasons & {OUT_OF_TIME, INTERRUPTED},
            "seconds": clock + time.monotonic() - start,
        }
    )
    rules.keep(kept, now=True)
    rules.shown(total, total, "")
    return kept


def _cut(samples: Samples, visits: Sequence[Item], reason: str) -> Samples:
    """Return the samples with a word on every item that was never visited."""
    known = {one.item for one in samples.items} | {one.item for one in samples.skipped}
    late = dict.fromkeys(item.name for item in visits if item.name not in known)
    skipped = [Skipped(item=name, reason=reason) for name in late]
    return samples.model_copy(update={"skipped": [*samples.skipped, *skipped]})


def _with(samples: Samples, found: Sampled | Skipped, seconds: float) -> Samples:
    """Return the samples with one visit more; the times of an item's visits belong together."""
    if isinstance(found, Skipped):
        if found.item in {one.item for one in samples.items}:
            return samples
        return samples.model_copy(update={"skipped": [*samples.skipped, found], "seconds": seconds})
    before = next((one for one in samples.items if one.item == found.item), None)
    if before is None:
        return samples.model_copy(update={"items": [*samples.items, found], "seconds": seconds})
    kept, dropped = without_outliers([*before.seconds, *found.seconds])
    both = found.model_copy(update={"seconds": kept, "dropped": before.dropped + found.dropped + dropped})
    items = [both if one.item == found.item else one for one in samples.items]
    return samples.model_copy(update={"items": items, "seconds": seconds})


def _nothing() -> None:
    """Do nothing between two repetitions."""


def attempt(
    item: Item, bench: Bench, seconds: float, stopped: Callable[[], bool],
    between: Callable[[], None] = _nothing,
) -> Sampled | Skipped:  # fmt: skip
    """Measure one item for about so many seconds, or say why that cannot be done."""
    try:
        run = item.prepare(bench)
        fewest = FEWEST_LONG if item.long else FEWEST
        least = LEAST_TIME[bench.backend.kind]
        times = repeated(run, least, seconds, stopped, fewest=fewest, between=between)
    except UnavailableError as error:
        return Skipped(item=item.name, reason=str(error))
    except CalibrationError as error:
        return Skipped(item=item.name, reason=str(error))
    except (RuntimeError, OSError, MemoryError, ValueError) as error:
        if is_out_of_memory(error):
            bench.clear()
        return Skipped(item=item.name, reason=reason_of(error))
    if not times:
        return Skipped(item=item.name, reason=INTERRUPTED)
    kept, dropped = quicker_half(times) if item.long else without_outliers(times)
    return Sampled(
        item=item.name,
        kind=item.kind,
        sizes=dict(item.sizes),
        labels=dict(item.labels),
        seconds=kept,
        dropped=dropped,
    )


def repeated(
    run: Run,
    least: float,
    seconds: float,
    stopped: Callable[[], bool] = lambda: False,
    *,
    fewest: int = FEWEST,
    between: Callable[[], None] = _nothing,
) -> list[float]:
    """Return the times of repetitions, s, after a warm-up; short work is looped until a clock can tell it.

    At least ``fewest`` repetitions, at most :data:`MOST`; between them as many as fit into ``seconds``.
    An interrupt returns what there is, from :data:`FEWEST_TO_COUNT` on. ``between`` runs before each.
    """
    start = time.monotonic()
    warm_ups = 1 if fewest < FEWEST else WARM_UPS
    estimate = min(run(1) for _ in range(warm_ups))
    loops = min(MOST_LOOPS, max(1, math.ceil(least / max(estimate, 1e-9))))
    times: list[float] = []
    while len(times) < MOST:
        if stopped():
            return times if len(times) >= FEWEST_TO_COUNT else []
        passed = time.monotonic() - start
        if len(times) >= fewest and passed > seconds:
            break
        if len(times) >= FEWEST_TO_COUNT and passed > PATIENT * seconds:
            break
        between()
        times.append(run(loops))
    return times
