"""A run: budget, order, interrupts and failures; what was measured is always kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.calibrate.run.catalogue import fresh, resumed
from planner.calibrate.run.items import Bench, Item, Run, UnavailableError, shuffled
from planner.calibrate.run.runner import INTERRUPTED, OUT_OF_TIME, Rules, measure, repeated
from planner.calibrate.samples import Samples, load_samples
from planner.errors import CalibrationError
from tests.calibrate.fakes import FakeDevice, item


def run(items: list[Item], rules: Rules, before: Samples | None = None) -> Samples:
    return measure(items, Bench(FakeDevice()), before or fresh(FakeDevice(), 0), rules)


def failing(error: Exception) -> Callable[[Bench], Run]:
    def prepare(bench: Bench) -> Run:
        raise error

    return prepare


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
            "out of memory: CUDA out of memory",
        ),
        (MemoryError(), "out of memory"),
        (PermissionError(13, "Permission denied", "/dev/nvidia0"), "no permission: "),
        (UnavailableError("there is one GPU only"), "there is one GPU only"),
        (CalibrationError("rank 1 found no other process"), "rank 1 found"),
        (RuntimeError("NCCL error: unhandled system error"), "NCCL error"),
    ],
)
def test_a_failing_item_is_left_out_with_its_reason(error: Exception, reason: str) -> None:
    """The items around it are measured, and the document is complete."""
    found = run([item("a"), item("bad", failing(error)), item("b")], Rules(5.0))
    assert [one.item for one in found.items] == ["a", "b"]
    assert found.skipped[0].reason.startswith(reason)
    assert found.complete


def test_the_budget_ends_the_run_and_says_what_is_missing(tmp_path: Path) -> None:
    """A partial result is a valid document."""

    def slow(bench: Bench) -> Run:
        def once(loops: int) -> float:
            time.sleep(0.01)
            return 1e-2

        return once

    names = [str(number) for number in range(40)]
    rules = Rules(0.3, path=tmp_path / "s.yaml")
    start = time.monotonic()
    found = run([item(name, slow) for name in names], rules)
    assert time.monotonic() - start < 1.0
    assert not found.complete
    assert {one.reason for one in found.skipped} == {OUT_OF_TIME}
    assert sorted([one.item for one in found.items] + [one.item for one in found.skipped]) == sorted(names)
    assert load_samples(tmp_path / "s.yaml") == found


def test_an_interrupt_keeps_what_there_is_and_a_later_run_goes_on(tmp_path: Path) -> None:
    """Two items before the interrupt, the others after it, none twice."""
    asked: list[str] = []

    def noting(name: str) -> Callable[[Bench], Run]:
        def prepare(bench: Bench) -> Run:
            asked.append(name)
            return lambda loops: 1e-3

        return prepare

    items = [item(name, noting(name)) for name in "abcd"]
    path = tmp_path / "s.yaml"
    first = run(items, Rules(5.0, stopped=lambda: len(asked) > 2, path=path))
    assert [one.item for one in first.items] == ["a", "b"]
    assert {one.reason for one in first.skipped} == {INTERRUPTED}
    before = resumed(path, fresh(FakeDevice(), 0))
    asked.clear()
    second = run(items, Rules(5.0, path=path), before)
    assert sorted(set(asked)) == ["c", "d"]
    assert (len(second.items), second.skipped, second.complete) == (4, [], True)


def test_samples_of_another_driver_are_not_continued(tmp_path: Path) -> None:
    """Times of two versions do not mix."""
    run([item("a")], Rules(5.0, path=tmp_path / "s.yaml"))
    with pytest.raises(CalibrationError, match="another driver"):
        resumed(tmp_path / "s.yaml", fresh(FakeDevice(driver="2.0"), 0))


def test_a_crash_leaves_the_last_complete_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expects ends the run; the file holds the items before it."""
    monkeypatch.setattr("planner.calibrate.run.runner.PAUSE", 0.0)
    path = tmp_path / "s.yaml"
    with pytest.raises(KeyError):
        run([item("a"), item("bad", failing(KeyError("x")))], Rules(5.0, path=path))
    assert [one.item for one in load_samples(path).items] == ["a"]


def test_short_work_is_looped_until_a_clock_can_tell_it() -> None:
    """A microsecond is run two hundred times for a clock that is trusted with 200 us."""
    loops: list[int] = []

    def once(count: int) -> float:
        loops.append(count)
        return 1e-6

    repeated(once, 2e-4, 0.0)
    assert 200 <= loops[-1] <= 201


def test_the_order_is_random_and_mixes_kinds() -> None:
    """Another seed gives another order; the first half has half of each kind."""
    items = [
        Item(f"{kind}{n}", kind, {}, {}, lambda bench: lambda loops: 1.0)
        for kind in ("copy", "gemm")
        for n in range(20)
    ]
    first, second = shuffled(items, 1), shuffled(items, 2)
    assert [one.name for one in first] != [one.name for one in second]
    assert sorted(one.name for one in first) == sorted(one.name for one in items)
    assert 8 <= sum(one.kind == "gemm" for one in first[:20]) <= 12
