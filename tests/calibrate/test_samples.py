"""Samples: outliers go, documents join, what was measured survives the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.calibrate.samples import (
    Sampled,
    Samples,
    Skipped,
    load_samples,
    quicker_half,
    store,
    without_outliers,
)


def sampled(name: str, seconds: float = 1e-3) -> Sampled:
    return Sampled(item=name, kind="copy", sizes={"bytes": 1e6}, labels={"way": "in"}, seconds=[seconds])


def test_only_slow_repetitions_are_left_out() -> None:
    """A run twice as long goes; a quick one and the usual scatter stay."""
    kept, dropped = without_outliers([1.0, 1.02, 0.98, 1.01, 2.0, 0.5])
    assert (sorted(kept), dropped) == ([0.5, 0.98, 1.0, 1.01, 1.02], 1)
    assert without_outliers([1.0, 1.0, 1.0, 1.05]) == ([1.0, 1.0, 1.0, 1.05], 0)


def test_the_quicker_half_keeps_the_middle() -> None:
    """Three of five count."""
    assert quicker_half([5.0, 1.0, 4.0, 2.0, 3.0]) == ([1.0, 2.0, 3.0], 2)


def test_newer_samples_replace_older_ones_and_fill_gaps() -> None:
    """What was skipped and is measured now is skipped no more."""
    old = Samples(
        name="a", device="cpu-core", items=[sampled("x"), sampled("y")], seconds=2.0,
        skipped=[Skipped(item="z", reason="late")],
    )  # fmt: skip
    new = Samples(name="a", device="cpu-core", items=[sampled("y", 2e-3), sampled("z")], seconds=1.0)
    both = old.joined(new)
    assert {one.item: one.median for one in both.items} == {"x": 1e-3, "y": 2e-3, "z": 1e-3}
    assert (both.skipped, both.seconds) == ([], 3.0)


def test_samples_survive_their_file(tmp_path: Path) -> None:
    """Written and read again they are the same."""
    samples = Samples(name="a", device="cpu-core", items=[sampled("x", 1.23456e-7)], complete=True)
    store(samples, tmp_path / "s.yaml")
    assert load_samples(tmp_path / "s.yaml") == samples


def test_median_and_spread() -> None:
    """The spread is the median deviation over the median."""
    one = sampled("x").model_copy(update={"seconds": [1.0, 2.0, 3.0, 4.0, 100.0]})
    assert one.median == 3.0
    assert one.spread == pytest.approx(1.0 / 3.0)
