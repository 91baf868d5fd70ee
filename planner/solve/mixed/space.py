"""The strategies of mixed training, their costs on every kind of device, and bounds of their step times."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, StageCosts, stage_costs
from planner.costs.strategy import BLOCK
from planner.placement import broken_rules
from planner.placement.mixed import EVEN_RULE, MixedTrainingProblem
from planner.placement.training import RULES
from planner.solve.bounds import flights
from planner.solve.degrees import as_spans, degree_choices, divisors, level_sizes, with_spans

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Strategies with one way to span the machine each, and the bound of each, s.

    Attributes
    ----------
    costs
        Stage costs by kind.
    """

    many: Candidates
    shares: IntArray
    costs: list[StageCosts]
    bounds: FloatArray

    def take(self, rows: IntArray) -> Rows:
        """Return some rows."""
        costs = [cost.take(rows) for cost in self.costs]
        return Rows(self.many.take(rows), self.shares[rows], costs, self.bounds[rows])


def slots(problem: MixedTrainingProblem, width: int) -> list[int]:
    """Return how many cells of ``width`` GPUs each kind can hold, none of them over two innermost domains."""
    inner = problem.hierarchy.levels[0].domain_of
    return [
        sum(int(np.sum(inner[problem.kind_of == kind] == domain)) // width for domain in np.unique(inner))
        for kind in range(len(problem.kinds))
    ]


def mixed_strategies(problem: MixedTrainingProblem) -> Candidates:
    """Return every legal strategy: any number of replicas, no interleaving, cells within a domain."""
    choices = degree_choices(problem.kinds[0])
    job, largest = problem.job, int(problem.hierarchy.levels[0].capacities.max())
    most_dp = min(problem.num_gpus, job.global_batch)
    replicas = job.degrees.dp or list(range(1, most_dp + 1))
    stages = job.degrees.pp or [
        p for p in range(1, min(problem.model.layers, problem.num_gpus) + 1)
        if p <= 8 or p in divisors(problem.model.layers) or p in divisors(problem.num_gpus)
    ]  # fmt: skip
    micro = [size for size in choices["micro_batch"] if job.global_batch % size == 0]
    modes = [mode for mode in choices["recompute"] if mode != BLOCK]
    inner = list(product(micro, modes, choices["sharding"], choices["sequence_parallel"]))
    found: list[tuple[int, ...]] = []
    for tp, cp in product(choices["tp"], choices["cp"]):
        if tp * cp > largest:
            continue
        room = min(sum(slots(problem, tp * cp)), problem.num_gpus // (tp * cp))
        shapes = [(pp, dp) for pp in stages for dp in replicas if pp * dp <= room]
        found += [
            (tp, pp, dp, cp, 1, 1, size, again, sharding, parallel)
            for (pp, dp), (size, again, sharding, parallel) in product(shapes, inner)
            if dp <= job.global_batch // size
        ]
    table = np.asarray(found, dtype=np.int64).reshape(-1, 10)
    many = Candidates(*(np.ascontiguousarray(column) for column in table.T))
    broken = broken_rules(problem.kinds[0], many)
    kept = np.asarray([rule != EVEN_RULE for rule in RULES])
    return many.take(np.flatnonzero(~broken[kept].any(axis=0)))


def price(problem: MixedTrainingProblem, many: Candidates) -> Rows:
    """Return the strategies that may fit, under every span that keeps cells together, with their bounds."""
    rows, shares = with_spans(many, level_sizes(problem.hierarchy))
    spread = many.take(rows)
    whole = (shares[:, 0, 0] == spread.tp) & (shares[:, 0, 1] == spread.cp)
    kept = np.flatnonzero(whole)
    return priced(problem, spread.take(kept), shares[kept])


def priced(problem: MixedTrainingProblem, many: Candidates, shares: IntArray) -> Rows:
    """Return strategies under given spans with their costs and bounds; those that cannot fit are left out."""
    spans = as_spans(many, shares)
    costs = [
        stage_costs(kind.shape, many, spans, kind.kernels, kind.fabric, kind.calibration)
        for kind in problem.kinds
    ]
    fits = np.flatnonzero(_may_fit(problem, many, costs))
    many, shares, costs = many.take(fits), shares[fits], [cost.take(fits) for cost in costs]
    return Rows(many, shares, costs, lower_bounds(problem, many, costs))


def stage_room(problem: MixedTrainingProblem, many: Candidates, costs: list[StageCosts]) -> list[FloatArray]:
    """Return the layers that fit in every stage were it of each kind; arrays of shape (n, most stages).

    A stage past the last has none; a stage that fits not even empty has -1.
    """
    most = int(many.pp.max(initial=1))
    found = []
    for kind, cost in zip(problem.kinds, costs, strict=True):
        room = np.full((len(many), most), kind.capacity)
        room -= (cost.static_base + cost.peak_working)[:, None]
        room[:, 0] -= cost.static_first
        room[np.arange(len(many)), many.pp - 1] -= cost.static_last
        flight = np.zeros((len(many), most))
        for stages in np.unique(many.pp):
            of = np.flatnonzero(many.pp == stages)
            ones = np.ones(len(of), dtype=np.int64)
            flight[of, :stages] = flights(int(stages), ones, np.full(len(of), 1e9))
        each = cost.static_dense[:, None] + cost.kept_dense[:, None] * flight
        layers = np.where(room < 0, -1.0, np.floor(room / each + 1e-9))
        found.append(np.where(np.arange(most) < many.pp[:, None], layers, 0.0))
    return found


def _may_fit(problem: MixedTrainingProblem, many: Candidates, costs: list[StageCosts]) -> NDArray[np.bool_]:
    best = np.max(np.stack(stage_room(problem, many, costs)), axis=0)
    inside = np.arange(best.shape[1]) < many.pp[:, None]
    return np.asarray((best.sum(axis=1) >= problem.model.layers) & ((best >= 1) | ~inside).all(axis=1))


def lower_bounds(problem: MixedTrainingProblem, many: Candidates, costs: list[StageCosts]) -> FloatArray:
    r"""Return a lower bound of the step time of every row, s.

    A replica takes :math:`(m_d - 1) \tau_d + S_d` with :math:`\tau_d \ge T_{sd}` for each of its stages and
    :math:`S_d \ge S`, one micro-batch over the best kinds. Over all cells of layer times :math:`c` follows

    .. math:: (M - d)(L + \epsilon) \le (P - S) \sum_{cells} 1 / c

    where :math:`\epsilon` is what the ends and hops are worth in layers on the kind where they are worth
    least. The sum is largest with the fastest kinds in use.
    """
    layers = problem.model.layers
    each = np.stack([cost.dense for cost in costs])

    def least(name: str) -> FloatArray:
        return np.asarray(np.min([getattr(cost, name) for cost in costs], axis=0))

    def worth(name: str) -> FloatArray:
        return np.asarray(np.min([getattr(cost, name) / cost.dense for cost in costs], axis=0))

    extra = worth("first") + worth("last") + many.pp * worth("hop")
    total = layers * each.min(axis=0) + least("first") + least("last") + many.pp * least("hop")
    count = problem.job.global_batch / many.micro_batch
    power = _power(problem, many, each)
    pipeline = total + np.maximum(count - many.dp, 0.0) * (layers + extra) / power
    most = np.ceil(layers / many.pp)
    sync = least("sync_alpha") + most * least("sync_dense")
    tail = (1.0 - min(cost.overlap for cost in costs)) * sync
    loosest = 1.0 - max(cost.overlap for cost in costs)
    tail = np.minimum(tail, loosest * sync) + most * least("update_dense")
    return np.asarray(pipeline + tail)


def _power(problem: MixedTrainingProblem, many: Candidates, each: FloatArray) -> FloatArray:
    """Return the largest sum of ``1 / c`` over as many cells as a strategy has."""
    left = (many.pp * many.dp).astype(float)
    width = many.tp * many.cp
    room = np.zeros_like(each)
    for size in np.unique(width):
        room[:, width == size] = np.asarray(slots(problem, int(size)), dtype=float)[:, None]
    power = np.zeros(len(many))
    order = np.argsort(each, axis=0)
    for place in range(len(each)):
        kind = order[place]
        rows = np.arange(len(many))
        used = np.minimum(left, room[kind, rows])
        power += used / each[kind, rows]
        left -= used
    return power
