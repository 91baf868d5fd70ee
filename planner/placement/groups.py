"""Groups of a rank mesh on a machine: how many members of each group share each locality domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs import ServingSpans, Spans
from planner.placement.plan import Strategy
from planner.topology import Hierarchy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def members_per_domain(groups: IntArray, hierarchy: Hierarchy) -> FloatArray:
    """Return, per level, the least number of members that any group has in a domain that it touches.

    Parameters
    ----------
    groups : ndarray, shape (num_groups, group_size)
        GPU numbers of every group.

    Returns
    -------
    ndarray, shape (levels,)
    """
    counts = []
    for level in hierarchy.levels:
        domains = level.domain_of[groups]
        keys = domains + np.arange(len(groups))[:, None] * (int(level.domain_of.max()) + 1)
        counts.append(np.unique(keys, return_counts=True)[1].min())
    return np.asarray(counts, dtype=float)


def worst_hop(left: IntArray, right: IntArray, hierarchy: Hierarchy) -> int:
    """Return the highest level that any pair of GPUs crosses; one past the last where none joins them."""
    joined = np.full(len(left), len(hierarchy.levels))
    for number in reversed(range(len(hierarchy.levels))):
        domains = hierarchy.levels[number].domain_of
        joined = np.where(domains[left] == domains[right], number, joined)
    return int(joined.max(initial=0))


def mesh_of(strategy: Strategy, gpus: IntArray) -> IntArray:
    """Return the GPU numbers as a mesh of shape (pp, dp, cp, tp)."""
    return gpus.reshape(strategy.pp, strategy.dp, strategy.cp, strategy.tp)


def training_spans(strategy: Strategy, gpus: IntArray, hierarchy: Hierarchy) -> Spans:
    """Return the spans of a rank order, each array with one row."""
    mesh = mesh_of(strategy, gpus)
    plane = mesh.reshape(strategy.pp, -1)
    tensor = mesh.reshape(-1, strategy.tp)
    context = mesh.swapaxes(2, 3).reshape(-1, strategy.cp)
    data = mesh.transpose(0, 3, 1, 2).reshape(-1, strategy.dp * strategy.cp)
    blocks = plane.reshape(strategy.pp, -1, strategy.ep)
    expert = blocks.reshape(-1, strategy.ep)
    expert_data = blocks.swapaxes(1, 2).reshape(-1, plane.shape[1] // strategy.ep)
    groups = {"tp": tensor, "cp": context, "data": data, "expert": expert, "expert_data": expert_data}
    rows = {name: members_per_domain(group, hierarchy)[None, :] for name, group in groups.items()}
    hop = 0
    if strategy.pp > 1:
        hop = worst_hop(mesh[:-1].ravel(), mesh[1:].ravel(), hierarchy)
        if strategy.virtual > 1:
            hop = max(hop, worst_hop(mesh[-1].ravel(), mesh[0].ravel(), hierarchy))
    return Spans(**rows, pipeline=np.asarray([hop]))


def serving_spans(strategy: Strategy, gpus: IntArray, hierarchy: Hierarchy) -> ServingSpans:
    """Return the spans of replicas laid out one after the other: shape (replicas, pp, tp) flattened."""
    mesh = gpus.reshape(strategy.dp, strategy.pp, strategy.tp)
    tensor = members_per_domain(mesh.reshape(-1, strategy.tp), hierarchy)[None, :]
    copies = mesh.reshape(-1, strategy.tp // strategy.adp)
    attention = tensor if strategy.adp == 1 else members_per_domain(copies, hierarchy)[None, :]
    hop = worst_hop(mesh[:, :-1].ravel(), mesh[:, 1:].ravel(), hierarchy) if strategy.pp > 1 else 0
    return ServingSpans(tensor, attention, np.asarray([hop]))
