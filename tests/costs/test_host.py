import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from planner.costs.host import erlang_c, pool_latency, service_time
from planner.schema import BandwidthFigure, BytesFigure, RatioFigure
from planner.topology import NumaDomain
from planner.workload import CpuStage


def domain(speed: float = 1.0, bits: int = 512, rate: float = 100e9) -> NumaDomain:
    return NumaDomain(
        name="numa0", arch="riscv64", cores=16, core_speed=RatioFigure.of(speed), vector_bits=bits,
        memory=BytesFigure.of(1e11), memory_bandwidth=BandwidthFigure.of(rate),
    )  # fmt: skip


@given(st.integers(1, 60), st.floats(0.05, 0.95))
def test_waiting_probability_is_the_textbook_sum(workers: int, utilisation: float) -> None:
    """Erlang C by its sum of powers over factorials, computed with Poisson probabilities."""
    load = workers * utilisation
    top = stats.poisson.pmf(workers, load) / (1 - utilisation)
    assert erlang_c(workers, load) == pytest.approx(
        top / (stats.poisson.cdf(workers - 1, load) + top), rel=1e-9
    )


@given(st.integers(1, 16), st.floats(0.2, 0.9))
def test_ninety_ninth_percentile_leaves_one_percent_waiting_longer(workers: int, utilisation: float) -> None:
    """The density of the M/M/c wait integrates to one percent beyond the predicted wait."""
    service, rate = 0.01, workers * utilisation / 0.01
    wait = pool_latency(service, rate, workers) - service
    waiting, drain = erlang_c(workers, rate * service), (workers - rate * service) / service
    beyond, _ = integrate.quad(lambda t: waiting * drain * math.exp(-drain * t), wait, wait + 60 / drain)
    assert beyond == pytest.approx(min(0.01, waiting), rel=1e-6)


def test_an_overloaded_pool_has_no_steady_state() -> None:
    """As much work as workers, or more, never finishes."""
    assert math.isinf(pool_latency(0.1, 40.0, 4))


def test_service_time_scales_the_vector_share_only() -> None:
    """Half of 8 ms is vector code: on 128-bit units at half the speed it takes (4 + 4 x 4) / 0.5 ms."""
    stage = CpuStage(name="resize", work=8e-3, vector_share=0.5)
    assert service_time(stage, domain()) == pytest.approx(8e-3)
    assert service_time(stage, domain(speed=0.5, bits=128)) == pytest.approx((4e-3 + 16e-3) / 0.5)


def test_memory_traffic_is_a_floor_of_the_service_time() -> None:
    """1 GB at 10 GB/s takes 100 ms however little there is to compute."""
    stage = CpuStage(name="copy", work=1e-3, bytes_in=0.6e9, bytes_out=0.4e9)
    assert service_time(stage, domain(rate=10e9)) == pytest.approx(0.1)
