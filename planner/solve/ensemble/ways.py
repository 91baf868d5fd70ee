"""How data go from stage to stage, and what that costs every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from planner.costs import MemoryMode
from planner.placement.ensemble_design import Key
from planner.placement.ensemble_problem import SHARES, Levels, Way
from planner.solve.ensemble.choices import Choices
from planner.solve.ensemble.places import Places
from planner.solve.expressions import Expression, add_up

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


class Ways:
    """Booleans ``mode[way, class]`` and mean times ``fine[way, class]`` in `SHARES`-ths of a tick."""

    def __init__(self, choices: Choices, places: Places) -> None:
        self.model, self.problem = choices.model, choices.problem
        self.choices, self.places = choices, places
        self.modes: dict[tuple[Key, MemoryMode, str], cp_model.IntVar] = {}
        self.fine = {
            (index, request): self._time(index, way, request)
            for index, way in enumerate(self.problem.ways)
            for request in range(len(self.problem.classes))
        }

    def _time(self, index: int, way: Way, request: int) -> Expression:
        """Return the time of a class on a way; exactly one manner of carrying holds."""
        manners = self._manners(index, way, request)
        if not manners:
            return 0
        base = add_up(SHARES * levels[0] * carried for carried, levels in manners)
        if way.source is None or way.target is None or len(self.problem.domains) == 1:
            return base
        return base + self._distance(
            (way.source, request), (way.target, request), manners, f"{index},{request}"
        )

    def _manners(self, index: int, way: Way, request: int) -> list[tuple[cp_model.IntVar, Levels]]:
        """Return the ways to carry the data, each a boolean with its times."""
        gpu = self.choices.on_gpu
        size = self.problem.size(way, self.problem.classes[request])
        prices, key = self.problem.prices, (index, request)
        if way.source is None:
            assert way.target is not None
            needs = "gpu" in self.problem.stages[way.target].sides
            return self._copies(key, prices.host_copy(size, "in"), gpu[way.target], "in") if needs else []
        if way.target is None:
            needs = "gpu" in self.problem.stages[way.source].sides
            return self._copies(key, prices.host_copy(size, "out"), gpu[way.source], "out") if needs else []
        left, right = gpu[way.source], gpu[way.target]
        first, last = self.problem.stages[way.source].sides, self.problem.stages[way.target].sides
        found: list[tuple[cp_model.IntVar, Levels]] = []
        if "cpu" in first and "cpu" in last:
            found.append((self._both(left.negated(), right.negated()), prices.hand_over(size)))
        if "cpu" in first and "gpu" in last:
            found += self._copies(key, prices.host_copy(size, "in"), self._both(left.negated(), right), "in")
        if "gpu" in first and "cpu" in last:
            found += self._copies(
                key, prices.host_copy(size, "out"), self._both(left, right.negated()), "out"
            )
        if "gpu" in first and "gpu" in last:
            found += self._between(way, request, size, self._both(left, right))
        return found

    def _both(self, left: cp_model.LiteralT, right: cp_model.LiteralT) -> cp_model.IntVar:
        found = self.model.new_bool_var("both")
        self.model.add_bool_and([left, right]).only_enforce_if(found)
        self.model.add_bool_or([*(literal.negated() for literal in (left, right)), found])  # type: ignore[union-attr]
        return found

    def _copies(
        self, key: Key, options: Mapping[MemoryMode, Levels], needed: cp_model.IntVar, direction: str
    ) -> list[tuple[cp_model.IntVar, Levels]]:
        """Return one boolean per memory mode that may be best; exactly one where a copy is needed."""
        found = []
        for mode in worthwhile(options):
            chosen = self.model.new_bool_var(f"mode[{key},{mode}]")
            self.modes[key, mode, direction] = chosen
            found.append((chosen, options[mode]))
        self.model.add(add_up(chosen for chosen, _ in found) == needed)
        return found

    def _between(
        self, way: Way, request: int, size: float, needed: cp_model.IntVar
    ) -> list[tuple[cp_model.IntVar, Levels]]:
        """Return staying on the units, a copy from GPU to GPU where both are whole, one through the host."""
        assert way.source is not None
        assert way.target is not None
        left, right = (way.source, request), (way.target, request)
        stays, staged = (self.model.new_bool_var(f"{name}[{left},{right}]") for name in ("stays", "staged"))
        self.model.add(stays == self.choices.together(left, right))
        found: list[tuple[cp_model.IntVar, Levels]] = [
            (stays, (0, 0, 0)), (staged, self.problem.prices.staged_copy(size))
        ]  # fmt: skip
        direct = self.problem.prices.peer_copy(size)
        if direct is not None:
            peer = self.model.new_bool_var(f"peer[{left},{right}]")
            self.model.add(peer <= self.choices.whole(left))
            self.model.add(peer <= self.choices.whole(right))
            found.append((peer, direct))
        self.model.add(add_up(chosen for chosen, _ in found) == needed)
        return found

    def _distance(
        self, left: Key, right: Key, manners: Sequence[tuple[cp_model.IntVar, Levels]], name: str
    ) -> Expression:
        """Return what distance adds: requests that leave their domain, and those that leave their node."""
        near = self._common(left, right, [(domain.index,) for domain in self.problem.domains])
        found: Expression = 0
        steps = [(near, [levels[1] - levels[0] for _, levels in manners])]
        if len(self.problem.node_members) > 1:
            within = self._common(left, right, self.problem.node_members)
            steps.append((within, [levels[2] - levels[1] for _, levels in manners]))
        for place, (common, extra) in enumerate(steps):
            if not any(extra):
                continue
            added = self.model.new_int_var(0, SHARES * max(extra), f"far{place}[{name}]")
            for (carried, _), each in zip(manners, extra, strict=True):
                if each:
                    self.model.add(added >= each * (SHARES - common)).only_enforce_if(carried)
            found = found + added
        return found

    def _common(self, left: Key, right: Key, parts: Sequence[Sequence[int]]) -> Expression:
        """Return the share of requests whose two stages are in one part of the machine, in `SHARES`-ths."""
        found: list[Expression] = []
        for part in parts:
            common = self.model.new_int_var(0, SHARES, f"common[{left},{right},{part}]")
            for key in (left, right):
                self.model.add(common <= add_up(self.places.dealt[key][domain] for domain in part))
            found.append(common)
        return add_up(found)


def worthwhile(options: Mapping[MemoryMode, Levels]) -> list[MemoryMode]:
    """Return the memory modes that are best somewhere: pinned copies, and the best of what pins nothing."""
    kept: list[MemoryMode] = []
    for mode, levels in sorted(options.items(), key=lambda item: item[1]):
        rivals = [options[other] for other in kept if other != "pinned-copy"]
        if not any(all(one <= own for one, own in zip(rival, levels, strict=True)) for rival in rivals):
            kept.append(mode)
    return kept
