"""Hand-worked pairs of machine and pattern; each test shows its arithmetic."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import Access, HostPath, ModeTime, legal_modes, load_calibration, mode_times, thresholds
from planner.costs.access import MODES, in_place_rate, pinned_copy
from planner.topology import PathClass, Route, load_topology, route

CALIBRATION = load_calibration()
NUMBER = CALIBRATION.number
START, FAULT, GROUP = NUMBER("host_latency"), NUMBER("managed_fault"), NUMBER("managed_fault_bytes")
LOADS, LATENCY, PAGEABLE = (
    NUMBER("coherent_access_efficiency"),
    NUMBER("coherent_latency"),
    NUMBER("pageable_ratio"),
)
HBM = 2000e9
"""Rate at which the kernels of these tests go over device memory, bytes/s."""


def link(
    rate: float, back: float | None = None, *, coherent: bool = False, both: float = math.inf
) -> tuple[Route, Route]:
    ways = (rate, back or rate)
    ends = (("numa0", "gpu0"), ("gpu0", "numa0"))
    kind = PathClass.C2C if coherent else PathClass.PHB
    first, second = (
        Route(end, kind, one, 1e-6, coherent, "measured", both) for end, one in zip(ends, ways, strict=True)
    )
    return first, second


def machine(name: str) -> HostPath:
    """Return one of the hosts of the hand-worked pairs."""
    return {
        "pcie3": HostPath(*link(12.4e9, 13.1e9)),
        "pcie4": HostPath(*link(26.2e9, 26.0e9)),
        "pcie5": HostPath(*link(55.4e9, 55.1e9)),
        "pcie5-hmm": HostPath(*link(55.4e9, 55.1e9), addressing="hmm"),
        "c2c": HostPath(*link(380e9, 297e9, coherent=True, both=360e9), memory_rate=348e9, addressing="ats"),
        "c2c-remote": HostPath(*link(132e9, coherent=True), memory_rate=348e9, addressing="ats"),
        "fusion": HostPath(*link(225e9, coherent=True), memory_rate=200e9, addressing="ats"),
    }[name]


STREAM = Access(1e9, device_rate=HBM)
REUSE = Access(1e9, passes=100.0, device_rate=HBM)
SPARSE = Access(100e9, share=1e-4, grain=512.0, device_rate=HBM)
CONTROL = Access(64.0, turns=1000.0, back=True)
PING_PONG = Access(1e9, turns=10.0, back=True, device_rate=HBM)


def copied(size: float, rate: float) -> float:
    """A launch, 1 us of path, the wire."""
    return START + 1e-6 + size / rate


CHUNK = NUMBER("copy_chunk")
PAIRS = [
    # A stream is copied and used once; the first pass follows the copy, its last chunk stays behind.
    ("pcie3", STREAM, "pinned-copy", copied(1e9, 12.4e9) + CHUNK / HBM),
    ("pcie4", STREAM, "pinned-copy", copied(1e9, 26.2e9) + CHUNK / HBM),
    ("pcie5", STREAM, "pinned-copy", copied(1e9, 55.4e9) + CHUNK / HBM),
    # C2C: 380 GB/s of copies against 334 of loads.
    ("c2c", STREAM, "pinned-copy", copied(1e9, 380e9) + CHUNK / HBM),
    # Fusion: memory of 200 GB/s holds back the loads (198 of them); the link carries 225.
    ("fusion", STREAM, "pinned-copy", copied(1e9, 225e9) + CHUNK / HBM),
    # A hundred passes: one copy and a hundred passes in device memory.
    ("pcie5", REUSE, "pinned-copy", copied(1e9, 55.4e9) + CHUNK / HBM + 99 * 1e9 / HBM),
    ("c2c", REUSE, "pinned-copy", copied(1e9, 380e9) + CHUNK / HBM + 99 * 1e9 / HBM),
    # 10 MB of 100 GB in rows of 512 bytes: in place only the rows move, 8 whole lines each.
    ("c2c", SPARSE, "coherent", LATENCY + 1e7 / (380e9 * LOADS)),
    ("c2c-remote", SPARSE, "coherent", LATENCY + 1e7 / (132e9 * LOADS)),
    ("fusion", SPARSE, "coherent", LATENCY + 1e7 / (225e9 * LOADS)),
    # Over PCIe each row brings its group of pages: 10 MB of 512-byte rows touch 19,531 groups of 100 KB.
    ("pcie5", SPARSE, "managed", START + 19532 * FAULT + (1e7 / 512 * GROUP) / 55.4e9 + 1e7 / HBM),
    ("pcie5-hmm", SPARSE, "managed", START + 19532 * FAULT + (1e7 / 512 * GROUP) / 55.4e9 + 1e7 / HBM),
    # A queue of one line: 0.8 us in place against two launches of a copy.
    ("c2c", CONTROL, "coherent", 1000 * (LATENCY + 2 * 64 / (360e9))),
    ("pcie5", CONTROL, "pinned-copy", 1000 * (copied(64, 55.4e9) + copied(64, 55.1e9))),
    # Host and device in turns: two copies a turn, the first pass behind the first of them.
    ("pcie4", PING_PONG, "pinned-copy", 10 * (copied(1e9, 26.2e9) + copied(1e9, 26.0e9) + CHUNK / HBM)),
    # C2C in place: both directions share 360 GB/s, memory gives 348: 2 GB a turn.
    ("c2c", PING_PONG, "coherent", 10 * (LATENCY + 2e9 / 348e9)),
]


@pytest.mark.parametrize(("name", "access", "mode", "seconds"), PAIRS)
def test_hand_worked_pairs_of_machine_and_pattern(
    name: str, access: Access, mode: str, seconds: float
) -> None:
    """The best mode and its time, as the comment above each pair works it out."""
    best = mode_times(access, machine(name), CALIBRATION)[0]
    assert best.mode == mode
    assert best.seconds == pytest.approx(seconds, rel=2e-4)


@pytest.mark.parametrize(
    ("addressing", "coherent", "legal"),
    [("ats", True, True), ("ats", False, False), ("hmm", True, False), ("none", True, False)],
)
def test_coherent_access_needs_translation_and_a_coherent_path(
    addressing: str, coherent: bool, legal: bool
) -> None:
    """Loads in place are legal with ATS over coherent hops only; copies and managed memory always."""
    modes = legal_modes(link(50e9, coherent=coherent)[0], addressing)
    assert ("coherent" in modes) is legal
    assert {"pinned-copy", "pageable-copy", "managed"} <= set(modes)


def grace(numa: str = "numa0", gpu: str = "gpu0") -> HostPath:
    """Return a path of the shipped machine with two GH200 modules."""
    part = load_topology("gh200-dual").machine_types[0]
    ways = [route(part.graph, *ends) for ends in ((numa, gpu), (gpu, numa))]
    assert ways[0] is not None and ways[1] is not None
    return HostPath(ways[0], ways[1], part.numa_named(numa).memory_bandwidth.value, "ats")


def rate(times: list[ModeTime], mode: str, size: float) -> float:
    """Return bytes per second of one mode."""
    return size / next(one.seconds for one in times if one.mode == mode)


BIG = 64e9


@pytest.mark.parametrize(
    ("numa", "access", "mode", "low", "high"),
    [
        ("numa0", Access(BIG), "pinned-copy", 377e9, 380e9),  # host to own GPU
        ("numa1", Access(BIG), "pinned-copy", 132e9, 133e9),  # host to the other module's GPU
        ("numa0", Access(BIG), "coherent", 328e9, 339e9),  # a kernel reads host memory in place
        ("numa1", Access(BIG), "coherent", 221e9, 221e9),  # and that of the other module
        ("numa0", Access(BIG, turns=2.0, back=True), "managed", 18e9, 29e9),  # touched in turns, per way
    ],
)
def test_measured_paths_of_two_gh200_modules(
    numa: str, access: Access, mode: str, low: float, high: float
) -> None:
    """Measured with nvbandwidth and own kernels (dnhkng, 2026): within 10 % of the range."""
    moved = access.size * access.turns * (2.0 if access.back else 1.0)
    found = rate(mode_times(access, grace(numa), CALIBRATION), mode, moved)
    assert 0.9 * low <= found <= 1.1 * high


def test_other_measured_paths_of_two_gh200_modules() -> None:
    """GPU to host 297 GB/s; both directions share; a migrated buffer runs as device memory; staged copies."""
    near = grace()
    out = HostPath(near.outwards, near.inwards, near.memory_rate, "ats")
    assert BIG / pinned_copy(Access(BIG), out, CALIBRATION).seconds == pytest.approx(297e9, rel=0.01)
    both = in_place_rate(near, CALIBRATION, both=True)
    assert both == min(near.inwards.duplex, near.memory_rate) < near.inwards.rate + near.outwards.rate
    once, often = (
        next(one for one in mode_times(replace(STREAM, passes=n), near, CALIBRATION) if one.mode == "managed")
        for n in (1.0, 101.0)
    )
    assert 100 * 1e9 / (often.seconds - once.seconds) == pytest.approx(HBM, rel=1e-6)


@pytest.mark.parametrize(
    ("access", "numa", "mode"),
    [
        (Access(BIG, device_rate=HBM), "numa0", "pinned-copy"),  # stream once: 380 against 334 GB/s
        (Access(BIG, passes=20.0, device_rate=HBM), "numa0", "pinned-copy"),  # reuse: device memory
        (Access(BIG, turns=20.0, back=True, device_rate=HBM), "numa0", "coherent"),  # 348 for both ways
        (Access(BIG, device_rate=HBM), "numa1", "coherent"),  # the other socket: loads 221, copies 132
    ],
)
def test_best_modes_for_four_patterns_on_gh200(access: Access, numa: str, mode: str) -> None:
    """Stream once, reuse, ping-pong, and the remote socket, by the measured rates."""
    assert mode_times(access, grace(numa), CALIBRATION)[0].mode == mode


@given(
    st.floats(1.0, 1e12),
    st.floats(1.0, 100.0),
    st.floats(1e-5, 1.0),
    st.sampled_from([None, 8.0, 512.0, 1e6]),
    st.floats(1.0, 50.0),
    st.booleans(),
    st.sampled_from(["pcie3", "pcie5", "c2c", "c2c-remote", "fusion"]),
)
def test_more_work_never_takes_less_time(
    size: float, passes: float, share: float, grain: float | None, turns: float, back: bool, name: str
) -> None:
    """Every mode's time is positive and finite, and grows with passes, turns, and results that go back."""
    access = Access(size, passes, share, grain, turns, back, device_rate=HBM)
    path = machine(name)
    first = {one.mode: one.seconds for one in mode_times(access, path, CALIBRATION)}
    for changed in (replace(access, passes=2 * passes), replace(access, turns=2 * turns)):
        second = {one.mode: one.seconds for one in mode_times(changed, path, CALIBRATION)}
        for known in first:
            assert 0.0 < first[known] < math.inf
            assert second[known] >= first[known] * (1.0 - 1e-12)
    without = {one.mode: one.seconds for one in mode_times(replace(access, back=False), path, CALIBRATION)}
    assert all(first[mode] >= without[mode] * (1.0 - 1e-12) for mode in without)


@pytest.mark.parametrize("name", ["pcie4", "c2c", "fusion"])
def test_thresholds_stand_where_two_modes_cost_the_same(name: str) -> None:
    """On both sides of a threshold the named modes are best."""
    path = machine(name)
    for found in thresholds(STREAM, path, CALIBRATION):
        assert found.below in MODES and found.above in MODES
        if found.value is None:
            continue
        for factor, mode in ((0.99, found.below), (1.01, found.above)):
            value = found.value * factor
            if found.quantity != "share" or value <= 1.0:
                near = STREAM.varied(found.quantity, value)
                assert mode_times(near, path, CALIBRATION)[0].mode == mode
