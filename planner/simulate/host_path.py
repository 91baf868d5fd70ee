"""The way of a request through a host: CPU stages on their cores, hand-overs, copies to the GPU and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, TypeAlias

from planner.costs.host import service_time
from planner.errors import SimulationError
from planner.placement import CpuPlacement, Replica, ServingProblem, Transfer, host_options
from planner.simulate.cabling import Cabling
from planner.simulate.engines import CopyEngine, CorePool, Server
from planner.simulate.network import Network
from planner.simulate.outcome import MOST_SPANS, Busy, Category
from planner.simulate.symmetry import alone_rate
from planner.workload import CpuStage

if TYPE_CHECKING:
    import simpy

Then: TypeAlias = Callable[[], None]
Part: TypeAlias = Callable[[Then], None]
"""A part of a request's way: starts it, and calls something at its end."""


@dataclass(frozen=True)
class Move:
    """Bytes that cross the links of a host for every request.

    Attributes
    ----------
    latency
        Fixed part, s.
    cap
        Highest rate, bytes/s.
    copied
        Whether a copy engine does it; loads and stores of the GPU need none.
    """

    name: str
    route: tuple[int, ...]
    size: float
    latency: float
    cap: float
    copied: bool


@dataclass(frozen=True)
class Stage:
    """A CPU stage on the cores of one NUMA domain.

    Attributes
    ----------
    workers
        Requests at once.
    service
        Time of one request, s.
    handed
        Move of the result to the next stage, if that is in another domain.
    """

    name: str
    workers: int
    service: float
    handed: Move | None


@dataclass(frozen=True)
class HostPlan:
    """What happens to a request on the host of a replica, before the model and after it."""

    before: list[Stage]
    inwards: list[Move]
    outwards: list[Move]
    after: list[Stage]


def host_plan(problem: ServingProblem, replica: Replica, cabling: Cabling) -> HostPlan:
    """Return the stages and moves of a replica.

    Raises
    ------
    SimulationError
        If the plan places no pool for a stage, or a pool without a worker.
    """
    moves = [_transfer(problem, replica, transfer, cabling) for transfer in replica.transfers]
    return HostPlan(
        list(_stages(problem, replica, problem.job.before, cabling)),
        [move for move, into in moves if into],
        [move for move, into in moves if not into],
        list(_stages(problem, replica, problem.job.after, cabling)),
    )


