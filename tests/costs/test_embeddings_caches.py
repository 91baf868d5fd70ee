"""Hit rates and lookup times against exact sums, simulation by hand and published measurements."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.embeddings import (
    PROFILE,
    LookupRates,
    MissCurve,
    Popularity,
    fit_lookups,
    measured,
    reused,
    zipf,
)
from planner.workload.tables import AccessPoint

ROWS = {"SYN": (8e6, 1.2), "SYN_14": (8e6, 1.4)}
TIERS = ("local_hit", "remote_gpu_hit", "host_miss")


@given(st.floats(0.0, 3.0), st.integers(1, 10**9))
def test_a_power_law_is_a_distribution(exponent: float, rows: int) -> None:
    """Groups add up to all rows and all lookups, and popularity falls."""
    law = zipf(float(rows), exponent)
    assert law.rows == pytest.approx(rows)
    assert law.mass.sum() == pytest.approx(1.0)
    assert (np.diff(law.each) <= 1e-9 * law.each[:-1]).all()


@given(st.floats(0.0, 2.5), st.floats(0.001, 0.999))
def test_a_profile_cannot_beat_known_popularity(exponent: float, share: float) -> None:
    """A cache filled from a finite profile misses at least as often as one filled by true popularity."""
    law = zipf(1e5, exponent)
    assert law.static_miss(share, PROFILE) >= law.static_miss(share) - 1e-6
    assert law.lru_miss(share) >= law.static_miss(share) - 1e-6


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_even_access_misses_what_is_not_held(share: float) -> None:
    """Without skew every policy misses the share of the rows that it does not hold."""
    law = zipf(1e5, 0.0)
    assert law.static_miss(share) == pytest.approx(1.0 - share)
    assert law.lru_miss(share) == pytest.approx(1.0 - share, abs=1e-6)


def test_lru_agrees_with_a_replayed_cache() -> None:
    """Che's approximation is within a percentage point of a replay of 60,000 lookups."""
    law, rng = zipf(500.0, 1.0), np.random.default_rng(1)
    stack: dict[int, None] = {}
    missed = 0
    for number, row in enumerate(rng.choice(len(law.each), size=60_000, p=law.mass).tolist()):
        missed += row not in stack and number >= 10_000
        stack.pop(row, None)
        stack[row] = None
        if len(stack) > 100:
            del stack[next(iter(stack))]
    assert law.lru_miss(0.2) == pytest.approx(missed / 50_000, abs=0.01)


def test_distinct_rows_agree_with_a_draw() -> None:
    """The expected number of distinct rows in a batch is what a large draw shows."""
    law, rng = zipf(800.0, 1.1), np.random.default_rng(2)
    drawn = [len(np.unique(rng.choice(800, size=2000, p=law.mass))) for _ in range(50)]
    assert law.distinct(2000.0) == pytest.approx(float(np.mean(drawn)), rel=0.01)


def test_a_histogram_is_read_from_its_points() -> None:
    """A cache of the measured hot share misses what the histogram says."""
    law = measured(1e6, [AccessPoint(rows=0.1, accesses=0.7), AccessPoint(rows=0.5, accesses=0.95)])
    assert law.static_miss(0.1) == pytest.approx(0.3)
    assert law.static_miss(0.3) == pytest.approx(0.175)


def test_reuse_groups_without_rows_keep_their_accesses() -> None:
    """Accesses of groups whose rows round to nothing stay with the most popular group."""
    law = reused([0.9, 0.1, 0.0], [0.2, 0.5, 0.3], 1000.0)
    assert law.static_miss(0.1) == pytest.approx(0.2)
    assert isinstance(law, Popularity)


def test_a_miss_curve_starts_at_one_and_ends_at_zero() -> None:
    """No cache misses everything, a cache of all rows nothing."""
    curve = MissCurve(np.array([0.1, 0.5]), np.array([0.4, 0.1]))
    assert [curve.at(share) for share in (0.0, 0.1, 0.3, 1.0)] == pytest.approx([1.0, 0.4, 0.25, 0.0])


def test_constants_of_a_platform_are_recovered() -> None:
    """Times made from known constants are met again, and a lookup of nothing takes the fixed time."""
    rng = np.random.default_rng(3)
    truth = LookupRates(6e11, 2e11, 1.2e10, 3e-4, 2.0)
    local, remote, host = rng.uniform(1e6, 1e9, size=(3, 40))
    times = truth.seconds(local, remote, host)
    found = fit_lookups(local, remote, host, times)
    assert found.seconds(local, remote, host) == pytest.approx(times, rel=0.02)
    assert truth.seconds(0.0, 0.0, 0.0) == pytest.approx(3e-4)


@pytest.mark.reference
def test_measured_miss_rates_are_met(shared_data: Path) -> None:
    """On every measured point of Zipf-like access the miss rate is within 0.3 percentage points."""
    rows = [row for row in cache_points(shared_data) if row["dataset"] in ROWS]
    assert len(rows) >= 10
    for row in rows:
        count, exponent = ROWS[row["dataset"]]
        predicted = zipf(count, exponent).static_miss(
            float(row["cached_fraction_distinct_all_gpus"]), PROFILE
        )
        assert predicted == pytest.approx(float(row["host_miss"]), abs=0.003)


@pytest.mark.reference
def test_lookup_times_of_unseen_data_sets_are_met(shared_data: Path) -> None:
    """Constants fitted without a model and data set predict its lookups within 12 % on average."""
    errors: list[float] = []
    for platform in sorted({row["platform"] for row in cache_points(shared_data)}):
        rows = [row for row in cache_points(shared_data) if row["platform"] == platform]
        size = np.array([float(row["batch_feature_MiB"]) * 2**20 for row in rows])
        tiers = np.array([[float(row[tier]) for row in rows] for tier in TIERS]) * size
        times = np.array([float(row["extract_ms"]) for row in rows]) / 1e3
        fold = np.array([row["app"] + row["dataset"] for row in rows])
        for name in np.unique(fold):
            seen = fold != name
            rates = fit_lookups(tiers[0, seen], tiers[1, seen], tiers[2, seen], times[seen])
            predicted = rates.seconds(tiers[0, ~seen], tiers[1, ~seen], tiers[2, ~seen])
            errors.extend(np.abs(predicted / times[~seen] - 1.0))
    assert np.mean(errors) <= 0.12


def cache_points(shared_data: Path) -> list[dict[str, str]]:
    """Return the measured cache points."""
    path = shared_data / "embedding-tables" / "cache" / "ugache_cache_points.csv"
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
