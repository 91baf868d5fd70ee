"""An iteration of a recommender on the links of its machine, phase by phase, every rank at its own pace."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import simpy

from planner.costs import Calibration
from planner.costs.embeddings import TopologyCosts
from planner.costs.embeddings.machine import EFFICIENCY, row_rate
from planner.placement.exchanges import Iteration, iteration
from planner.placement.tables import TablePlacement
from planner.simulate.cabling import Cabling
from planner.simulate.fluid import FloatArray
from planner.simulate.link_use import link_uses
from planner.simulate.links import LinkSpec
from planner.simulate.network import Network
from planner.simulate.outcome import Busy, Category
from planner.simulate.result import LinkUse
from planner.topology import Router

Process = Generator[simpy.Event, Any, None]
SMALL = 1.0
"""Transfers of less than a byte are left out."""


@dataclass(frozen=True)
class Seats:
    """Where ranks sit.

    Attributes
    ----------
    gpus, domains
        GPU ``NODE/GPU`` and domain ``NODE/NUMA`` of every rank.
    """

    router: Router
    gpus: Sequence[str]
    domains: Sequence[str]
    calibration: Calibration


@dataclass(frozen=True)
class SimulatedIteration:
    """Outcome of one iteration.

    Attributes
    ----------
    seconds
        Until the last rank is done, s.
    finish
        When the last rank ended each phase, s.
    busy : ndarray, shape (ranks,)
        Time in kernels, s.
    """

    seconds: float
    finish: dict[str, float]
    busy: FloatArray
    spans: list[Busy]
    links: list[LinkUse]


def simulate_tables(
    costs: TopologyCosts,
    placements: Sequence[TablePlacement],
    seats: Seats,
    dense: float = 0.0,
    *,
    prefetch: bool = False,
) -> SimulatedIteration:
    """Simulate one iteration.

    Parameters
    ----------
    dense
        Time of the dense part on every rank, s, between the lookups and their gradients.
    prefetch
        Whether caches are filled for the next batch while this one is computed, on the same links; else a
        lookup waits for its rows.
    """
    return _Run(costs, iteration(costs, placements), seats, dense, prefetch=prefetch).result()


class _Run:
    """One iteration: a process for each rank, mailboxes between them."""

    def __init__(
        self, costs: TopologyCosts, work: Iteration, seats: Seats, dense: float, *, prefetch: bool
    ) -> None:
        self.work, self.seats, self.dense, self.prefetch = work, seats, dense, prefetch
        self.training = costs.training
        self.world, self.local = costs.world_size, costs.local_size
        self.env = simpy.Environment()
        self.cabling = Cabling(seats.router)
        self.delay = seats.calibration.number("collective_launch")
        self.busy = np.zeros(self.world)
        self.finish: dict[str, float] = {}
        self.spans: list[Busy] = []
        self._routes = self._wire()
        self.network = Network(self.env, self._links(), self.cabling.groups())
        self._inbox = {
            phase: [self.env.event() for _ in range(self.world)]
            for phase in ("indices", "pooled", "inside", "outside", "gradients", "spread", "sums")
        }
        self._missing = {phase: [self.world] * self.world for phase in self._inbox}
        for rank in range(self.world):
            self.env.process(self._rank(rank))
        self.env.run()

    def result(self) -> SimulatedIteration:
        use = self.network.utilisation()
        count = len(self.cabling.cables)
        links = link_uses(
            self.cabling.cables,
            [[row] for row in range(count)],
            use,
            dict(enumerate(use.waiting.tolist())),
            {},
            lambda cable: True,
        )
        return SimulatedIteration(float(self.env.now), self.finish, self.busy, self.spans, links)

    # -- the machine ---------------------------------------------------------------------------------------

    def _wire(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """Give numbers to the links of every route that is used, before the network is made."""
        gpus, work = self.seats.gpus, self.work
        used = work.indices + work.pooled + work.pooled.T + work.inside + work.outside
        if work.gradient.any():
            used = used + np.array([[self._sum(a, b) for b in range(self.world)] for a in range(self.world)])
        pairs = [(gpus[a], gpus[b]) for a, b in np.argwhere(used > 0.0).tolist() if a != b]
        pairs += [(b, a) for a, b in pairs]
        for rank in np.flatnonzero(work.read + work.prefetched + work.updated).tolist():
            home, gpu = self.seats.domains[rank], gpus[rank]
            pairs += [(home, gpu), (gpu, home)]
        return {pair: self.cabling.route(*pair) for pair in dict.fromkeys(pairs)}

    def _links(self) -> list[LinkSpec]:
        """Return the links at the rates that exchanges reach, and after them the memories of the hosts."""
        number = self.seats.calibration.number
        specs = [
            replace(spec, rate=spec.rate * number(EFFICIENCY[cable.kind]))
            for spec, cable in zip(self.cabling.specs(), self.cabling.cables, strict=True)
        ]
        self._memory: dict[str, int] = {}
        for domain in dict.fromkeys(self.seats.domains):
            node, name = domain.split("/", 1)
            part = self.seats.router.topology.node_of[node].machine.numa_named(name)
            rate = part.memory_bandwidth.value * number("memory_efficiency")
            self._memory[domain] = len(specs)
            specs.append(LinkSpec(f"memory of {domain}", rate * self._slow))
        return specs

    def _send(self, source: str, target: str, size: float) -> simpy.Event:
        route = self._routes[source, target]
        return self.network.send(route, size, delay=self.delay + self.cabling.latency(route))

    def _host(self, rank: int, size: float, *, back: bool) -> simpy.Event:
        """Move rows between a rank and its host memory, at the rate that random rows reach."""
        gpu, domain = self.seats.gpus[rank], self.seats.domains[rank]
        route = self._routes[(gpu, domain) if back else (domain, gpu)]
        return self.network.send(
            (*route, self._memory[domain]), size * self._slow, delay=self.cabling.latency(route)
        )

    @cached_property
    def _slow(self) -> float:
        """For how many bytes of a bulk transfer a byte of rows keeps a link on the way to a host busy."""
        calibration = self.seats.calibration
        ratios = []
        for rank in np.flatnonzero(self.work.read + self.work.prefetched + self.work.updated).tolist():
            for link in self._routes[self.seats.domains[rank], self.seats.gpus[rank]]:
                cable = self.cabling.cables[link]
                bulk = cable.rate * calibration.number(EFFICIENCY[cable.kind])
                ratios.append(
                    bulk / row_rate(self.seats.router.edge((cable.source, cable.target)), calibration)
                )
        return max(ratios, default=1.0)

    # -- the ranks -----------------------------------------------------------------------------------------

    def _rank(self, rank: int) -> Process:
        work = self.work
        prefetching = self._prefetch(rank) if self.prefetch else []
        self._post("indices", rank, lambda other: work.indices[rank, other])
        yield self._inbox["indices"][rank]
        if not self.prefetch:
            yield from self._phase(rank, "cache", "copy", 0.0, self._prefetch(rank))
        reads = [self._host(rank, work.read[rank], back=False)] if work.read[rank] >= SMALL else []
        yield from self._phase(rank, "lookup", "forward", 0.0, reads)
        yield from self._phase(rank, "lookup", "forward", work.lookup[rank])
        self._post("pooled", rank, lambda other: work.pooled[rank, other])
        self._post("inside", rank, lambda other: work.inside[rank, other])
        yield self._inbox["inside"][rank]
        self._post("outside", rank, lambda other: work.outside[rank, other])
        yield self._inbox["pooled"][rank] & self._inbox["outside"][rank]
        self._note("exchange")
        yield from self._phase(rank, "dense", "backward", self.dense)
        if self.training:
            yield from self._backward(rank)
        yield self.env.all_of(prefetching)
        self._note("end")

    def _backward(self, rank: int) -> Process:
        work = self.work
        self._post("gradients", rank, lambda other: work.pooled[other, rank])
        self._post("spread", rank, lambda other: work.outside[other, rank])
        if work.gradient[rank] >= SMALL and self.world > 1:
            self._post("sums", rank, lambda other: self._sum(rank, other))
            yield self._inbox["sums"][rank]
        yield self._inbox["gradients"][rank] & self._inbox["spread"][rank]
        if work.inside.any():
            moved = [
                self._send(self.seats.gpus[rank], self.seats.gpus[other], work.inside[other, rank])
                for other in np.flatnonzero(work.inside[:, rank] >= SMALL).tolist()
            ]
            yield self.env.all_of(moved)
        self._note("gradients")
        for back in (False, True):
            size = work.updated[rank]
            rows = [self._host(rank, size, back=back)] if size >= SMALL else []
            yield from self._phase(rank, "update", "optimizer", 0.0, rows)
        yield from self._phase(rank, "update", "optimizer", work.update[rank])

    def _sum(self, rank: int, other: int) -> float:
        """Return what a rank sends another one in a ring over its host and a ring over the hosts, bytes."""
        size, local = 2.0 * float(self.work.gradient[rank]), self.local
        host, place = divmod(rank, local)
        hosts = self.world // local
        sent = 0.0
        if other == host * local + (place + 1) % local and other != rank:
            sent += size * (local - 1) / local
        if other == (rank + local) % self.world and other != rank:
            sent += size * (hosts - 1) / self.world
        return sent

    def _prefetch(self, rank: int) -> list[simpy.Event]:
        size = self.work.prefetched[rank]
        if size < SMALL:
            return []
        ways = (False, True) if self.training else (False,)
        return [self.env.process(self._in_turn(rank, size, ways))]

    def _in_turn(self, rank: int, size: float, ways: Sequence[bool]) -> Process:
        for back in ways:
            yield self._host(rank, size, back=back)

    def _phase(
        self, rank: int, name: str, category: Category, seconds: float, moves: Sequence[simpy.Event] = ()
    ) -> Process:
        """Wait for moves of rows, then keep the GPU busy."""
        start = self.env.now
        if moves:
            yield self.env.all_of(moves)
        if seconds > 0.0:
            yield self.env.timeout(seconds)
        if self.env.now > start:
            self.busy[rank] += self.env.now - start
            self.spans.append(Busy(start, self.seats.gpus[rank], self.env.now, name, category))
        self._note(name)

    def _note(self, phase: str) -> None:
        self.finish[phase] = float(self.env.now)

    def _post(self, phase: str, rank: int, size: Callable[[int], float]) -> None:
        """Send a rank's part of an exchange; a rank goes on when it has heard from all."""
        for other in range(self.world):
            amount = float(size(other))
            if other == rank or amount < SMALL:
                self._arrive(phase, other)
                continue
            done = self._send(self.seats.gpus[rank], self.seats.gpus[other], amount)
            assert done.callbacks is not None
            done.callbacks.append(partial(self._arrive, phase, other))

    def _arrive(self, phase: str, rank: int, _: simpy.Event | None = None) -> None:
        self._missing[phase][rank] -= 1
        if self._missing[phase][rank] == 0:
            self._inbox[phase][rank].succeed()
