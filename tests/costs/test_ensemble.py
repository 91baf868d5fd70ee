"""Formulas of ensembles against closed forms of queueing theory."""

import math

import numpy as np
import pytest

from planner.costs import load_calibration
from planner.costs.coefficients import device_rates
from planner.costs.ensemble import (
    Stream,
    batch_seconds,
    gather_window,
    gathering,
    pool_wait,
    shared_device,
)
from planner.costs.host import erlang_c
from planner.placement.slices import plain_profiles, slice_device
from planner.topology.devices import find_device
from planner.workload.ensembles import GpuWork

ONE = np.array([1.0])


def stream(rate: float, seconds: float, *, kernels: int = 1, high: bool = False) -> Stream:
    time = np.array([seconds])
    return Stream(np.array([rate]), time, time**2, ONE, kernels, np.array([high]))


def test_one_stream_waits_as_in_an_m_d_1_queue() -> None:
    """At a load of 0.6 the mean wait is rho S / 2 (1 - rho), the formula of Pollaczek and Khinchine."""
    (wait,), (service,), busy = shared_device([stream(60.0, 0.01)])
    assert busy[0] == pytest.approx(0.6)
    assert wait.mean[0] == pytest.approx(0.6 * 0.01 / (2 * 0.4))
    assert service.mean[0] == pytest.approx(0.01)


def test_priority_follows_cobham_between_kernels() -> None:
    """With one kernel a batch, waits are Cobham's: R / (1 - rho_h) and R / ((1 - rho_h)(1 - rho))."""
    (high, low), services, _ = shared_device([stream(20.0, 0.01, high=True), stream(10.0, 0.03)])
    residual = (20.0 * 1e-4 + 10.0 * 9e-4) / 2
    assert high.mean[0] == pytest.approx(residual / 0.8)
    assert low.mean[0] == pytest.approx(residual / (0.8 * 0.5))
    assert services[1].mean[0] == pytest.approx(0.03 / 0.8)  # interrupted between kernels


def test_shorter_kernels_below_shorten_the_wait_above_them() -> None:
    """A batch of 100 kernels delays a stream of high priority by one of them, not by all."""
    waits = [
        shared_device([stream(20.0, 0.01, high=True), stream(10.0, 0.03, kernels=count)])[0][0].mean[0]
        for count in (1, 100)
    ]
    assert waits[1] < waits[0] / 4


def test_a_device_that_is_too_busy_never_answers() -> None:
    """Above the most that may be planned the wait is infinite."""
    (wait,), _, _ = shared_device([stream(99.0, 0.01)])
    assert math.isinf(wait.mean[0])


def test_a_window_gathers_what_arrives_in_it() -> None:
    """At 100 units/s a batch of 5 takes 40 ms; its first request waits all of it, the others evenly."""
    window = gather_window(100.0, 1.0, 5)
    assert window == pytest.approx(0.04)
    found = gathering(100.0, 1.0, 1.0, 5.0, window)
    assert float(found.joined) == pytest.approx(4.0)
    assert float(found.rate) == pytest.approx(20.0)
    assert float(found.wait.mean) == pytest.approx((0.04 + 4 * 0.02) / 5)
    assert float(gathering(100.0, 1.0, 1.0, 5.0, 0.0).joined) == 0.0


def test_a_batch_takes_its_launches_and_the_longer_of_computing_and_moving() -> None:
    """The roofline by hand, at a batch that is bound by memory and at one bound by compute."""
    device, calibration = find_device("h100-sxm-80"), load_calibration()
    rates = device_rates(device, "bf16", calibration, graphs=True)
    work = GpuWork(flops=1e12, bytes=1e6, weights=4e9, kernels=10)
    small, large = batch_seconds(work, device, calibration, [1, 64])
    compute = 1e12 / (rates.matmul * calibration.number("matmul_efficiency"))
    assert small == pytest.approx(10 * rates.overhead + max(compute, 4.001e9 / rates.memory))
    assert large == pytest.approx(10 * rates.overhead + 64 * compute)


def test_a_slice_computes_by_sevenths_and_moves_by_eighths() -> None:
    """On 3g.40gb the compute bound takes 7/3 as long, the memory bound twice."""
    device, calibration = find_device("h100-sxm-80"), load_calibration()
    part = slice_device(device, plain_profiles(device)["3g.40gb"])
    bound_by_flops, bound_by_bytes = GpuWork(flops=1e13), GpuWork(bytes=1e10)
    for work, factor in ((bound_by_flops, 7 / 3), (bound_by_bytes, 2.0)):
        whole, sliced = (float(batch_seconds(work, each, calibration, 1)) for each in (device, part))
        assert sliced / whole == pytest.approx(factor, rel=1e-2)


def test_measured_times_take_the_place_of_the_roofline_on_their_device() -> None:
    """Between two measured batches a straight line, beyond them the last slope; elsewhere the roofline."""
    device, calibration = find_device("h100-sxm-80"), load_calibration()
    times = [{"batch": 1, "seconds": 0.001}, {"batch": 5, "seconds": 0.003}]
    work = GpuWork.model_validate({"flops": 1e9, "device": "h100-sxm-80", "measured": times})
    assert batch_seconds(work, device, calibration, [3, 9]) == pytest.approx([0.002, 0.005])
    other = find_device("a100-sxm-80")
    assert float(batch_seconds(work, other, calibration, 1)) < 1e-4


def test_a_pool_of_one_class_waits_as_in_m_m_c() -> None:
    """Of equal requests the mean wait is C(c, a) S / (c - a); mixed sizes wait longer."""
    mean, variance = pool_wait([80.0], [0.04], [1.0], 4)
    waiting = erlang_c(4, 3.2)
    assert mean == pytest.approx(waiting * 0.04 / 0.8)
    assert variance == pytest.approx((0.04 / 0.8) ** 2 * waiting * (2 - waiting))
    assert pool_wait([40.0, 4.0], [0.04, 0.4], [1.0, 1.0], 4)[0] > mean
    assert math.isinf(pool_wait([100.0], [0.04], [1.0], 4)[0])