def _stages(
    problem: ServingProblem, replica: Replica, stages: Sequence[CpuStage], cabling: Cabling
) -> Iterator[Stage]:
    machine = problem.topology.node_of[replica.node].machine
    place: Mapping[str, CpuPlacement] = {item.stage: item for item in replica.stages}
    for stage, following in zip_longest(stages, stages[1:]):
        pool = place.get(stage.name)
        if pool is None or pool.cores < stage.parallel:
            raise SimulationError(
                f"{replica.name}: no worker for the CPU stage {stage.name!r}; check the plan"
            )
        handed = None
        if following is not None and following.name in place and place[following.name].numa != pool.numa:
            ends = (f"{replica.node}/{pool.numa}", f"{replica.node}/{place[following.name].numa}")
            route = cabling.route(*ends)
            cap = alone_rate(route, cabling.cables)
            handed = Move(stage.name, route, stage.bytes_out, cabling.latency(route), cap, copied=False)
        service = service_time(stage, machine.numa_named(pool.numa))
        yield Stage(stage.name, pool.cores // stage.parallel, service, handed)


def _transfer(
    problem: ServingProblem, replica: Replica, transfer: Transfer, cabling: Cabling
) -> tuple[Move, bool]:
    """Return a transfer in its memory mode as a fixed part and a rate, and whether it goes to the GPU."""
    machine = problem.topology.node_of[replica.node].machine
    into = transfer.source in {domain.name for domain in machine.numa}
    numa, gpu = (transfer.source, transfer.target) if into else (transfer.target, transfer.source)
    direction: Literal["in", "out"] = "in" if into else "out"
    options = host_options(problem, machine, numa, gpu, transfer.size, direction)
    seconds = next((option.seconds for option in options if option.mode == transfer.mode), None)
    if seconds is None:
        raise SimulationError(f"{replica.name}: {transfer.name} cannot use the memory mode {transfer.mode!r}")
    route = cabling.route(f"{replica.node}/{transfer.source}", f"{replica.node}/{transfer.target}")
    number = problem.calibration.number
    reached = {
        "pageable-copy": number("pageable_ratio"),
        "coherent": number("coherent_access_efficiency"),
    }.get(transfer.mode, 1.0)
    cap = reached * min(cabling.cables[link].rate for link in route)
    fixed = max(seconds - transfer.size / cap, 0.0)
    return Move(transfer.name, route, transfer.size, fixed, cap, transfer.mode != "coherent"), into


class Host:
    """The pools and copy engines that serve one replica.

    Attributes
    ----------
    pools, engines
        Servers by name: a pool for every CPU stage, a copy engine for each direction.
    workers
        Size of every pool.
    """

    def __init__(self, env: simpy.Environment, name: str, plan: HostPlan, network: Network) -> None:
        self.env, self.plan, self.network = env, plan, network
        stages = (*plan.before, *plan.after)
        self.pools = {
            stage.name: CorePool(env, f"{name} {stage.name}", stage.workers, trace=[]) for stage in stages
        }
        self.engines = {
            move.name: CopyEngine(env, f"{name} {move.name}", trace=[])
            for move in (*plan.inwards, *plan.outwards)
            if move.copied
        }
        self.workers = {stage.name: stage.workers for stage in stages}
        self._before, self._after = self._worked(plan.before), self._worked(plan.after)
        self._inwards = [self._moved(move) for move in plan.inwards]
        self._outwards = [self._moved(move) for move in plan.outwards]

    def before(self, then: Then) -> None:
        """Run a request through the CPU stages before the model; the end is a call, as of all of these."""
        _in_turn(self._before, 0, then)

    def inwards(self, then: Then) -> None:
        """Move a request's bytes to the GPU."""
        _in_turn(self._inwards, 0, then)

    def outwards(self, then: Then) -> None:
        """Move a request's bytes from the GPU."""
        _in_turn(self._outwards, 0, then)

    def after(self, then: Then) -> None:
        """Run a request through the CPU stages after the model."""
        _in_turn(self._after, 0, then)

    def spans(self, most: int = MOST_SPANS) -> Iterator[Busy]:
        """Yield what each server did first."""
        servers: list[tuple[Server, Category]] = [(pool, "cpu") for pool in self.pools.values()]
        servers += [(engine, "copy") for engine in self.engines.values()]
        for server, category in servers:
            for span in (server.trace or [])[:most]:
                yield Busy(span.start, server.name, span.end, span.name, category)

    def _worked(self, stages: Sequence[Stage]) -> list[Part]:
        parts: list[Part] = []
        for stage in stages:
            parts.append(partial(self.pools[stage.name].submit, stage.name, stage.service))
            if stage.handed is not None:
                parts.append(partial(self._carry, stage.handed))
        return parts

    def _moved(self, move: Move) -> Part:
        if not move.copied:
            return partial(self._carry, move)
        return partial(self.engines[move.name].submit, move.name, partial(self._send, move))

    def _carry(self, move: Move, then: Then) -> None:
        done = self._send(move)
        assert done.callbacks is not None
        done.callbacks.append(lambda _: then())

    def _send(self, move: Move) -> simpy.Event:
        return self.network.send(move.route, move.size, cap=move.cap, delay=move.latency)


def _in_turn(parts: Sequence[Part], place: int, then: Then) -> None:
    """Take a request through parts of its way, from one of them on."""
    if place == len(parts):
        then()
    else:
        parts[place](then if place + 1 == len(parts) else partial(_in_turn, parts, place + 1, then))
