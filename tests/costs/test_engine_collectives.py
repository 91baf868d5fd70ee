"""All-reduces of serving engines, and expert exchange."""

import numpy as np
import pytest

from planner.costs import load_calibration
from planner.costs.engine_collectives import EAGER, engine_all_reduce, engine_surface
from planner.costs.expert_exchange import Exchange, calibrated_exchange, token_bytes
from planner.errors import CalibrationError
from planner.topology import find_device

CALIBRATION = load_calibration()


def test_an_engines_own_device_engine_and_mode_are_found() -> None:
    """A measured engine is itself, and an unmeasured device takes a sister's of its generation."""
    own = CALIBRATION.engines["h100-sxm-80/sglang/cuda_graph"]
    assert engine_surface(find_device("h100_sxm"), CALIBRATION, "sglang") == own
    assert engine_surface(find_device("h200_sxm"), CALIBRATION, "sglang") == own


def test_graphs_hide_the_host_and_eager_mode_does_not() -> None:
    """A small message costs microseconds in a graph and the host's launch without one."""
    device = find_device("h100_sxm")
    small = engine_all_reduce(4096.0, 8, device, CALIBRATION)[0]
    assert 2e-6 < small < 10e-6
    assert engine_all_reduce(4096.0, 8, device, CALIBRATION, mode=EAGER)[0] > 2 * small


def test_one_gpu_reduces_nothing_and_larger_messages_take_longer() -> None:
    """No peers, no time; four times the bytes never take less."""
    device = find_device("a100_sxm")
    times = engine_all_reduce(np.geomspace(1e3, 1e9, 40), 8, device, CALIBRATION)
    assert engine_all_reduce(1e6, 1, device, CALIBRATION)[0] == 0.0
    assert (times[8:] >= times[:-8]).all()


def test_a_calibration_without_engines_says_so() -> None:
    """The error names the section that is missing."""
    bare = CALIBRATION.model_copy(update={"engines": {}})
    with pytest.raises(CalibrationError, match="engines"):
        engine_all_reduce(1e6, 8, find_device("a100_sxm"), bare)


def exchange(nodes: float, tokens: float = 128.0, multiprocessors: float = 20.0) -> Exchange:
    """Return one exchange of the shape that DeepEP is measured with."""
    one = np.ones(1)
    return Exchange(
        tokens * one, 7168 * one, 8 * one, nodes * one, multiprocessors * one, inside=396.4e9, port=50e9
    )


@pytest.mark.parametrize("mode", ["normal", "ll"])
@pytest.mark.parametrize("direction", ["dispatch", "combine"])
def test_more_nodes_and_more_tokens_cost_more(mode: str, direction: str) -> None:
    """Crossing a network and carrying more are never free."""
    times = [calibrated_exchange(mode, direction, exchange(n), CALIBRATION)[0] for n in (1, 2, 4, 8)]
    assert times == sorted(times)
    more = calibrated_exchange(mode, direction, exchange(4, tokens=256.0), CALIBRATION)[0]
    assert times[2] < more < 2 * times[2]


def test_low_latency_dispatch_approaches_its_wire_time() -> None:
    """Of many tokens 7/8 leave one of 8 nodes: top-k copies over the port's rate."""
    batch = exchange(8, tokens=1e6)
    wire = 1e6 * 8 * float(token_bytes("dispatch", 7168.0)) * 7 / 8 / 50e9
    assert calibrated_exchange("ll", "dispatch", batch, CALIBRATION)[0] == pytest.approx(wire, rel=0.1)


def test_more_multiprocessors_speed_normal_mode_until_the_port_binds() -> None:
    """On two nodes copies bind, on eight the network does."""

    def speed(nodes: float) -> float:
        few, many = (
            calibrated_exchange("normal", "dispatch", exchange(nodes, 1e5, count), CALIBRATION)[0]
            for count in (8.0, 24.0)
        )
        return float(few / many)

    assert speed(2) > 2.0
    assert speed(8) < 1.5
