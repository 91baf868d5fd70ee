"""A network as one SimPy object: transfers share its links max-min fairly, as a fluid.

A transfer first pays the latency of its route and then drains over all its links at once. The network keeps
one pending wake-up, for the next transfer to finish, and takes all that happens at one time as one event.
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from simpy.events import NORMAL

from planner.errors import SimulationError, nearest
from planner.simulate.alarm import LAST, Alarm, Signal
from planner.simulate.fairness import ROUNDING
from planner.simulate.fluid import Ended, Fluid, PlainFluid
from planner.simulate.links import NO_WAITS, FlowRecord, LinkSpec
from planner.simulate.priorities import PriorityStack
from planner.simulate.utilisation import Utilisation, combine

if TYPE_CHECKING:
    import simpy


class _Path(NamedTuple):
    """A route in one priority class.

    Attributes
    ----------
    fluid, number
        The class, and the number of the route there.
    latency, alone
        s; rate of a flow that meets no other, bytes/s.
    limit
        Row that sets this rate; -1 on an empty route.
    uses
        Rows that it crosses, each with the capacity that a byte takes there.
    """

    fluid: Fluid
    number: int
    latency: float
    alone: float
    limit: int
    uses: tuple[tuple[int, float], ...]


class _Transfer(NamedTuple):
    """A transfer under way; ``start`` in s, ``size`` in bytes, ``cap`` in bytes/s."""

    done: Signal
    start: float
    size: float
    route: tuple[int, ...]
    cap: float
    tag: str
    path: _Path


class _Lone:
    """A transfer that has met no other on its rows yet: no sharing, and its end is known.

    ``begin`` and ``rate`` are of its bytes, s and bytes/s; ``met`` says that it is a flow like others by now.
    """

    __slots__ = ("begin", "met", "rate", "transfer")

    def __init__(self, transfer: _Transfer, begin: float) -> None:
        self.transfer, self.begin, self.met = transfer, begin, False
        self.rate = min(transfer.path.alone, transfer.cap)


class Network:
    """Directed links shared max-min fairly by the transfers under way.

    Parameters
    ----------
    env
        Clock.
    links
        A link is known by its place here.
    groups
        Total capacity of each duplex group, bytes/s, over all links that name it.
    record
        Whether to keep what `utilisation` and the waits of a `FlowRecord` need.
    compiled
        Whether to use the solver compiled by numba, which gives the same answers; None: if numba is there.

    Attributes
    ----------
    names
        Names of all rows: the links, then the groups.
    """

    def __init__(
        self,
        env: simpy.Environment,
        links: Sequence[LinkSpec],
        groups: Mapping[str, float] | None = None,
        *,
        record: bool = True,
        compiled: bool | None = None,
    ) -> None:
        groups = groups or {}
        self.env, self.links, self.record = env, tuple(links), record
        self.names = (*(link.name for link in links), *groups)
        self._capacity = [float(rate) for rate in (*(link.rate for link in links), *groups.values())]
        self._latency = [float(link.latency) for link in links]
        self._uses = _uses_of_links(self.links, groups)
        self._began = env.now
        self._classes = PriorityStack(self._capacity, partial(_fluid_type(compiled), record=record))
        self._paths: dict[tuple[tuple[int, ...], int], _Path] = {}
        self._flows_on = [0] * len(self.names)
        self._lone_on: dict[int, _Lone] = {}  # by row
        self._settling = False
        self._wake_up: simpy.Event | None = None
        self._wake_up_time = math.inf

    def send(
        self,
        route: Sequence[int],
        size: float,
        *,
        cap: float = math.inf,
        priority: int = 0,
        tag: str = "",
        delay: float = 0.0,
    ) -> simpy.Event:
        """Start a transfer.

        Parameters
        ----------
        route
            Link indices in order; empty for a transfer that stays where it is.
        size
            Bytes; none takes only the latency.
        cap
            Highest rate of this transfer, bytes/s.
        priority
            Class of the transfer: lower numbers are served first, each class taking all it can use.
        tag
            Kept in the record.
        delay
            Time that passes before the latency of the route, s.

        Returns
        -------
        simpy.Event
            Succeeds when the last byte has arrived, with a `FlowRecord`.
        """
        if not (0.0 <= size < math.inf and cap > 0.0):
            raise SimulationError(f"transfer {tag!r}: size must be finite and not negative, cap positive")
        path = self._path(tuple(route), priority)
        now = self.env.now
        transfer = _Transfer(Signal(self.env), now, size, tuple(route), cap, tag, path)
        latency = path.latency + delay
        if latency > 0.0 and size > 0.0 and self._is_free(path):
            self._send_alone(_Lone(transfer, now + latency), latency)
        elif latency > 0.0:
            Alarm(self.env, partial(self._begin, transfer), latency, NORMAL)
        else:
            self._begin(transfer)
        return transfer.done

    def utilisation(self) -> Utilisation:
        """Return the load of every link and group from the network's creation until now."""
        if not self.record:
            raise SimulationError("this network does not record; make it with record=True")
        begun = [lone for lone in dict.fromkeys(self._lone_on.values()) if lone.begin <= self.env.now]
        for lone in begun:
            self._meet(lone)
        if begun:
            self._classes.update(self.env.now)
            self._arm()
        times, loads, first = combine(self._classes.logs(), len(self.names))
        return Utilisation(
            self.names,
            np.array(self._capacity),
            self._began,
            self.env.now,
            times,
            loads,
            first,
            self._classes.waiting(),
        )

    def _path(self, route: tuple[int, ...], priority: int) -> _Path:
        path = self._paths.get((route, priority))
        if path is None:
            path = self._paths[route, priority] = self._new_path(route, priority)
        return path

    def _new_path(self, route: tuple[int, ...], priority: int) -> _Path:
        if route and not (min(route) >= 0 and max(route) < len(self.links)):
            wrong = next(link for link in route if not 0 <= link < len(self.links))
            raise SimulationError(f"there is no link {wrong}; the last is {len(self.links) - 1}")
        weights: dict[int, float] = {}
        for link in route:
            for row, weight in self._uses[link]:
                weights[row] = weights.get(row, 0.0) + weight
        latency = sum([self._latency[link] for link in route])
        shares = {row: self._capacity[row] / weight for row, weight in weights.items()}
        limit = min(shares, key=shares.__getitem__, default=-1)
        alone = shares.get(limit, math.inf)
        fluid = self._classes.fluid(priority)
        number = fluid.add_route(list(weights), list(weights.values()), alone)
        return _Path(fluid, number, latency, alone, limit, tuple(weights.items()))

    def _begin(self, transfer: _Transfer, event: simpy.Event | None = None) -> None:
        """Let the bytes flow, now that the latency is paid."""
        if transfer.size == 0.0 or (not transfer.route and transfer.cap == math.inf):
            self._complete(Ended(transfer, -1, {}))
            return
        self._start(transfer, transfer.size)
        if event is not None and not self._settling and self.env.peek() > self.env.now:
            self._settle(event)  # nothing else can happen at this time
        else:
            self._settle_last()

    def _start(self, transfer: _Transfer, size: float) -> None:
        path = transfer.path
        for row, _ in path.uses:
            if row in self._lone_on:
                self._meet(self._lone_on[row])
            self._flows_on[row] += 1
        path.fluid.start(transfer, path.number, size, transfer.cap)

    # -- transfers that meet no other ----------------------------------------------------------------------

    def _is_free(self, path: _Path) -> bool:
        """Whether a route has links, and nothing is on them or known to come."""
        for row, _ in path.uses:
            if self._flows_on[row] or row in self._lone_on:
                return False
        return bool(path.uses)

    def _send_alone(self, lone: _Lone, latency: float) -> None:
        for row, _ in lone.transfer.path.uses:
            self._lone_on[row] = lone
        Alarm(self.env, partial(self._end_alone, lone), latency + lone.transfer.size / lone.rate, NORMAL)

    def _end_alone(self, lone: _Lone, _: simpy.Event) -> None:
        if lone.met:
            return
        self._take_off(lone)
        transfer = lone.transfer
        self._note(lone)
        limit = transfer.path.limit if transfer.path.alone <= transfer.cap else -1
        record = FlowRecord(
            transfer.start, self.env.now, transfer.size, transfer.route, transfer.tag, limit, NO_WAITS
        )
        transfer.done.happen(record)

    def _meet(self, lone: _Lone) -> None:
        """Make a flow like others of it, with the bytes that are left, as another comes to its rows."""
        now = self.env.now
        self._take_off(lone)
        if lone.begin > now:
            Alarm(self.env, partial(self._begin, lone.transfer), lone.begin - now, NORMAL)
            return
        self._note(lone)
        self._start(lone.transfer, max(lone.transfer.size - lone.rate * (now - lone.begin), 0.0))

    def _take_off(self, lone: _Lone) -> None:
        lone.met = True
        for row, _ in lone.transfer.path.uses:
            del self._lone_on[row]

    def _note(self, lone: _Lone) -> None:
        """Log what a transfer put on its rows from its begin until now."""
        if not self.record:
            return
        path, now = lone.transfer.path, self.env.now
        for row, weight in path.uses:
            load, capacity = lone.rate * weight, self._capacity[row]
            path.fluid.note(lone.begin, row, load if load < capacity * (1.0 - ROUNDING) else capacity)
            path.fluid.note(now, row, 0.0)

    # -- sharing -------------------------------------------------------------------------------------------

    def _settle_last(self) -> None:
        if not self._settling:
            self._settling = True
            Alarm(self.env, self._settle, 0.0, LAST)

    def _settle(self, _: simpy.Event) -> None:
        """Share the links anew, once everything that happens at this time has happened."""
        self._settling = False
        self._classes.update(self.env.now)
        self._arm()

    def _arm(self) -> None:
        """Have a wake-up pending no later than the next finish; one that comes too early arms again."""
        finish = self._classes.next_finish()
        if finish < self._wake_up_time:
            self._wake_up_time = finish
            self._wake_up = Alarm(self.env, self._wake, max(finish - self.env.now, 0.0), NORMAL)

    def _wake(self, event: simpy.Event) -> None:
        if event is not self._wake_up:
            return
        self._wake_up, self._wake_up_time = None, math.inf
        ended = self._classes.due(self.env.now)
        if len(ended) == 1 and not self._settling and self._classes.next_finish() == math.inf:
            self._settle(event)  # the only flow there was
            self._leave(ended[0])
            return
        for flow in ended:
            self._leave(flow)
        if ended:
            self._settle_last()
        else:
            self._arm()

    def _leave(self, ended: Ended) -> None:
        transfer = ended.token
        assert isinstance(transfer, _Transfer)
        for row, _ in transfer.path.uses:
            self._flows_on[row] -= 1
        self._complete(ended)

    def _complete(self, ended: Ended) -> None:
        transfer = ended.token
        assert isinstance(transfer, _Transfer)
        record = FlowRecord(
            transfer.start,
            self.env.now,
            transfer.size,
            transfer.route,
            transfer.tag,
            ended.bottleneck,
            ended.waits,
        )
        transfer.done.succeed(record)


