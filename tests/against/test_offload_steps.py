"""The simulation of offloaded layers against closed forms."""

from __future__ import annotations

import pytest

from benchmarks.offload_steps import BUFFERS, Copies, Simulation, Visit
from benchmarks.offload_streams import Token, stream_of
from planner.costs import load_calibration
from planner.topology import load_topology

CALIBRATION = load_calibration()
START = CALIBRATION.number("host_latency")
SIZE, COUNT = 1e9, 50


PLANNED = Copies()


def seconds(machine: str, visit: Visit, copies: Copies = PLANNED, gpus: int = 1) -> float:
    topology = load_topology(machine)
    return Simulation(Token(topology, CALIBRATION, topology.gpus[:gpus], [visit] * COUNT), copies).seconds()


@pytest.mark.parametrize(("machine", "rate"), [("gh200-dual", 380e9), ("dgx-h100", 55.2e9)])
def test_fetches_hide_behind_layers_that_take_longer(machine: str, rate: float) -> None:
    """Of n layers, copies of c, kernels of k: c + n k or n c + k, the larger one; in turn n (c + k)."""
    copy = START + SIZE / rate
    for kernel in (0.5 * copy, 2.0 * copy):
        visit = Visit(kernel, SIZE, 0.0)
        bound = max(copy + COUNT * kernel, COUNT * copy + kernel)
        assert seconds(machine, visit) == pytest.approx(bound, rel=0.01)
        in_turn = seconds(machine, visit, Copies(overlapped=False))
        assert in_turn == pytest.approx(COUNT * (copy + kernel), rel=0.01)
    assert BUFFERS == 2


def test_both_directions_share_a_coherent_link_and_not_pcie() -> None:
    """As many bytes in as out: 180 GB/s each on GH200, the full rate each on PCIe."""
    visit = Visit(0.0, SIZE, SIZE)
    assert seconds("gh200-dual", visit) == pytest.approx(COUNT * (START + SIZE / 180e9), rel=0.05)
    assert seconds("dgx-h100", visit) == pytest.approx(COUNT * (START + SIZE / 55.2e9), rel=0.05)


def test_pageable_copies_and_far_buffers_take_their_rates() -> None:
    """A share of the link's rate; the socket link's 132 GB/s."""
    visit = Visit(0.0, SIZE, 0.0)
    ratio = CALIBRATION.number("pageable_ratio")
    pageable = seconds("dgx-h100", visit, Copies(pinned=False))
    assert pageable == pytest.approx(COUNT * (START + SIZE / (ratio * 55.2e9)), rel=0.02)
    topology = load_topology("gh200-dual")
    far = Simulation(
        Token(topology, CALIBRATION, topology.gpus[1:], [visit] * COUNT), Copies(near=False)
    ).seconds()
    assert far == pytest.approx(COUNT * (START + SIZE / 132e9), rel=0.02)


def test_gpus_behind_one_switch_share_its_link() -> None:
    """Two GPUs of a DGX A100 fetch at half the rate each."""
    visit = Visit(0.0, SIZE, 0.0)
    assert seconds("dgx-a100", visit, gpus=2) == pytest.approx(2.0 * seconds("dgx-a100", visit), rel=0.05)


def test_a_token_takes_what_its_copies_take() -> None:
    """Predicted and simulated agree within 5 % where layers are fetched in the planned way."""
    for machine in ("gh200-dual", "dgx-h100"):
        found = stream_of(machine, load_topology(machine))
        assert found.simulated["planned"] == pytest.approx(found.predicted, rel=0.05)
        assert found.simulated["naive"] > 2.0 * found.simulated["planned"]
