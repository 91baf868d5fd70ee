"""Queues with known mean sojourn, each run by the simulator's own parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import simpy

from planner.simulate import CorePool, FlowRecord, LinkSpec, Network, named_stream
from planner.simulate.batched_server import BatchedServer, timed
from planner.simulate.batcher import BatcherPolicy

if TYPE_CHECKING:
    from simpy.events import ProcessGenerator

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], FloatArray]


def constant(stream: np.random.Generator, count: int) -> FloatArray:
    """Return ones."""
    return np.ones(count)


def exponential(stream: np.random.Generator, count: int) -> FloatArray:
    """Return an exponential law of mean 1."""
    return stream.exponential(size=count)


def hyperexponential(stream: np.random.Generator, count: int) -> FloatArray:
    """Return nine parts of an exponential law of mean 0.5 and one of 5.5: mean 1, second moment 6.5."""
    means = np.where(stream.random(count) < 0.9, 0.5, 5.5)
    return means * stream.exponential(size=count)


SECOND_MOMENT: dict[Draw, float] = {
    constant: 1.0,
    exponential: 2.0,
    hyperexponential: 0.9 * 2 * 0.25 + 0.1 * 2 * 30.25,
}


@dataclass(frozen=True)
class Queue:
    """A queue with unit mean service and its closed form.

    Attributes
    ----------
    rate
        Arrivals per s.
    sojourns
        Simulates some arrivals from a seed and returns how long each stayed, s, in order of arrival.
    expected
        Mean sojourn, s.
    enough
        Arrivals of a replication after which its mean is nearly normal.
    """

    name: str
    rate: float
    sojourns: Callable[[int, int], FloatArray]
    expected: float
    enough: int = 300


def _gaps(seed: int, rate: float, count: int) -> list[float]:
    gaps: list[float] = named_stream(seed, "arrivals").exponential(1.0 / rate, size=count).tolist()
    return gaps


def servers(name: str, rate: float, draw: Draw, count: int = 1) -> Queue:
    """Return a queue before some servers; M/G/1 by Pollaczek and Khinchine, M/M/c by Erlang's C."""

    def sojourns(seed: int, number: int) -> FloatArray:
        env = simpy.Environment()
        pool = CorePool(env, name, count)
        stays: FloatArray = np.zeros(number)
        services = draw(named_stream(seed, "service"), number).tolist()

        def customer(index: int) -> ProcessGenerator:
            arrived = env.now
            yield from pool.run("", services[index])
            stays[index] = env.now - arrived

        def arrivals() -> ProcessGenerator:
            for index, gap in enumerate(_gaps(seed, rate, number)):
                yield env.timeout(gap)
                env.process(customer(index))

        env.process(arrivals())
        env.run()
        return stays

    if count == 1:
        return Queue(name, rate, sojourns, 1.0 + rate * SECOND_MOMENT[draw] / (2.0 * (1.0 - rate)))
    waiting = rate**count / math.factorial(count) / (1.0 - rate / count)
    idle = waiting + sum(rate**n / math.factorial(n) for n in range(count))
    return Queue(name, rate, sojourns, 1.0 + waiting / idle / (count - rate))


def shared_link_stays(gaps: list[float], sizes: list[float], rate: float) -> FloatArray:
    """Return how long transfers stay that come one after another to a link of some bytes/s, s."""
    env = simpy.Environment()
    network = Network(env, [LinkSpec("link", rate)], record=False)
    stays: FloatArray = np.zeros(len(sizes))

    def note(event: simpy.Event) -> None:
        record = event.value
        assert isinstance(record, FlowRecord)
        stays[int(record.tag)] = record.finish - record.start

    def arrivals() -> ProcessGenerator:
        for index, gap in enumerate(gaps):
            yield env.timeout(gap)
            done = network.send((0,), sizes[index], tag=str(index))
            assert done.callbacks is not None
            done.callbacks.append(note)

    env.process(arrivals())
    env.run()
    return stays


def shared_link(name: str, rate: float, draw: Draw) -> Queue:
    """Return one link that transfers share: M/G/1 processor sharing, the same mean for every law of sizes."""

    def sojourns(seed: int, number: int) -> FloatArray:
        sizes = (8.0 * draw(named_stream(seed, "sizes"), number)).tolist()
        return shared_link_stays(_gaps(seed, rate, number), sizes, 8.0)

    return Queue(name, rate, sojourns, 1.0 / (1.0 - rate))


def batches(name: str, rate: float, largest: int) -> Queue:
    r"""Return a server that takes up to ``largest`` of those waiting, exponential whatever the batch.

    With :math:`n` waiting while it works the probabilities are geometric, :math:`C r^n`, where
    :math:`\lambda + \mu r^{K+1} = (\lambda + \mu) r`; it is idle with :math:`\mu C / \lambda`
    (M. F. Neuts, "A General Class of Bulk Queues with Poisson Input", 1967, with rule 1 to K).
    """

    def sojourns(seed: int, number: int) -> FloatArray:
        env = simpy.Environment()
        services = iter(exponential(named_stream(seed, "service"), number).tolist())
        server = BatchedServer(env, BatcherPolicy(largest), [timed(env, lambda _: next(services))])
        arrived: FloatArray = np.zeros(number)
        left: FloatArray = np.zeros(number)

        def customer(index: int) -> ProcessGenerator:
            arrived[index] = env.now
            yield server.submit(str(index))
            left[index] = env.now

        def arrivals() -> ProcessGenerator:
            for index, gap in enumerate(_gaps(seed, rate, number)):
                yield env.timeout(gap)
                env.process(customer(index))

        env.process(arrivals())
        env.run()
        return left - arrived

    low, high = 0.0, 1.0 - 1e-9
    for _ in range(200):
        root = (low + high) / 2.0
        low, high = (root, high) if rate + root ** (largest + 1) > (rate + 1.0) * root else (low, root)
    scale = 1.0 / (1.0 / (1.0 - root) + 1.0 / rate)
    return Queue(name, rate, sojourns, 1.0 + scale * root / (1.0 - root) ** 2 / rate)


QUEUES = (
    servers("M/M/1", 0.3, exponential),
    servers("M/D/1", 0.4, constant),
    replace(servers("M/G/1", 0.2, hyperexponential), enough=800),
    servers("M/M/3", 1.5, exponential, 3),
    shared_link("M/D/1-PS", 0.4, constant),
    shared_link("M/M/1-PS", 0.3, exponential),
    shared_link("M/H2/1-PS", 0.25, hyperexponential),
    batches("M/M(1,4)/1", 1.0, 4),
)
