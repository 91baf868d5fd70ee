from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.pipeline import in_flight, split_kinds, stage_memory, step_time
from planner.costs.training import StageCosts


def costs(micro_batches: int, **values: float) -> StageCosts:
    """Return stage costs of one row, zero but for those given."""
    numbers = {field.name: np.asarray([values.get(field.name, 0.0)]) for field in fields(StageCosts)}
    numbers["hideable"] = np.ones(1)
    numbers["num_micro_batches"] = np.asarray([float(micro_batches)])
    rest = {"overlap": values.get("overlap", 0.0), "breakdown": {}, "algorithms": {}}
    return StageCosts(**{**numbers, **rest})  # type: ignore[arg-type]


@pytest.mark.parametrize(("layers", "leading", "dense"), [([3, 3], 0, [0, 0]), ([2, 4], 3, [2, 1])])
def test_leading_layers_are_dense(layers: list[int], leading: int, dense: list[int]) -> None:
    """The first layers of the model are dense wherever stage borders fall."""
    found, moe = split_kinds(np.asarray(layers), leading)
    assert (list(found), list(found + moe)) == (dense, layers)


def test_one_forward_one_backward_holds_as_many_micro_batches_as_stages_follow() -> None:
    """Stage s of p holds p - s, never more than there are."""
    assert list(in_flight(4, 1, 16)) == [4, 3, 2, 1]
    assert list(in_flight(4, 1, 2)) == [2, 2, 2, 1]


@given(st.integers(2, 8), st.integers(2, 5), st.integers(1, 4))
def test_interleaving_holds_what_its_warm_up_sends_before_the_first_backward(
    stages: int, virtual: int, rounds: int
) -> None:
    """Megatron's warm-up of stage s is 2 (p - s - 1) + (v - 1) p chunks, plus the one at work."""
    count = rounds * stages
    held = in_flight(stages, virtual, count)
    for stage in range(stages):
        warm_up = min(2 * (stages - stage - 1) + (virtual - 1) * stages, count * virtual)
        assert held[stage] == pytest.approx(min(warm_up + 1, count * virtual) / virtual)


def schedule(times: list[float], count: int) -> float:
    """Play stages that each finish a micro-batch before they start the next; return the makespan."""
    free = [0.0] * len(times)
    for _ in range(count):
        ready = 0.0
        for stage, seconds in enumerate(times):
            ready = free[stage] = max(ready, free[stage]) + seconds
    return max(free)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 12))
def test_step_time_is_that_of_a_played_pipeline(layers: list[int], count: int) -> None:
    """m T_max + sum of the others equals a flow shop played task by task."""
    dense = np.asarray(layers)
    seconds = step_time(costs(count, dense=0.5), 0, 1, dense, np.zeros_like(dense))
    assert seconds == pytest.approx(schedule([0.5 * number for number in layers], count))


@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 32))
def test_the_bubble_of_equal_stages_is_the_published_fraction(stages: int, virtual: int, count: int) -> None:
    """(p - 1) / (v m) of the ideal time (Narayanan et al., 2021)."""
    dense = np.full(stages, 2)
    seconds = step_time(costs(count, dense=0.25), 0, virtual, dense, np.zeros_like(dense))
    assert seconds / (count * 0.5) - 1 == pytest.approx((stages - 1) / (virtual * count))


def test_synchronisation_hides_behind_one_backward_pass_at_most() -> None:
    """Of 3 s with 80 % overlap, 0.6 s stay exposed unless the window of 2 s leaves more: 1 s here."""
    dense = np.asarray([3])
    some = costs(1, dense=1.0, sync_dense=1.0, backward_share=2 / 3, overlap=0.8)
    assert step_time(some, 0, 1, dense, 0 * dense) == pytest.approx(3.0 + 1.0)
    less = costs(1, dense=1.0, sync_dense=0.2, backward_share=2 / 3, overlap=0.8)
    assert step_time(less, 0, 1, dense, 0 * dense) == pytest.approx(3.0 + 0.2 * 0.6)


def test_memory_of_stages_adds_up_by_hand() -> None:
    """Two layers of 10 + 3 per micro-batch in flight; the ends carry 5 and 7, everyone 1 + 2."""
    numbers = {"static_dense": 10.0, "kept_dense": 3.0, "static_first": 5.0, "static_last": 7.0,
               "static_base": 1.0, "peak_working": 2.0}  # fmt: skip
    dense = np.asarray([2, 2])
    parts = stage_memory(costs(8, **numbers), 0, dense, 0 * dense, in_flight(2, 1, 8))
    total = np.asarray(sum(parts.values()))
    assert list(total) == [20 + 5 + 12 + 3, 20 + 7 + 6 + 3]
