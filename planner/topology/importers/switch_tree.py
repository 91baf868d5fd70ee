"""Trees of switches as they are read: who hangs below whom, and what contradicts that."""

from __future__ import annotations

from collections.abc import Sequence

from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import Remark


class SwitchTree:
    """Collects switches and what hangs below them; several trees side by side are allowed.

    Attributes
    ----------
    switches
        Lines of the switches, by name, in order of definition.
    nodes
        Lines of the nodes, by name, in order of appearance.
    parents
        First switch above each switch and node.
    links
        Every edge once, the upper end first.
    undefined
        Switches that are named below another but described nowhere.
    remarks
        What was repaired or is in doubt.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.switches: dict[str, int] = {}
        self.nodes: dict[str, int] = {}
        self.parents: dict[str, str] = {}
        self.links: dict[tuple[str, str], None] = {}
        self.undefined: tuple[str, ...] = ()
        self.remarks: list[Remark] = []
        self._below: list[tuple[str, str, int]] = []

    def add_switch(self, name: str, line: int) -> None:
        """Take the description of a switch.

        Raises
        ------
        ImportRefusedError
            If the switch is described already.
        """
        if name in self.switches:
            raise self.refused(line, f"switch {name!r} is described in line {self.switches[name]} already")
        self.switches[name] = line

    def hang_switches(self, above: str, names: Sequence[str], line: int) -> None:
        """Hang switches below another; they may be described later."""
        self._refuse_repeats(names, line)
        self._below += [(above, name, line) for name in names]

    def hang_nodes(self, above: str | None, names: Sequence[str], line: int) -> None:
        """Hang nodes below a switch, or take note of nodes whose switch is unknown."""
        self._refuse_repeats(names, line)
        seconds = []
        for name in names:
            self.nodes.setdefault(name, line)
            if above is not None:
                if self.parents.setdefault(name, above) != above:
                    seconds.append(name)
                self.links[above, name] = None
        if seconds:
            first = self.parents[seconds[0]]
            self._note(line, f"{_some(seconds)} hang on switch {first!r} as well as on {above!r}")

    def finish(self) -> None:
        """Settle the edges between switches.

        Raises
        ------
        ImportRefusedError
            If a switch is its own ancestor, or a name is both a switch and a node.
        """
        for name in self.nodes.keys() & self.switches.keys():
            raise self.refused(self.nodes[name], f"{name!r} is both a switch and a node")
        undefined: dict[str, int] = {}
        for above, name, line in self._below:
            if name not in self.switches:
                undefined.setdefault(name, line)
                continue
            first = self.parents.setdefault(name, above)
            if first != above:
                self._note(line, f"switch {name!r} hangs below {first!r} as well as below {above!r}")
            self.links[above, name] = None
        self.undefined = tuple(undefined)
        for name, line in undefined.items():
            self._note(line, f"switch {name!r} is named here but described nowhere; it is left out")
        self._refuse_cycles()
        used = {above for above, _ in self.links}
        for name in self.switches.keys() - used - undefined.keys():
            self._note(self.switches[name], f"nothing known hangs below switch {name!r}")
        roots = [name for name in self.switches if name not in self.parents]
        if len(roots) > 1:
            some = _some(roots)
            self._note(
                self.switches[roots[1]],
                f"{len(roots)} trees side by side ({some}); what joins them is unknown",
            )
        self.remarks.sort(key=lambda remark: (remark.line, remark.text))

    def refused(self, line: int, text: str) -> ImportRefusedError:
        """Return the error for something that cannot be repaired."""
        return ImportRefusedError(self.source, line, text)

    def _note(self, line: int, text: str) -> None:
        self.remarks.append(Remark(line, text))

    def _refuse_repeats(self, names: Sequence[str], line: int) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise self.refused(line, f"{name!r} is named twice")
            seen.add(name)

    def _refuse_cycles(self) -> None:
        """Take away switches without anything left below them; what remains goes in circles."""
        below: dict[str, set[str]] = {name: set() for name in self.switches}
        above: dict[str, list[str]] = {name: [] for name in self.switches}
        for upper, lower in self.links:
            if lower in self.switches and upper in self.switches:
                below[upper].add(lower)
                above[lower].append(upper)
        ready = [name for name, lower in below.items() if not lower]
        while ready:
            done = ready.pop()
            del below[done]
            for upper in above[done]:
                below[upper].discard(done)
                if not below[upper]:
                    ready.append(upper)
        for name in below:
            raise self.refused(self.switches[name], f"switch {name!r} hangs below itself")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
