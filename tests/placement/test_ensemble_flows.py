"""Loads of links under an ensemble: bytes per second, dealt to the nearest place first."""

import pytest

from planner.placement.ensemble_flows import Seat, ensemble_flows, matched
from tests.placement.test_ensemble import plan, problem


def test_requests_stay_in_their_domain_as_far_as_both_ends_allow() -> None:
    """Of halves on both sides against three quarters on one, three quarters stay and one crosses."""
    left = [Seat("a", "n/0", 0.5), Seat("b", "n/1", 0.5)]
    right = [Seat("c", "n/0", 0.75), Seat("d", "n/1", 0.25)]
    shares = {(source.part, target.part): share for source, target, share in matched(left, right)}
    assert shares == pytest.approx({("a", "c"): 0.5, ("b", "d"): 0.25, ("b", "c"): 0.25})


def test_all_bytes_of_a_second_leave_and_arrive() -> None:
    """What the decoder hands on reaches the encoder's GPUs: rate times size over all classes."""
    flows = list(ensemble_flows(problem(), plan()))
    into = sum(
        flow.size for flow in flows if flow.target in ("dgx-h100/gpu0", "dgx-h100/gpu1", "dgx-h100/gpu4")
    )
    decoded = 100.0 * 1e6 + 10.0 * 4e6
    assert into >= decoded
    encoder = {each.gpu for each in plan().instances if each.stage == "encode"}
    hosts = ("dgx-h100/numa0", "dgx-h100/numa1")
    received = sum(flow.size for flow in flows if flow.target in encoder and flow.source in hosts)
    assert received == pytest.approx(decoded)
