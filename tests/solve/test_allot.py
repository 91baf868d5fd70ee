"""Several jobs on one machine."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InfeasibleError
from planner.solve import Budget, Option, share_out, unit_counts

options = st.lists(
    st.builds(Option, units=st.integers(1, 4), cost=st.integers(1, 50).map(lambda n: n / 10)),
    min_size=1,
    max_size=3,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), options, min_size=1), st.integers(1, 8))
def test_shares_equal_brute_force(jobs: dict[str, list[Option]], units: int) -> None:
    """The shares cost what the cheapest combination that fits costs; none is refused if one fits."""
    fitting = [choice for choice in product(*jobs.values()) if sum(item.units for item in choice) <= units]
    if not fitting:
        with pytest.raises(InfeasibleError):
            share_out(jobs, units, Budget(seconds=5.0))
        return
    shares = share_out(jobs, units, Budget(seconds=5.0))
    cost = sum(min(o.cost for o in items if o.units == shares[job]) for job, items in jobs.items())
    assert cost == pytest.approx(min(sum(item.cost for item in choice) for choice in fitting), abs=1e-6)


def test_unit_counts_leave_one_for_every_other_job() -> None:
    """Powers of two, and everything that the others could leave."""
    assert unit_counts(8, 2) == [1, 2, 4, 7]
    assert unit_counts(1, 2) == []
