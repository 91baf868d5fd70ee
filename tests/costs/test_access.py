"""Hand-worked pairs of machine and pattern; each test shows its arithmetic."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import (
    Access,
    HostPath,
    collectives,
    fabric,
    legal_modes,
    load_calibration,
    mode_times,
    thresholds,
)
from planner.costs.access import MODES, in_place_rate, pinned_copy
from planner.costs.host import service_time
from planner.costs.kernels import kernels
from planner.costs.offload import host_share
from planner.costs.transfers import domain_copy
from planner.topology import PathClass, Route, load_topology, route
from planner.workload import CpuStage

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


BIG = 64e9


GRACE = load_calibration("gh200")
"""What was measured on the machine itself."""


def by_mode(mode: str, access: Access, numa: str = "numa0", *, out: bool = False) -> float:
    """Return the predicted time of an access in one mode, s; outwards as the way back taken forwards."""
    path = grace(numa)
    if out:
        path = HostPath(path.outwards, path.inwards, path.memory_rate, "ats")
        return pinned_copy(access, path, GRACE).seconds
    return next(one.seconds for one in mode_times(access, path, GRACE) if one.mode == mode)


def own_memory(size: float) -> float:
    """Return the predicted time of a stream through the GPU's own memory, s."""
    return float(kernels(load_topology("gh200-dual").device("gh200-dual/gpu0"), GRACE).streaming(size))


def cores(size: float) -> float:
    """Return the predicted time of a CPU stage that does nothing but move ``size`` bytes, s."""
    stage = CpuStage.model_validate(
        {"name": "triad", "work": "1 ns", "bytes_in": f"{size / 2} B", "bytes_out": f"{size / 2} B"}
    )
    return service_time(stage, load_topology("gh200-dual").machine_types[0].numa_named("numa0"))


def staged(size: float) -> float:
    """Return the predicted time of a message between the GPUs, which have no peer path, s."""
    hierarchy = load_topology("gh200-dual").hierarchy
    level = np.asarray([len(hierarchy.levels) - 1])
    return float(collectives.send(level, fabric(hierarchy, GRACE)).time(np.asarray([size]))[0])


def socket() -> Route:
    """Return the way between the two modules."""
    way = route(load_topology("gh200-dual").machine_types[0].graph, "numa0", "numa1")
    assert way is not None
    return way


def migrated(size: float) -> float:
    """Return what one more pass over managed memory takes once it is there, s."""
    once, often = (by_mode("managed", Access(size, passes=n, device_rate=HBM)) for n in (1.0, 101.0))
    return (often - once) / 100.0


TURNS = 8.0
PATHS = [
    # name, bytes that count, predicted time, measured rates (topologies.md 3.2, after dnhkng)
    ("triad in HBM3", BIG, lambda: own_memory(BIG), 3724e9, 3728e9),
    ("triad of Grace", BIG, lambda: cores(BIG), 328e9, 348e9),
    ("host to own GPU", BIG, lambda: by_mode("pinned-copy", Access(BIG)), 377e9, 380e9),
    ("own GPU to host", BIG, lambda: by_mode("pinned-copy", Access(BIG), out=True), 297e9, 298e9),
    ("remote Grace to GPU", BIG, lambda: by_mode("pinned-copy", Access(BIG), "numa1"), 132e9, 133e9),
    ("GPU to remote Grace", BIG,
     lambda: by_mode("pinned-copy", Access(BIG), "numa1", out=True), 132e9, 133e9),
    ("Grace to Grace", BIG, lambda: domain_copy(BIG, socket(), GRACE), 112e9, 119e9),
    ("GPU to GPU, staged", BIG, lambda: staged(BIG), 57e9, 58e9),
    ("kernel reads host memory", BIG, lambda: by_mode("coherent", Access(BIG)), 328e9, 339e9),
    ("kernel reads remote memory", BIG, lambda: by_mode("coherent", Access(BIG), "numa1"), 221e9, 221e9),
    ("managed, migrated", BIG, lambda: migrated(BIG), 2000e9, 2000e9),
    # Touched in turns: there and back every turn, so twice the bytes.
    ("managed, in turns", 2.0 * TURNS * BIG,
     lambda: by_mode("managed", Access(BIG, turns=TURNS, back=True)), 18e9, 29e9),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "predicted", "low", "high"), PATHS, ids=[path[0] for path in PATHS])
def test_measured_paths_of_two_gh200_modules(
    name: str, size: float, predicted: Callable[[], float], low: float, high: float
) -> None:
    """Predicted time within 10 % of what was measured, whatever it was in the range that the source gives."""
    seconds = predicted()
    assert size / high / 1.1 <= seconds <= size / low * 1.1


def test_both_directions_of_a_gh200_share_the_capacity() -> None:
    """177 and 187 GB/s at once, far less than 380 and 297: in place, and by copies of a training step."""
    near = grace()
    both = in_place_rate(near, CALIBRATION, both=True)
    assert both == min(near.inwards.duplex, near.memory_rate) < near.inwards.rate + near.outwards.rate
    share = host_share(load_topology("gh200-dual").machine_types)
    size = np.asarray([BIG])
    assert float(BIG / share.at_once(size, size)[0]) == pytest.approx(182e9, rel=0.05)


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
