"""The shipped studies: each is proven, or within the stated gap, and passes the judge."""

from __future__ import annotations

import pytest

from benchmarks.studies import MOST_GAP, STUDIES
from planner.study import check_study
from tests.studies import solved


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_study_is_proven_or_within_the_gap(name: str) -> None:
    """The study ends with a legal plan whose gap is closed or small, and beats each baseline."""
    study = solved(name)
    assert check_study(study) == []
    assert study.plan.status == "optimal" or study.plan.gap <= MOST_GAP
    assert study.plan.baselines
    assert all(baseline.ratio is None or baseline.ratio >= 1.0 - 1e-9 for baseline in study.plan.baselines)
    assert study.plan.why
    assert study.plan.links
