"""Queues with closed forms, run by the simulator's parts, and how often its intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from planner.simulate import Interval, common_warm_up, replication_interval
from tests.against.queues import QUEUES, Queue

REPLICATIONS = 10
EACH = [pytest.param(queue, id=queue.name) for queue in QUEUES]


def runs(queue: Queue, seed: int, count: int) -> list[list[float]]:
    """Return the sojourns of some replications, s."""
    return [queue.sojourns(1000 * seed + number, count).tolist() for number in range(REPLICATIONS)]


def interval(queue: Queue, seed: int, count: int, warm_up: int) -> Interval:
    """Return the simulator's interval for the mean sojourn."""
    return replication_interval(runs(queue, seed, count), warm_up)


@pytest.mark.parametrize("queue", EACH)
def test_the_closed_form_is_inside_the_interval(queue: Queue) -> None:
    """The known mean sojourn lies in the 95 % interval of ten replications, which is not wide."""
    warm_up = common_warm_up(runs(queue, 77, 500))
    found = interval(queue, 5, 500, warm_up)
    assert found.low <= queue.expected <= found.high
    assert found.half_width < 0.2 * queue.expected
    assert warm_up <= 250


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of sixty intervals for M/D/1 between 87 and 100 % hold the closed form."""
    queue = QUEUES[1]
    held = [interval(queue, seed, 100, 20) for seed in range(60)]
    assert 0.87 <= np.mean([one.low <= queue.expected <= one.high for one in held]) <= 1.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("queue", EACH)
def test_coverage_over_four_hundred_seeds(queue: Queue) -> None:
    """Between 93 and 97 % of the 95 % intervals of 400 seeds hold the closed form."""
    warm_up = common_warm_up(runs(queue, 100_000, queue.enough))
    held = [interval(queue, seed, queue.enough, warm_up) for seed in range(400)]
    share = float(np.mean([one.low <= queue.expected <= one.high for one in held]))
    assert 0.93 <= share <= 0.97
