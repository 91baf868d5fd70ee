"""The space of training strategies, enumerated at once, and the ways in which groups may span a machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, Spans
from planner.costs.offload import OFFLOAD
from planner.costs.strategy import BLOCK, OVERLAP, RECOMPUTE, SHARDING
from planner.placement import TrainingProblem, broken_rules
from planner.placement.recompute import repeat_choices
from planner.topology import Hierarchy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LARGEST_TP = 64
LARGEST_PP = 128
LARGEST_CP = 64
VIRTUAL = (1, 2, 3, 4, 5, 6, 8)
MICRO_BATCH = (1, 2, 4, 8, 16)


_NAMED = {"recompute": RECOMPUTE, "sharding": SHARDING, "overlap": OVERLAP, "offload": OFFLOAD}
_OUTER = ("tp", "pp", "dp", "cp")


def powers_of_two(limit: int) -> list[int]:
    """Return 1, 2, 4, ... up to ``limit``."""
    return [2**power for power in range(max(limit, 1).bit_length())]


def divisors(number: int) -> list[int]:
    """Return the divisors of a positive number, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def degree_choices(problem: TrainingProblem) -> dict[str, list[int]]:
    """Return the values tried for every degree: the job's own list, else all of the stated space.

    The space: ``tp`` the divisors of the heads; ``pp`` powers of two and divisors of the layers and of the
    number of GPUs; ``dp`` divisors of the global batch; ``cp`` powers of two; ``ep`` divisors of the
    experts. Nothing overlaps less than the stack can, and nothing is offloaded, unless the job's lists
    allow it.
    """
    model, job, gpus = problem.model, problem.job, problem.num_gpus
    limits, experts = job.degrees, model.experts.num_experts if model.experts else 1
    stages = {*powers_of_two(model.layers), *divisors(model.layers), *divisors(gpus)}
    full: dict[str, list[int]] = {
        "tp": [d for d in divisors(model.heads) if d <= min(LARGEST_TP, gpus)],
        "pp": [p for p in sorted(stages) if p <= min(model.layers, gpus, LARGEST_PP)],
        "dp": [d for d in divisors(job.global_batch) if d <= gpus],
        "cp": [c for c in powers_of_two(LARGEST_CP) if c <= gpus and job.sequence // c >= 1024] or [1],
        "ep": [e for e in divisors(experts) if e <= gpus],
        "virtual": list(VIRTUAL),
        "micro_batch": [size for size in MICRO_BATCH if size <= job.global_batch],
        "recompute": list(range(len(RECOMPUTE))),
        "sharding": list(range(len(SHARDING))),
        "sequence_parallel": [0, 1],
        "overlap": [0],
        "offload": [0],
    }
    chosen = {name: getattr(limits, name) for name in full}
    for name, names in _NAMED.items():
        if chosen[name] is not None:
            chosen[name] = [names.index(item) for item in chosen[name]]
    found = {
        name: full[name] if chosen[name] is None else sorted({int(v) for v in chosen[name]}) for name in full
    }
    if repeat_choices(problem)[-1:].sum() == 0:
        found["recompute"] = [mode for mode in found["recompute"] if mode != BLOCK]
    return found


def strategies(problem: TrainingProblem) -> Candidates:
    """Return every legal strategy of the space that the GPUs can hold."""
    choices = degree_choices(problem)
    blocks = [block for block in _blocks(problem, choices) if len(block)]
    if not blocks:
        return Candidates(*(np.empty(0, dtype=np.int64) for _ in choices))
    names = list(choices)
    return Candidates(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))


def _blocks(problem: TrainingProblem, choices: dict[str, list[int]]) -> Iterator[Candidates]:
    names = [name for name in choices if name not in _OUTER]
    lists = [choices[name] for name in names]
    rest = np.asarray(list(product(*lists)), dtype=np.int64).reshape(-1, len(names))
    for tp, pp, cp in product(choices["tp"], choices["pp"], choices["cp"]):
        room = problem.num_gpus // (tp * pp * cp)
        for dp in (d for d in choices["dp"] if d <= room):
            many = _with_degrees(tp, pp, dp, cp, rest)
            yield many.take(np.flatnonzero(~broken_rules(problem, many).any(axis=0)))


def configurations(problem: TrainingProblem, many: Candidates) -> int:
    """Return how many strategies those of :func:`strategies` stand for.

    Of block recompute only those count in which every stage repeats as many layers, fewer than all.
    """
    counts = repeat_choices(problem)
    most = (problem.model.layers - 1) // (many.pp[many.block] * many.virtual[many.block])
    alike = np.searchsorted(counts, most, side="right") - np.searchsorted(counts, 1)
    return int((~many.block).sum() + np.maximum(alike, 1).sum())


def _with_degrees(tp: int, pp: int, dp: int, cp: int, rest: IntArray) -> Candidates:
    same = [np.full(len(rest), value, dtype=np.int64) for value in (tp, pp, dp, cp)]
    return Candidates(*same, *(np.ascontiguousarray(column) for column in rest.T))


