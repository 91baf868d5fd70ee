"""How a step's transfers move: over links that all share, or each as if it were alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from planner.simulate.links import FlowRecord
from planner.simulate.network import Network
from planner.simulate.symmetry import Reduced, TransferClass

if TYPE_CHECKING:
    import simpy


class Carrier(Protocol):
    """Moves the transfers of a bundle."""

    def carry(self, classes: Sequence[TransferClass]) -> simpy.Event:
        """Start transfers now; the event is the arrival of the last byte of all."""


class Uncontended:
    """Every transfer takes its shortest time: for the critical path of a step."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env

    def carry(self, classes: Sequence[TransferClass]) -> simpy.Event:
        """Start transfers; see `Carrier.carry`."""
        return self.env.timeout(max(alike.shortest for alike in classes))


class SharedLinks:
    """Transfers share the links of a reduced network.

    Attributes
    ----------
    lost
        When, by which row of the network, and how long transfers were held back, s; the time counts once for
        each transfer of the whole network that crosses one link of that row.
    """

    def __init__(self, env: simpy.Environment, reduced: Reduced) -> None:
        self.env = env
        self.network = Network(env, reduced.links, reduced.groups)
        self.lost: list[tuple[float, int, float]] = []
        self._rows_of_group: dict[int, list[int]] = defaultdict(list)
        group_row = {name: len(reduced.links) + place for place, name in enumerate(reduced.groups)}
        for row, link in enumerate(reduced.links):
            if link.group is not None:
                self._rows_of_group[group_row[link.group]].append(row)

    def carry(self, classes: Sequence[TransferClass]) -> simpy.Event:
        """Start transfers; see `Carrier.carry`."""
        if len(classes) == 1:
            return self._send(classes[0])
        return self.env.all_of([self._send(alike) for alike in classes])

    def _send(self, alike: TransferClass) -> simpy.Event:
        begin = self.env.now

        def attribute(done: simpy.Event) -> None:
            assert isinstance(done.value, FlowRecord)
            self._attribute(alike, done.value.bottleneck, self.env.now - begin - alike.shortest)

        done = self.network.send(alike.route, alike.size, cap=alike.cap, delay=alike.latency)
        assert done.callbacks is not None
        done.callbacks.append(attribute)
        return done

    def _attribute(self, alike: TransferClass, bottleneck: int, lost: float) -> None:
        """Charge lost time to the links that held a transfer back; a duplex group's to the links in it."""
        if bottleneck < 0 or lost <= 1e-9 * alike.shortest:
            return
        crossed = Counter(alike.route)
        for row in self._rows_of_group.get(bottleneck, [bottleneck]):
            if crossed[row]:
                self.lost.append((self.env.now, row, lost * crossed[row]))
