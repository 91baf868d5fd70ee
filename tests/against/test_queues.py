"""Queues with known answers: the simulation's own confidence interval covers the closed form."""

import numpy as np
import numpy.typing as npt
import pytest
import simpy

from planner.simulate import (
    CorePool,
    FlowRecord,
    LinkSpec,
    Network,
    batch_means_interval,
    mean_interval,
    mser5,
    named_stream,
)

FloatArray = npt.NDArray[np.float64]


def single_server_waits(seed: int, load: float, service: float, num_customers: int) -> FloatArray:
    """Return the waiting times, s, of Poisson arrivals with constant service before one server."""
    env = simpy.Environment()
    pool = CorePool(env, "server", 1)
    waits = np.zeros(num_customers)

    def customer(index: int) -> simpy.events.ProcessGenerator:
        arrived = env.now
        span = yield from pool.run("", service)
        waits[index] = span.start - arrived

    def arrivals() -> simpy.events.ProcessGenerator:
        gaps = named_stream(seed, "arrivals").exponential(service / load, size=num_customers)
        for index, gap in enumerate(gaps):
            yield env.timeout(gap)
            env.process(customer(index))

    env.process(arrivals())
    env.run()
    return waits


def shared_link_sojourns(seed: int, load: float, sizes: FloatArray, rate: float) -> FloatArray:
    """Return the sojourn times, s, of Poisson transfers that share one link."""
    env = simpy.Environment()
    network = Network(env, [LinkSpec("link", rate)], record=False)
    sojourns = np.zeros(len(sizes))

    def note(event: simpy.Event) -> None:
        record = event.value
        assert isinstance(record, FlowRecord)
        sojourns[int(record.tag)] = record.finish - record.start

    def arrivals() -> simpy.events.ProcessGenerator:
        gaps = named_stream(seed, "arrivals").exponential(sizes.mean() / (rate * load), size=len(sizes))
        for index, gap in enumerate(gaps):
            yield env.timeout(gap)
            done = network.send((0,), float(sizes[index]), tag=str(index))
            assert done.callbacks is not None
            done.callbacks.append(note)

    env.process(arrivals())
    env.run()
    return sojourns


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_server_with_constant_service_meets_pollaczek_khinchine(load: float) -> None:
    """The mean wait of M/D/1, load x service / (2 (1 - load)), is inside the simulated 95 % interval."""
    service = 2.0
    means = []
    for seed in range(6):
        waits = single_server_waits(seed, load, service, 5000)
        means.append(float(waits[mser5(waits) :].mean()))
    interval = mean_interval(means)
    expected = load * service / (2.0 * (1.0 - load))
    assert interval.low <= expected <= interval.high
    assert interval.half_width < 0.15 * expected


@pytest.mark.parametrize("sizes", ["constant", "exponential"])
def test_one_shared_link_is_a_processor_sharing_queue(sizes: str) -> None:
    """The mean sojourn on one link, (size / rate) / (1 - load), is met whatever the distribution of sizes."""
    load, rate, mean_size = 0.6, 8.0, 4.0
    means = []
    for seed in range(5):
        drawn = np.full(4000, mean_size)
        if sizes == "exponential":
            drawn = named_stream(seed, "sizes").exponential(mean_size, size=4000)
        sojourns = shared_link_sojourns(seed, load, drawn, rate)
        scale = mean_size / float(drawn.mean())  # the closed form is for the mean size that was drawn
        means.append(scale * float(sojourns[mser5(sojourns) :].mean()))
    interval = mean_interval(means)
    expected = mean_size / rate / (1.0 - load)
    assert interval.low <= expected <= interval.high
    assert interval.half_width < 0.15 * expected


def test_one_long_run_gives_an_interval_of_its_own() -> None:
    """Batch means of a single long M/D/1 run cover the closed form as well."""
    waits = single_server_waits(17, 0.5, 1.0, 20000)
    interval = batch_means_interval(waits[mser5(waits) :])
    assert interval.low <= 0.5 <= interval.high
