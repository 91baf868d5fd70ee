"""Flow traces: dependencies, delays, the file format and its mistakes."""

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import DocumentError, SimulationError
from planner.simulate import FlowTrace, LinkSpec, TracedFlow, load_trace, replay
from planner.simulate.thinning import hops_of, spare_links


def document() -> dict[str, Any]:
    """Return a trace of two links and three flows."""
    return {
        "format": "flow-oracle/1",
        "name": "small",
        "links": [
            {"id": 0, "src": "a", "dst": "b", "kind": "pcie", "bandwidth_Bps": 10, "latency_s": 1.0},
            {"id": 1, "src": "b", "dst": "a", "kind": "pcie", "bandwidth_Bps": 10, "latency_s": 1.0},
        ],
        "flows": [
            {"id": 0, "start_s": 1.0, "delay_s": 0.0, "size_B": 10, "path": [0], "deps": []},
            {"id": 1, "start_s": 0.0, "delay_s": 0.5, "size_B": 20, "path": [1], "deps": [0]},
            {"id": 2, "start_s": 9.0, "delay_s": 0.25, "size_B": 10, "path": [0], "deps": [0, 1]},
        ],
    }


def ring_all_reduce(ranks: int, size: float, rate: float, latency: float) -> FlowTrace:
    """Return a ring all-reduce: in each step every rank passes on the chunk it got in the step before."""
    links = tuple(LinkSpec(f"{rank}->{(rank + 1) % ranks}", rate, latency) for rank in range(ranks))
    flows = tuple(
        TracedFlow(
            0.0, 0.0, size / ranks, (rank,), () if step == 0 else ((step - 1) * ranks + (rank - 1) % ranks,)
        )
        for step in range(2 * (ranks - 1))
        for rank in range(ranks)
    )
    return FlowTrace("ring", links, flows)


def test_a_flow_waits_for_its_start_its_dependencies_its_delay_and_its_latency(tmp_path: Path) -> None:
    """Release is the later of start and dependencies; delay and latency come before the bytes."""
    path = tmp_path / "flows.json"
    path.write_text(json.dumps(document()))
    assert replay(load_trace(path)).finish == pytest.approx(
        [3.0, 3.0 + 0.5 + 1.0 + 2.0, 9.0 + 0.25 + 1.0 + 1.0]
    )


def test_a_compressed_trace_is_the_same_trace(tmp_path: Path) -> None:
    """Plain and gzip-compressed files give equal traces."""
    plain, packed = tmp_path / "flows.json", tmp_path / "flows.json.gz"
    plain.write_text(json.dumps(document()))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load_trace(plain) == load_trace(packed)


@pytest.mark.parametrize("ranks", [2, 8, 13])
def test_a_ring_all_reduce_meets_its_closed_form(ranks: int) -> None:
    """As flows, a ring all-reduce takes 2 (p - 1) (latency + size / (p rate)), within 0.1 %."""
    size, rate, latency = 1e9, 450e9, 1e-6
    finish = replay(ring_all_reduce(ranks, size, rate, latency)).finish.max()
    assert finish == pytest.approx(2 * (ranks - 1) * (latency + size / (ranks * rate)), rel=1e-3)


def test_a_recorded_replay_knows_its_links() -> None:
    """With recording on, a ring keeps each link busy for its bytes."""
    result = replay(ring_all_reduce(4, 400.0, 10.0, 0.0), record=True)
    assert result.utilisation is not None
    assert result.utilisation.carried == pytest.approx([600.0] * 4)
    assert result.utilisation.mean == pytest.approx([1.0] * 4)


