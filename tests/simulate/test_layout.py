"""Records of the compiled solver lie in memory as its speed needs, and are those of numpy otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from planner.simulate import layout


@pytest.mark.parametrize("count", [1, 7, 100, 4032])
def test_records_lie_in_whole_lines_of_the_cache(count: int) -> None:
    """Flows and rows are as long as lines and begin with one, all of them zero; four hops fill a line."""
    rows = layout.new_rows(np.ones(count), 4)
    state = layout.new_state(rows, count, 4)
    for records in (rows, state.flows, state.hops):
        assert records.ctypes.data % layout.CACHE_LINE == 0
        assert records.flags.aligned and records.flags.writeable and records.flags.c_contiguous
    assert layout.FLOW.itemsize == layout.CACHE_LINE == 4 * layout.HOP.itemsize
    assert layout.ROW.itemsize == 2 * layout.CACHE_LINE
    assert (len(state.flows), len(state.hops), len(rows)) == (count, 4 * count, count)
    assert not state.flows["rate"].any() and not state.hops["row"].any() and not rows["load"].any()


def test_what_a_joining_flow_reads_of_a_row_is_one_line() -> None:
    """The figures that a flow changes when it joins, or is frozen, are in the first half of the record."""
    fields = layout.ROW.fields
    assert fields is not None
    first = {name for name, (_, offset, *_) in fields.items() if offset < layout.CACHE_LINE}
    read = {"capacity", "outside", "used", "weight", "demand", "peak"}
    assert first == read | {"num_flows", "num_members", "open", "touched"}
