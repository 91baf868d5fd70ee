"""Whatever comes and goes, the rates meet the condition that defines max-min fairness."""

import math

from hypothesis import given
from hypothesis import strategies as st

from planner.simulate.fairness import FairShares, Flow

TOLERANCE = 1e-9


def violations(shares: FairShares, flows: list[Flow]) -> list[str]:
    """Return where rates break a capacity, a cap or the bottleneck condition, ignorant of the solver."""
    wrong = []
    load = {
        row.index: sum(flow.rate * dict(flow.uses).get(row, 0.0) for flow in flows) for row in shares.rows
    }
    for row in shares.rows:
        if load[row.index] > row.capacity * (1.0 + TOLERANCE):
            wrong.append(f"row {row.index} is overloaded")
    for flow in flows:
        at_cap = flow.rate >= flow.cap * (1.0 - TOLERANCE)
        held = any(
            load[row.index] >= row.capacity * (1.0 - TOLERANCE)
            and flow.rate >= max(other.rate for other in flows if row in dict(other.uses)) * (1.0 - TOLERANCE)
            for row, _ in flow.uses
        )
        if flow.rate > flow.cap * (1.0 + TOLERANCE) or not (at_cap or held):
            wrong.append(f"flow {flow.order} could go faster, or is too fast")
    return wrong


@given(
    capacity=st.lists(st.integers(1, 20).map(float), min_size=1, max_size=6),
    changes=st.lists(st.integers(0, 2**16), min_size=1, max_size=25),
    data=st.data(),
)
def test_every_flow_keeps_a_bottleneck(
    capacity: list[float], changes: list[int], data: st.DataObject
) -> None:
    """After each arrival, departure or resizing, no row is overloaded and each flow has its bottleneck."""
    shares = FairShares(capacity)
    flows: list[Flow] = []
    for order, change in enumerate(changes):
        arriving, leaving, resized = [], [], []
        if change % 3 == 0 and flows:
            leaving = [flows.pop(change % len(flows))]
        elif change % 7 == 1:
            resized = [shares.rows[change % len(shares.rows)]]
            resized[0].capacity = float(1 + change % 19)
        else:
            rows = data.draw(st.sets(st.sampled_from(shares.rows), min_size=1))
            uses = [(row, 1.0 + change % 2) for row in sorted(rows, key=lambda row: row.index)]
            cap = math.inf if change % 5 else 0.5 + change % 4
            arriving = [Flow(None, order, uses, 1.0, cap, math.inf)]
        moved, _ = shares.solve(arriving, leaving, resized)
        for flow in moved:
            flow.rate, flow.limit = flow.new_rate, flow.new_limit
        flows += arriving
        assert violations(shares, flows) == []