def is_compiled(wanted: bool | None) -> bool:
    """Return whether the compiled solver is to be used; ``None`` means if it is there.

    Raises
    ------
    SimulationError
        If it is wanted and not there.
    """
    there = importlib.util.find_spec("numba") is not None
    if wanted and not there:
        raise SimulationError("the compiled solver needs numba: pip install 'planner[numba]'")
    return there if wanted is None else wanted


def _fluid_type(compiled: bool | None) -> Callable[..., Fluid]:
    if not is_compiled(compiled):
        return PlainFluid
    from planner.simulate.compiled import CompiledFluid  # here, as numba is optional and slow to import

    return CompiledFluid


def _uses_of_links(
    links: Sequence[LinkSpec], groups: Mapping[str, float]
) -> list[tuple[tuple[int, float], ...]]:
    """Return per link the rows that it crosses and the capacity that each byte takes there."""
    counts = Counter([link.name for link in links] + list(groups))
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise SimulationError(f"links and groups need names of their own; repeated: {', '.join(repeated)}")
    row_of_group = {name: len(links) + place for place, name in enumerate(groups)}
    for name, capacity in groups.items():
        if not 0.0 < capacity < math.inf:
            raise SimulationError(f"duplex group {name!r}: the capacity must be positive and finite")
    uses = []
    for index, link in enumerate(links):
        rows = [(index, 1.0)]
        if link.group is not None:
            if link.group not in row_of_group:
                hint = nearest(link.group, row_of_group)
                also = f"; did you mean {hint!r}?" if hint else ""
                raise SimulationError(f"link {link.name!r}: no duplex group {link.group!r}{also}")
            rows.append((row_of_group[link.group], link.group_weight))
        uses.append(tuple(rows))
    return uses
