import numpy as np
import pytest

from planner.placement import Strategy, members_per_domain, training_spans
from planner.placement.groups import worst_hop
from planner.topology import Hierarchy, Level

NODES = np.repeat(np.arange(4), 4)
HIERARCHY = Hierarchy(
    tuple(f"n{index // 4}/gpu{index % 4}" for index in range(16)),
    (
        Level("nvlink", NODES, 400e9, 1e-6, False, "measured"),
        Level("fabric", np.zeros(16, dtype=np.int64), 50e9, 5e-6, False, "measured"),
    ),
)


@pytest.mark.parametrize(
    ("group", "inside"), [([0, 1, 2, 3], 4), ([0, 1, 4, 5], 2), ([0, 1, 2, 4], 1), ([0, 4, 8, 12], 1)]
)
def test_the_thinnest_domain_of_a_group_counts(group: list[int], inside: int) -> None:
    """Of the domains that a group touches, the one with the fewest members is the bottleneck."""
    assert list(members_per_domain(np.asarray([group]), HIERARCHY)) == [inside, 4]


def test_spans_of_a_mesh_in_rank_order() -> None:
    """tp 2 x dp 2 x pp 4 on nodes of 4: tensor and data groups stay inside, stages hop between nodes."""
    spans = training_spans(Strategy(tp=2, dp=2, pp=4), np.arange(16), HIERARCHY)
    assert (list(spans.tp[0]), list(spans.data[0]), list(spans.pipeline)) == ([2, 2], [2, 2], [1])


def test_a_pair_that_no_domain_joins_is_past_the_last_level() -> None:
    """The worst hop of unjoined GPUs is one past the levels, which a send prices as endless."""
    alone = Hierarchy(HIERARCHY.gpus, HIERARCHY.levels[:1])
    assert worst_hop(np.asarray([0]), np.asarray([4]), alone) == 1
    assert worst_hop(np.asarray([0]), np.asarray([1]), alone) == 0
