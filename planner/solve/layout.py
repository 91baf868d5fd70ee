"""Put the ranks of a mesh on GPUs so that given numbers of each group share each domain.

First by construction, nesting boxes of ranks in domains; where boxes do not tile the machine (odd
domains, degrees that do not divide), by CP-SAT, which also proves that no such layout exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from planner.placement import Strategy
from planner.solve.budget import Budget
from planner.solve.degrees import Chain, Share
from planner.solve.engine import run_model
from planner.solve.expressions import add_up
from planner.topology import Hierarchy

IntArray = NDArray[np.int64]

LARGEST_EXACT = 64
"""Most ranks for which CP-SAT looks for a layout; larger ones are built by construction only."""


def nested_layout(strategy: Strategy, chain: Chain, hierarchy: Hierarchy) -> IntArray | None:
    """Return the GPU numbers in rank order, boxes of ranks nested in domains, ``None`` if they do not fit."""
    boxes = [_box(strategy, share) for share in chain]
    if any(box is None for box in boxes):
        return None
    slots = _slots(hierarchy, [int(np.prod(box)) for box in boxes if box is not None])
    if len(slots) < strategy.num_ranks:
        return None
    order = _nested_order(strategy, [box for box in boxes if box is not None])
    gpus = np.empty(strategy.num_ranks, dtype=np.int64)
    gpus[order] = slots[: strategy.num_ranks]
    return gpus


Box = tuple[int, int, int, int]


def _box(strategy: Strategy, share: Share) -> Box | None:
    """Return the (pp, dp, cp, tp) sizes of the box of ranks that shares a domain."""
    k_tp, k_cp, k_data, k_pp, *_ = share
    k_dp = max(1, k_data // k_cp)
    box = (k_pp, k_dp, k_cp, k_tp)
    sizes = (strategy.pp, strategy.dp, strategy.cp, strategy.tp)
    return box if all(size % part == 0 for size, part in zip(sizes, box, strict=True)) else None


def _slots(hierarchy: Hierarchy, sizes: list[int]) -> IntArray:
    """Return GPUs in domain order, of each domain only as many as whole boxes fill."""
    signature = hierarchy.signature()

    def gather(members: IntArray, level: int) -> IntArray:
        if level < 0:
            return members
        domains = signature[members, level]
        _, first = np.unique(domains, return_index=True)
        parts = [
            _whole(gather(members[domains == domains[start]], level - 1), sizes[level])
            for start in np.sort(first)
        ]
        return np.concatenate(parts) if parts else members[:0]

    return gather(np.arange(hierarchy.num_gpus), len(sizes) - 1)


def _whole(members: IntArray, size: int) -> IntArray:
    return members[: len(members) // size * size]


def _nested_order(strategy: Strategy, boxes: list[Box]) -> IntArray:
    """Return rank numbers box by box: outer boxes one after the other, inner boxes inside them."""
    sizes = (strategy.pp, strategy.dp, strategy.cp, strategy.tp)
    grid = np.indices(sizes).reshape(4, -1)
    keys: list[IntArray] = []
    unit = np.asarray(sizes)
    for box in reversed(boxes):
        part = np.minimum(np.asarray(box), unit)
        keys.extend((grid % unit[:, None]) // part[:, None])
        unit = part
    keys.extend(grid % unit[:, None])
    return np.lexsort(tuple(reversed(keys)))


def weaker_chains(chain: Chain, num_levels: int) -> list[Chain]:
    """Return the chains with one share of one level reduced: what to try when a chain cannot be laid out."""
    found = []
    for level, axis in product(range(num_levels - 1), (0, 2, 3, 4, 5)):
        share = list(chain[level])
        if share[axis] <= 1:
            continue
        share[axis] = 1 if axis == 3 else share[axis] - 1
        share[1] = min(share[1], share[2])
        lowered: Share = (share[0], share[1], share[2], share[3], share[4], share[5])
        inner = tuple(_at_most(item, lowered) for item in chain[:level])
        found.append((*inner, lowered, *chain[level + 1 :]))
    return found


def _at_most(share: Share, limit: Share) -> Share:
    a, b, c, d, e, f = (min(x, y) for x, y in zip(share, limit, strict=True))
    return a, b, c, d, e, f


class LayoutModel:
    """CP-SAT: every rank in one innermost domain, no domain over its size, groups not split too thinly."""

    def __init__(
        self,
        strategy: Strategy,
        chain: Chain,
        hierarchy: Hierarchy,
        model: cp_model.CpModel | None = None,
    ) -> None:
        self.model = model or cp_model.CpModel()
        self.hierarchy, self.strategy = hierarchy, strategy
        inner = hierarchy.levels[0]
        self.sizes = inner.capacities
        self.inside = [
            {d: self.model.new_bool_var(f"in[{rank},{d}]") for d in range(len(self.sizes))}
            for rank in range(strategy.num_ranks)
        ]
        self.parent = [self._parents(level) for level in range(len(hierarchy.levels))]
        self._place_each_rank()
        if model is None:
            respect_sizes(self.model, [self], hierarchy)
        for level, share in enumerate(chain):
            for groups, least in self._groups(share):
                self._keep_together(groups, least, level)
            self._keep_pipeline(share, level)

    def _parents(self, level: int) -> IntArray:
        """Return the domain at ``level`` of every innermost domain."""
        inner, outer = self.hierarchy.levels[0].domain_of, self.hierarchy.levels[level].domain_of
        parents = np.zeros(len(self.sizes), dtype=np.int64)
        parents[inner] = outer
        return parents

    def _place_each_rank(self) -> None:
        for row in self.inside:
            self.model.add_exactly_one(row.values())

    def _mesh(self) -> IntArray:
        s = self.strategy
        return np.arange(s.num_ranks).reshape(s.pp, s.dp, s.cp, s.tp)

    def _groups(self, share: Share) -> list[tuple[IntArray, int]]:
        s, mesh = self.strategy, self._mesh()
        k_tp, k_cp, k_data, _, k_ep, k_edp = share
        plane = mesh.reshape(s.pp, -1, s.ep)
        return [
            (mesh.reshape(-1, s.tp), k_tp),
            (mesh.swapaxes(2, 3).reshape(-1, s.cp), k_cp),
            (mesh.transpose(0, 3, 1, 2).reshape(-1, s.dp * s.cp), k_data),
            (plane.reshape(-1, s.ep), k_ep),
            (plane.swapaxes(1, 2).reshape(-1, plane.shape[1]), k_edp),
        ]

    def _keep_together(self, groups: IntArray, least: int, level: int) -> None:
        """Let a group have no member in a domain, or at least ``least``."""
        if least <= 1:
            return
        for group, domain in product(groups, np.unique(self.parent[level])):
            parts = np.flatnonzero(self.parent[level] == domain)
            count = add_up(self.inside[rank][int(part)] for rank in group for part in parts)
            touched = self.model.new_bool_var("")
            self.model.add(count >= least).only_enforce_if(touched)
            self.model.add(count == 0).only_enforce_if(~touched)

    def _keep_pipeline(self, share: Share, level: int) -> None:
        """All stages of a pipeline in one domain, where the share says so."""
        if share[3] < self.strategy.pp or self.strategy.pp == 1:
            return
        mesh = self._mesh()
        for first, later in zip(
            np.broadcast_to(mesh[0], mesh[1:].shape).ravel(), mesh[1:].ravel(), strict=True
        ):
            for domain in np.unique(self.parent[level]):
                parts = np.flatnonzero(self.parent[level] == domain)
                self.model.add(
                    add_up(self.inside[first][int(p)] for p in parts)
                    == add_up(self.inside[later][int(p)] for p in parts)
                )

    def extract(self, solver: cp_model.CpSolver) -> IntArray:
        """Return the GPU numbers in rank order."""
        return self.extract_from(solver, members(self.hierarchy))

    def extract_from(self, solver: cp_model.CpSolver, free: dict[int, list[int]]) -> IntArray:
        """Return the GPU numbers in rank order, taken from those that are free in each innermost domain."""
        return np.asarray(
            [free[next(d for d, x in row.items() if solver.boolean_value(x))].pop(0) for row in self.inside],
            dtype=np.int64,
        )


def respect_sizes(model: cp_model.CpModel, layouts: Sequence[LayoutModel], hierarchy: Hierarchy) -> None:
    """Let no innermost domain hold more ranks of some layouts than it has GPUs."""
    for domain, size in enumerate(hierarchy.levels[0].capacities):
        model.add(add_up(row[domain] for layout in layouts for row in layout.inside) <= int(size))


def members(hierarchy: Hierarchy) -> dict[int, list[int]]:
    """Return the GPUs of every innermost domain."""
    inner = hierarchy.levels[0]
    return {d: np.flatnonzero(inner.domain_of == d).tolist() for d in range(len(inner.capacities))}


def exact_layout(
    strategy: Strategy, chain: Chain, hierarchy: Hierarchy, budget: Budget
) -> tuple[IntArray | None, bool]:
    """Return a layout with the given shares, and whether the answer is proven.

    ``(None, True)`` means that there is no such layout; ``(None, False)`` that the budget ended.
    """
    found, proven = exact_layouts([(strategy, chain)], hierarchy, budget)
    return (None if found is None else found[0]), proven


def exact_layouts(
    parts: Sequence[tuple[Strategy, Chain]], hierarchy: Hierarchy, budget: Budget
) -> tuple[list[IntArray] | None, bool]:
    """Return layouts with the given shares that have no GPU in common, and whether the answer is proven."""
    if sum(strategy.num_ranks for strategy, _ in parts) > LARGEST_EXACT:
        return None, False
    model = cp_model.CpModel()
    layouts = [LayoutModel(strategy, chain, hierarchy, model) for strategy, chain in parts]
    respect_sizes(model, layouts, hierarchy)
    solver, status = run_model(model, budget)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        free = members(hierarchy)
        return [layout.extract_from(solver, free) for layout in layouts], True
    return None, status == cp_model.INFEASIBLE
