"""What a request of an ensemble moves between two stations, as moves over the links of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from planner.costs import MemoryMode, transfer_options
from planner.errors import SimulationError
from planner.placement import EnsembleProblem
from planner.simulate.cabling import Cabling
from planner.simulate.ensemble_layout import Move
from planner.simulate.symmetry import alone_rate
from planner.topology import route

Direction = Literal["in", "out"]
ENGINES: dict[Direction, str] = {"in": "to", "out": "from"}


class Seat(NamedTuple):
    """Where a station is: node, NUMA domain, GPU, start of its slice; the last two ``None`` on the host."""

    node: str
    numa: str
    gpu: str | None = None
    start: int | None = None

    @property
    def host(self) -> Seat:
        """Host memory next to it."""
        return Seat(self.node, self.numa)

    @property
    def part(self) -> str:
        """``NODE/PART``."""
        return f"{self.node}/{self.gpu or self.numa}"


class Mover:
    """Makes moves between seats."""

    def __init__(self, problem: EnsembleProblem, cabling: Cabling) -> None:
        self.problem, self.cabling = problem, cabling

    def between(
        self, left: Seat, right: Seat, size: float, mode: MemoryMode | None, *, whole: bool
    ) -> tuple[Move, ...]:
        """Return the moves of some bytes; none where they stay.

        Parameters
        ----------
        mode
            Memory mode of a copy between host and GPU.
        whole
            Whether both ends are whole GPUs, which may have a direct way.
        """
        if left == right or size <= 0.0:
            return ()
        if left.gpu is not None and right.gpu is not None:
            direct = self._peer(left, right, size) if whole else None
            return (direct,) if direct is not None else tuple(self._staged(left, right, size))
        if left.gpu is None and right.gpu is None:
            return (self._carried(left, right, size),)
        assert mode is not None
        return tuple(self._copied(left, right, size, mode))

    def _staged(self, left: Seat, right: Seat, size: float) -> Iterator[Move]:
        yield self._copy(left.host, left, size, "pinned-copy", "out")
        if left.host != right.host:
            yield self._carried(left.host, right.host, size)
        yield self._copy(right.host, right, size, "pinned-copy", "in")

    def _copied(self, left: Seat, right: Seat, size: float, mode: MemoryMode) -> Iterator[Move]:
        if right.gpu is not None:
            if left.node != right.node:
                yield self._carried(left, right.host, size)
                left = right.host
            yield self._copy(left, right, size, mode, "in")
            return
        if left.node != right.node:
            yield self._copy(left.host, left, size, mode, "out")
            yield self._carried(left.host, right, size)
            return
        yield self._copy(right, left, size, mode, "out")

    def _carried(self, left: Seat, right: Seat, size: float) -> Move:
        """Return a hand-over from host memory to host memory."""
        links = self.cabling.route(left.part, right.part)
        cap = alone_rate(links, self.cabling.cables)
        return Move("hand-over", links, size, self.cabling.latency(links), cap)

    def _peer(self, left: Seat, right: Seat, size: float) -> Move | None:
        """Return a copy from GPU to GPU; ``None`` where the judge knows no direct way."""
        if left.node != right.node or self.problem.prices.peer_copy(size) is None:
            return None
        links = self.cabling.route(left.part, right.part)
        start = self.problem.calibration.number("host_latency") + self.cabling.latency(links)
        cap = alone_rate(links, self.cabling.cables)
        return Move("peer copy", links, size, start, cap, f"{left.part} peer")

    def _copy(self, host: Seat, device: Seat, size: float, mode: MemoryMode, direction: Direction) -> Move:
        """Return a move between host memory and a GPU of one node, in a memory mode."""
        assert device.gpu is not None
        machine = self.problem.machines[host.node]
        ends = (host.numa, device.gpu) if direction == "in" else (device.gpu, host.numa)
        way = route(machine.graph, *ends)
        if way is None:
            raise SimulationError(f"nothing joins {host.part} and {device.part}")
        addressing = next(gpu.addressing for gpu in machine.gpus if gpu.name == device.gpu)
        options = transfer_options(size, way, addressing, self.problem.calibration)
        seconds = next((option.seconds for option in options if option.mode == mode), None)
        if seconds is None:
            raise SimulationError(f"{device.part} cannot use the memory mode {mode!r} from {host.part}")
        parts = (host.part, device.part) if direction == "in" else (device.part, host.part)
        links = self.cabling.route(*parts)
        number = self.problem.calibration.number
        reached = {
            "pageable-copy": number("pageable_ratio"),
            "coherent": number("coherent_access_efficiency"),
        }.get(mode, 1.0)
        cap = reached * min(self.cabling.cables[link].rate for link in links)
        engine = None if mode == "coherent" else f"{device.part} {ENGINES[direction]} host"
        blocking = mode == "pageable-copy" and direction == "in"
        return Move(f"{mode}", links, size, max(seconds - size / cap, 0.0), cap, engine, blocking)
