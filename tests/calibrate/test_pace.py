"""Hosts change their pace: what was measured meanwhile is compared at one pace; turns of others come off."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from planner.calibrate.fit import fit_samples
from planner.calibrate.run import pace, turns
from planner.calibrate.run.pace import PACE, Pace
from planner.calibrate.run.turns import Turns, waited
from planner.calibrate.samples import Sampled, Samples
from planner.calibrate.verification import Verified
from planner.calibrate.verify_orders import together_seconds
from planner.costs import load_calibration


class Works:
    """A torch whose works take as long as the host's pace says, and a clock that the test turns on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slow = 100.0, 1.0
        monkeypatch.setattr(pace, "monotonic", lambda: self.now)
        monkeypatch.setattr(pace, "core_time", lambda work, loops: self.slow * (1e-4 if loops > 1 else 4e-4))

    def rand(self, *dims: int) -> None:
        """Return nothing: the works are never run."""


def sampled(item: str, seconds: float = 1.0) -> Sampled:
    return Sampled(item=item, kind="copy", sizes={"bytes": 1.0}, labels={"way": "in"}, seconds=[seconds])


def test_items_have_the_pace_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Works of 100 and 400 us are a pace of 200 us; one that ran while all took twice as long has 400."""
    works = Works(monkeypatch)
    found = Pace(works)
    for item, slow in (("quick", 1.0), ("slow", 2.0), ("again", 1.0)):
        works.slow, begun = slow, works.now
        for _ in range(20):
            works.now += 0.5
            found.take()
        found.visited(item, begun + 3.0)
        works.now += 3.0
    told = found.told(Samples(name="s", device="cpu-core", items=[sampled("quick"), sampled("slow")]))
    assert [one.pace for one in told.items] == [2e-4, 4e-4]
    assert (told.pace, told.pulses) == (2e-4, 60)
    assert [one.at(told.pace).seconds for one in told.items] == [[1.0], [0.5]]


def test_pulses_leave_room_for_the_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often asked, one in 50 ms; too few say nothing."""
    works = Works(monkeypatch)
    found = Pace(works)
    samples = Samples(name="s", device="cpu-core", items=[sampled("a")])
    for _ in range(100):
        found.take()
    assert found.told(samples) == samples
    for _ in range(100):
        works.now += 0.01
        found.take()
    assert 15 <= found.told(samples).pulses <= 21


def test_runs_join_at_the_pace_of_the_first() -> None:
    """An item that took a second at twice the pace takes half of one at the first."""
    first = Samples(name="a", device="cpu-core", items=[sampled("x")], pace=1e-4, pulses=9)
    second = Samples(
        name="b",
        device="cpu-core",
        items=[sampled("y").model_copy(update={"pace": 2e-4})],
        pace=2e-4,
        pulses=9,
    )
    both = first.joined(second)
    assert {one.item: one.seconds for one in both.items} == {"x": [1.0], "y": [0.5]}
    assert (both.pace, both.pulses) == (1e-4, 9)


def test_a_fit_does_not_see_that_the_host_was_slower_for_a_while() -> None:
    """Half of the copies ran at half the pace: rate and start are those of the whole run's pace."""
    sizes, slow = np.geomspace(1e3, 1e8, 24), np.where(np.arange(24) % 2, 2.0, 1.0)
    items = [
        Sampled(
            item=f"{way} {size:g}", kind="copy", sizes={"bytes": float(size)},
            labels={"mode": "pinned-copy", "way": way}, seconds=[factor * (2e-6 + size / 1e10)],
            pace=factor * 5e-4,
        )
        for way in ("in", "out")
        for size, factor in zip(sizes, slow, strict=True)
    ]  # fmt: skip
    samples = Samples(name="s", device="cpu-core", items=items, complete=True, pace=5e-4, pulses=100)
    found = fit_samples(samples, load_calibration()).calibration
    assert found.number("pinned_copy_in") == pytest.approx(1e10, rel=0.01)
    assert found.number("host_latency") == pytest.approx(2e-6, rel=0.02)
    assert found.number(PACE) == 5e-4
    raw = [one.model_copy(update={"pace": 0.0}) for one in items]
    blind = fit_samples(samples.model_copy(update={"items": raw}), load_calibration()).calibration
    assert abs(blind.number("pinned_copy_in") / 1e10 - 1.0) > 0.1


def test_an_error_is_at_the_pace_of_the_calibration() -> None:
    """Predicted 1 s, measured 1.3 s on a host that is 1.3 times slower just now: no error."""
    row = Verified(item="a", kind="stage", predicted=1.0, measured=1.3, pace=1.3, spread=0.0, samples=5)
    assert row.error == pytest.approx(0.0)
    assert row.model_copy(update={"pace": 1.0}).error == pytest.approx(1.0 / 1.3 - 1.0)


def test_turns_of_others_come_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the kernel counts as waiting is no time of the work; one that counts nothing takes none off."""
    stat = tmp_path / "schedstat"
    monkeypatch.setattr(turns, "SCHEDSTAT", stat)
    assert waited() == 0.0
    clock = iter([10.0, 10.5, 11.0, 11.0])
    monkeypatch.setattr(turns, "perf_counter", lambda: next(clock))
    stat.write_text("0 100000000 3\n")
    watch = Turns()
    stat.write_text("0 300000000 9\n")
    assert list(watch.read()) == pytest.approx([0.5, 0.2])
    assert watch.own() == pytest.approx(0.8)
    stat.write_text("0 9900000000 9\n")
    assert watch.own() == 0.0  # no more than passed


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").is_file(), reason="the kernel counts no turns")
def test_this_kernel_counts_waiting_only() -> None:
    """Sleeping is no waiting for a core, and a thread counts its own waiting."""
    found: list[float] = []

    def sleep() -> None:
        watch = Turns()
        time.sleep(0.2)
        found.append(watch.read()[1])

    thread = threading.Thread(target=sleep)
    thread.start()
    thread.join()
    assert found[0] < 0.15


@pytest.mark.parametrize(("what", "seconds"), [("pipeline", 7.0), ("step", 8.0)])
def test_what_ranks_do_together_loses_their_waiting(what: str, seconds: float) -> None:
    """One after the other every delay counts; at once the longest."""
    assert together_seconds({"do": what}, [(10.0, 1.0), (9.0, 2.0)]) == seconds