Share = tuple[int, int, int, int, int, int]
"""Least members per domain along ``tp, cp, data (dp x cp), pp, ep`` and expert-data groups."""
Chain = tuple[Share, ...]
"""One share for each level, innermost first."""


@dataclass(frozen=True)
class LevelSizes:
    """Sizes of the domains of one level: the largest, and whether all are equal and make up all GPUs."""

    largest: int
    total: int
    equal: bool


def level_sizes(hierarchy: Hierarchy) -> tuple[LevelSizes, ...]:
    """Return the domain sizes of every level."""
    capacities = [level.capacities for level in hierarchy.levels]
    return tuple(LevelSizes(int(c.max()), int(c.sum()), bool((c == c.max()).all())) for c in capacities)


@cache
def span_choices(
    levels: tuple[LevelSizes, ...], tp: int, pp: int, dp: int, cp: int, ep: int
) -> tuple[Chain, ...]:
    """Return how many members of each group could share each domain, level by level.

    A valid relaxation of every placement: in a domain of ``c`` GPUs the members that share it along each
    axis of the mesh multiply to at most ``c`` (each member of a row brings its own column). Where every
    GPU is in use and all domains are equal, a single partly-shared axis either fills the domain or leaves
    room for another group of its own size. Only shares that no other one dominates are returned; the
    outermost level that holds all ranks shares everything.
    """
    ranks = tp * pp * dp * cp
    expert_data = max(1, dp * cp * tp // ep)
    per_level = []
    for level in levels:
        if level.largest >= ranks:
            per_level.append([(tp, cp, dp * cp, pp, ep, expert_data)])
            continue
        packed = ranks == level.total and level.equal
        per_level.append(_maximal(_shares_of_level(tp, pp, dp, cp, ep, level.largest, packed)))
    return tuple(chain for chain in product(*per_level) if _nested(chain))


def _shares_of_level(
    tp: int, pp: int, dp: int, cp: int, ep: int, capacity: int, packed: bool
) -> Iterator[Share]:
    for k_tp, k_pp in product(_shares(tp, capacity), {1, pp}):
        for k_data in _shares(dp * cp, capacity // (k_tp * k_pp)):
            if packed and not _packs((k_tp, k_data, k_pp), (tp, dp * cp, pp), capacity):
                continue
            plane = capacity // k_pp
            for k_ep in _shares(ep, plane):
                for k_edp in _shares(dp * cp * tp // ep, plane // k_ep)[-1:]:
                    yield k_tp, min(cp, k_data), k_data, k_pp, k_ep, k_edp


@cache
def _shares(size: int, capacity: int) -> list[int]:
    """Return the possible least numbers of members per domain: ``size`` spread over some domains."""
    if capacity < 1:
        return []
    fewest = -(-size // capacity)
    return sorted({size // parts for parts in range(fewest, size + 1)})


def _packs(shared: tuple[int, ...], sizes: tuple[int, ...], capacity: int) -> bool:
    """Whether full domains can be cut into parts of these least sizes (a necessary condition)."""
    left = capacity
    for share, size in zip(shared, sizes, strict=True):
        if share == size:
            if left % size:
                return False
            left //= size
    partial = [share for share, size in zip(shared, sizes, strict=True) if 1 < share < size]
    return len(partial) != 1 or partial[0] == left or partial[0] <= left // 2


def _maximal(shares: Iterator[Share]) -> list[Share]:
    found = np.asarray(sorted(set(shares), reverse=True), dtype=np.int64)
    above = (found[None, :, :] >= found[:, None, :]).all(axis=2).sum(axis=1) > 1
    return [(int(a), int(b), int(c), int(d), int(e), int(f)) for a, b, c, d, e, f in found[~above]]


def _nested(chain: Chain) -> bool:
    return all(
        inner <= outer for low, high in pairwise(chain) for inner, outer in zip(low, high, strict=True)
    )


def with_spans(many: Candidates, levels: tuple[LevelSizes, ...]) -> tuple[IntArray, IntArray]:
    """Return every candidate with each way to span the machine.

    Returns
    -------
    rows : ndarray, shape (n,)
        Row of the candidate.
    shares : ndarray, shape (n, levels, 6)
        The chain of shares.
    """
    keys = np.stack([many.tp, many.pp, many.dp, many.cp, many.ep], axis=1)
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    chains = [
        np.asarray(span_choices(levels, *map(int, key))).reshape(-1, len(levels), 6) for key in distinct
    ]
    counts = np.asarray([len(chain) for chain in chains])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table = np.concatenate(chains)
    inverse = inverse.ravel()
    rows = np.repeat(np.arange(len(many)), counts[inverse])
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts[inverse]) - counts[inverse], counts[inverse])
    return rows, table[starts[inverse[rows]] + within]


def as_spans(many: Candidates, shares: IntArray) -> Spans:
    """Return the spans of candidates with one chain of shares each, shape (n, levels, 6)."""
    tp, cp, data, pp, expert, expert_data = (shares[:, :, column].astype(float) for column in range(6))
    hop = np.argmax(pp >= many.pp[:, None], axis=1)
    return Spans(tp, cp, data, expert, expert_data, pipeline=hop)