def test_flows_that_wait_for_one_another_are_named() -> None:
    """A cycle of dependencies is an error that names its flows, not an endless or silent replay."""
    flow = TracedFlow(0.0, 0.0, 1.0, (0,))
    cycle = (flow, TracedFlow(0.0, 0.0, 1.0, (0,), (2,)), TracedFlow(0.0, 0.0, 1.0, (0,), (1,)))
    with pytest.raises(SimulationError, match="flows 1, 2 never start"):
        replay(FlowTrace("cycle", (LinkSpec("a", 1.0),), cycle))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("links", 1, "bandwidth_Bps"), 0, r"links\.1\.bandwidth_Bps: .*greater than 0"),
        (("flows", 0, "size_B"), "many", r"flows\.0\.size_B"),
        (("flows", 2, "path"), [0, 7], r"flows\.2\.path: there is no link 7"),
        (("flows", 1, "deps"), [3], r"flows\.1\.deps: there is no flow 3"),
        (("flows", 1, "id"), 5, r"flows\.1\.id: is 5"),
        (("format",), "flow-oracle/9", r"format: .*flow-oracle/1"),
    ],
)
def test_mistakes_in_a_trace_are_found(
    tmp_path: Path, where: tuple[Any, ...], value: object, message: str
) -> None:
    """Each mistake is reported with the file and the dotted path of the field."""
    broken = document()
    part: Any = broken
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    path = tmp_path / "flows.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(DocumentError, match=rf"flows\.json: {message}"):
        load_trace(path)


def test_a_file_that_is_no_trace_is_refused_with_its_place(tmp_path: Path) -> None:
    """Broken JSON names line and column; a missing or corrupt file says so."""
    path = tmp_path / "flows.json"
    path.write_text('{"format":\n nonsense}')
    with pytest.raises(DocumentError, match=r"flows\.json:2:2: not valid JSON"):
        load_trace(path)
    with pytest.raises(DocumentError, match="cannot be read"):
        load_trace(tmp_path / "absent.json")
    packed = tmp_path / "flows.json.gz"
    packed.write_bytes(b"not gzip")
    with pytest.raises(DocumentError, match="cannot be read"):
        load_trace(packed)


@st.composite
def traces(draw: st.DrawFn) -> FlowTrace:
    """Draw traces with dependencies on earlier flows, common stretches of path, and links without latency."""
    links = tuple(
        LinkSpec(f"link-{place}", float(draw(st.integers(1, 6))), draw(st.sampled_from([0.0, 0.0, 0.5])))
        for place in range(6)
    )
    stretches = st.sampled_from([(), (0,), (0, 1), (2, 3), (0, 1, 2), (4,), (5, 4), (3, 5)])
    flows = []
    for place in range(draw(st.integers(1, 10))):
        path = (*draw(stretches), *draw(stretches))
        after = draw(st.lists(st.integers(0, place - 1), max_size=2)) if place else []
        start, delay = draw(st.sampled_from([0.0, 0.0, 1.0, 3.5])), draw(st.sampled_from([0.0, 0.0, 0.25]))
        flows.append(TracedFlow(start, delay, float(draw(st.integers(0, 20))), path, tuple(after)))
    return FlowTrace("drawn", links, tuple(flows))


@given(trace=traces())
def test_links_that_are_left_out_change_no_finish_time(trace: FlowTrace) -> None:
    """A replay without a record, over the links that matter, ends as one that keeps all of them."""
    whole = replay(trace, record=True, compiled=False)
    assert replay(trace, compiled=False).finish == pytest.approx(whole.finish, rel=1e-12)


def test_a_link_beside_a_tighter_one_is_spare() -> None:
    """Of links with the same flows the slowest stays; one with more flows than it does not replace it."""
    hops = hops_of([(0, 1, 2), (0, 1, 3), (0, 1)])
    assert spare_links(hops, np.array([5.0, 4.0, 6.0, 3.0])).tolist() == [True, False, True, False]
    assert spare_links(hops, np.array([4.0, 4.0, 4.0, 4.0])).tolist() == [False, True, True, True]
    assert not spare_links(hops_of([(0, 1, 0)]), np.array([2.0, 1.0])).any()


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
@given(trace=traces())
def test_the_compiled_replay_agrees_with_the_plain_one(trace: FlowTrace) -> None:
    """Both give the same finish times within 1e-12."""
    plain = replay(trace, compiled=False).finish
    assert replay(trace, compiled=True).finish == pytest.approx(plain, rel=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("numba") is not None, reason="numba is installed")
def test_asking_for_what_is_not_installed_says_how_to_get_it() -> None:
    """Without numba the compiled replay is refused with the command that installs it."""
    with pytest.raises(SimulationError, match="pip install"):
        replay(ring_all_reduce(4, 1e6, 1e9, 1e-6), compiled=True)
