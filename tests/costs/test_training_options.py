"""Block recompute, overlap options and offloading: what each does to time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from planner.costs import JobShape, stage_costs
from planner.costs.offload import NO_HOST, HostShare, host_share, optimizer_seconds
from planner.costs.pipeline import host_memory, in_flight, stage_memory, stage_times, step_time
from planner.costs.training import StageCosts
from planner.topology import load_topology
from tests.costs.cases import CALIBRATION, FABRIC, KERNELS, candidates, packed, preset, stage

SHARE = HostShare(to_host=50e9, to_device=40e9, memory_bandwidth=60e9, memory=256e9)
MODEL = preset("llama3-8b")


def with_host(strategy: dict[str, int], share: HostShare = SHARE, **switches: int) -> StageCosts:
    """Return the costs of a strategy whose GPUs have a share of a host."""
    many = candidates(strategy)
    for name, value in switches.items():
        object.__setattr__(many, name, np.asarray([value]))
    shape = JobShape(MODEL, 2048, 64, True, 2.0, host=share)
    return stage_costs(shape, many, packed(many), KERNELS, FABRIC, CALIBRATION)


def timed(costs: StageCosts, layers: list[int], again: Sequence[int] = (0,)) -> Any:
    """Return the stage times and the total bytes of a split of which some layers are repeated."""
    split, twice = np.asarray(layers), np.asarray(again)
    memory = stage_memory(costs, 0, split, 0 * split, in_flight(len(layers), 1, 16), twice)
    return stage_times(costs, 0, split, 0 * split, twice), np.asarray(sum(memory.values()))


def test_block_recompute_lies_between_none_and_full() -> None:
    """Each repeated layer adds the time and saves the bytes by which full recompute differs from none."""
    none, full = (timed(with_host({"pp": 2, "recompute": mode}), [16, 16]) for mode in (0, 2))
    buffer = with_host({"pp": 2, "recompute": 2}).peak_working - with_host({"pp": 2}).peak_working
    for again in ([1, 1], [8, 0], [16, 3], [0, 15]):
        times, total = timed(with_host({"pp": 2, "recompute": 3}), [16, 16], again)
        share = np.asarray(again) / 16
        assert times == pytest.approx((1 - share) * none[0] + share * full[0])
        assert total == pytest.approx((1 - share) * (none[1] + buffer) + share * full[1])


@pytest.mark.parametrize(
    "strategy", [{"dp": 16, "sharding": 1}, {"dp": 16, "sharding": 3}, {"tp": 8, "dp": 2}]
)
def test_less_overlap_is_never_faster(strategy: dict[str, int]) -> None:
    """All, data, gradients, none: each lets less hide than the one before."""
    layers = np.asarray([MODEL.layers])
    found = [step_time(with_host(strategy, overlap=option), 0, 1, layers, 0 * layers) for option in range(4)]
    assert found == sorted(found)
    assert found[0] < found[3]


def test_without_overlap_the_whole_synchronisation_shows() -> None:
    """The tail is the synchronisation and the update, one after the other."""
    costs = with_host({"dp": 16, "sharding": 1}, overlap=3)
    layers = np.asarray([MODEL.layers])
    sync = costs.sync_alpha + costs.sync_dense * MODEL.layers + costs.sync_first + costs.sync_last
    update = costs.update_dense * MODEL.layers + costs.update_first + costs.update_last
    times = float(costs.num_micro_batches[0]) * stage_times(costs, 0, layers, 0 * layers)
    assert step_time(costs, 0, 1, layers, 0 * layers) == pytest.approx(float(times[0] + sync[0] + update[0]))


def test_optimizer_offload_moves_twelve_bytes_a_parameter() -> None:
    """Master weights and moments leave the device for the host; the step waits for copies and Adam."""
    here, away = with_host({}), with_host({}, offload=1)
    layers = np.asarray([MODEL.layers])
    moved = timed(here, [MODEL.layers])[1] - timed(away, [MODEL.layers])[1]
    host = host_memory(away, 0, layers, 0 * layers, np.ones(1))
    assert moved == pytest.approx(host)
    assert host_memory(here, 0, layers, 0 * layers, np.ones(1)) == pytest.approx(0.0)
    parameters = float(host[0]) / 12
    gradient = CALIBRATION.number("gradient_bytes")
    streamed = (gradient + 2 * 12 + 2) / 60e9
    seconds = optimizer_seconds(SHARE, gradient, 2.0, gradient + 2 * 12 + 2)
    assert seconds == pytest.approx(gradient / 50e9 + streamed + 2 / 40e9)
    update = away.update_dense * MODEL.layers + away.update_first + away.update_last
    fixed = stage(MODEL, {}).update_first - here.update_first
    assert float(update[0] + fixed[0]) == pytest.approx(parameters * seconds, rel=1e-2)


@pytest.mark.parametrize("option", [2, 3])
def test_offloaded_activations_and_weights_need_a_fast_host_to_hide(option: int) -> None:
    """With a host so fast that copies hide, time stays and memory falls; with a slow one the layer waits."""
    quick, slow = (HostShare(rate, rate, rate, 1e12) for rate in (1e15, 1e8))
    usual, hidden, waiting = (
        with_host({}, share, offload=kind) for share, kind in ((quick, 0), (quick, option), (slow, option))
    )
    assert hidden.dense == pytest.approx(usual.dense)
    assert waiting.dense > 2 * usual.dense
    assert timed(hidden, [MODEL.layers])[1] < timed(usual, [MODEL.layers])[1]


def test_gpus_of_a_node_share_the_way_to_their_host() -> None:
    """Four GPUs per socket of a DGX H100 have a quarter of its memory, and a PCIe switch each."""
    share = host_share(load_topology("dgx-h100").machine_types)
    assert share.memory == pytest.approx(2**40 / 4)
    assert share.memory_bandwidth == pytest.approx(246e9 / 4)
    assert 50e9 < share.to_host < 56e9


def test_without_a_way_to_the_host_nothing_can_leave() -> None:
    """A machine without GPUs offers no share."""
    assert host_share(()) == NO_HOST


def test_both_directions_at_once_share_a_coherent_link() -> None:
    """GH200: 380 GB/s in and 297 out alone, 180 each when both are busy."""
    share = host_share(load_topology("gh200-dual").machine_types)
    assert (share.to_device, share.to_host, share.both) == (380e9, 297e9, 360e9)
    size = np.asarray([1e9])
    assert share.at_once(size, 0.0 * size) == pytest.approx(1e9 / 380e9)
    assert share.at_once(0.0 * size, size) == pytest.approx(1e9 / 297e9)
    assert share.at_once(size, size) == pytest.approx(1e9 / 180e9)
    # 2 GB in and 4 GB out: 2 x 360/380 + 4 x (2 - 360/380) GB of the 360 that both have a second.
    assert share.at_once(2 * size, 4 * size) == pytest.approx((2 * 0.947368 + 4 * 1.052632) / 360, rel=1e-5)
    pcie = host_share(load_topology("dgx-h100").machine_types)
    assert pcie.at_once(size, size) == pytest.approx(1e9 / min(pcie.to_device, pcie.to_host))
