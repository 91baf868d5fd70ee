"""Re-plan a training job after a failure so that few GPUs have to load other weights.

The way in which the model is cut stays: tensor and pipeline degrees, chunks, experts and the layers of every
stage. Replicas, context parts and the switches that move no weights are free; block recompute repeats the
fewest layers that fit. Candidates are priced exactly, since their layers are known, and visited in order;
CP-SAT finds the ranks' domains with the fewest moves.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from ortools.sat.python import cp_model

from planner.costs import Candidates, stage_costs
from planner.costs.pipeline import split_kinds, step_time
from planner.errors import InfeasibleError, NoPlanError
from planner.placement import (
    Strategy,
    TrainingPlan,
    TrainingProblem,
    as_candidates,
    as_strategy,
    judge_training,
)
from planner.placement.recompute import fewest_repeated
from planner.placement.training import fits
from planner.solve.budget import Budget
from planner.solve.degrees import Chain, as_spans, level_sizes, strategies, with_spans
from planner.solve.engine import run_model
from planner.solve.expressions import add_up
from planner.solve.layout import IntArray, LayoutModel, weaker_chains
from planner.solve.moves import Role, fewest_moves, rank_roles, roles_of
from planner.solve.training import PlacedStrategy, TrainingSearch, as_chain, as_placed

MOST_BOOLEANS = 20_000
"""Most pairs of rank and domain for which CP-SAT looks for a layout."""
TOLERANCE = 1e-9

Entry = tuple[float, int, Strategy, Chain]


class KeepingLayout(LayoutModel):
    """A layout in which at least some number of ranks stay on GPUs that hold their weights."""

    def __init__(
        self, strategy: Strategy, chain: Chain, problem: TrainingProblem, kept: Kept, most: int
    ) -> None:
        super().__init__(strategy, chain, problem.hierarchy)
        self.roles = rank_roles(strategy, kept.layers)
        self.held = [kept.alive.get(gpu) for gpu in problem.hierarchy.gpus]
        domain_of = problem.hierarchy.levels[0].domain_of
        held = Counter(zip(domain_of.tolist(), self.held, strict=True))
        ranks: dict[Role, list[int]] = {}
        for rank, role in enumerate(self.roles):
            ranks.setdefault(role, []).append(rank)
        stays = []
        for (domain, role), count in held.items():
            if role in ranks:
                stay = self.model.new_int_var(0, count, f"stay[{domain}]")
                self.model.add(stay <= add_up(self.inside[rank][domain] for rank in ranks[role]))
                stays.append(stay)
        self.model.add(add_up(stays) >= strategy.num_ranks - most)

    def extract(self, solver: cp_model.CpSolver) -> IntArray:
        """Return the GPU numbers in rank order: in every domain those that stay first, then the others."""
        domain_of = self.hierarchy.levels[0].domain_of
        gpus = np.full(len(self.inside), -1, dtype=np.int64)
        for domain in range(len(self.sizes)):
            free = np.flatnonzero(domain_of == domain).tolist()
            here = [rank for rank, row in enumerate(self.inside) if solver.boolean_value(row[domain])]
            for rank in here:
                same = next((gpu for gpu in free if self.held[gpu] == self.roles[rank]), None)
                if same is not None:
                    gpus[rank] = same
                    free.remove(same)
            for rank in here:
                if gpus[rank] < 0:
                    gpus[rank] = free.pop(0)
        return gpus


@dataclass(frozen=True)
class Kept:
    """What is left of a plan.

    Attributes
    ----------
    alive
        Role of every GPU that is still there.
    """

    plan: TrainingPlan
    alive: dict[str, Role]

    @property
    def gone(self) -> int:
        """Number of the plan's GPUs that are no longer there."""
        return self.plan.strategy.num_ranks - len(self.alive)

    @property
    def layers(self) -> list[int]:
        """Layers of every stage."""
        return self.plan.layers


def kept_part(problem: TrainingProblem, plan: TrainingPlan) -> Kept:
    """Return what is left of a plan on the GPUs of a problem."""
    there = set(problem.hierarchy.gpus)
    return Kept(plan, {gpu: role for gpu, role in roles_of(plan).items() if gpu in there})


@dataclass
class KeepingSearch:
    """Search of the plans that differ from another one in few moves.

    Attributes
    ----------
    least
        The fewest moves of any candidate that fits, wherever its ranks lie.
    """

    problem: TrainingProblem
    kept: Kept
    budget: Budget
    best: PlacedStrategy | None = None
    bound: float = float("inf")
    evaluated: int = 0
    visited: int = 0
    least: int = 0
    unresolved: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.levels = level_sizes(self.problem.hierarchy)
        self._layouts: dict[tuple[int, ...], dict[Chain, tuple[IntArray | None, bool]]] = {}
        self._seen: set[tuple[Strategy, Chain]] = set()
        self._queue: list[Entry] = []

    @property
    def incumbent(self) -> float:
        """Step time of the best plan, s, infinite before there is one."""
        return float("inf") if self.best is None else self.best.seconds

    def run(self, most: int | None) -> None:
        """Find the best plan of at most ``most`` moves; when ``None``, as many as GPUs are gone.

        Raises
        ------
        InfeasibleError
            If no plan with the same cut fits, or only with more moves.
        """
        many = self._candidates()
        moves = np.asarray([self._fewest(as_strategy(many, row)) for row in range(len(many))])
        self.least = self._least(many, moves)
        limit = max(self.least, self.kept.gone) if most is None else most
        if self.least > limit:
            raise too_few(self.problem.job.name, limit, self.least)
        self._price(many.take(np.flatnonzero(moves <= limit)))
        pending = float("inf")
        while self._queue:
            seconds, _, strategy, chain = heapq.heappop(self._queue)
            if seconds >= self.incumbent * (1 - TOLERANCE):
                break
            if self.budget.over:
                pending = seconds
                break
            self._place(strategy, chain, seconds, limit)
            self.budget.progress("keep", self.visited, seconds, self.incumbent)
        self.bound = min([self.incumbent, pending, *self.unresolved])
        if self.best is None:
            name = self.problem.job.name
            raise NoPlanError(f"job {name!r}: no layout of at most {limit} moves was found in time")

    def _fewest(self, strategy: Strategy) -> int:
        return fewest_moves(strategy, self.kept.layers, self.kept.alive)

    def _candidates(self) -> Candidates:
        """Return the strategies with the plan's cut that may fit in memory, which no placement changes."""
        old, job = self.kept.plan.strategy, self.problem.job
        held = {name: [getattr(old, name)] for name in ("tp", "pp", "virtual", "ep")}
        degrees = job.degrees.model_copy(update=held)
        part = replace(self.problem, job=job.model_copy(update={"degrees": degrees}))
        many = TrainingSearch(part, self.budget).fitting(strategies(part))
        self.evaluated = len(many)
        return many

    def _least(self, many: Candidates, moves: IntArray) -> int:
        """Return the fewest moves of a strategy that fits."""
        for row in np.argsort(moves, kind="stable"):
            if self._fits(as_strategy(many, int(row))):
                return int(moves[row])
        old, name = self.kept.plan.strategy, self.problem.job.name
        raise InfeasibleError(
            f"job {name!r}: with the plan's tp {old.tp}, pp {old.pp} and layers no number of replicas fits "
            f"on {self.problem.num_gpus} GPUs",
            [f"tp {old.tp}, pp {old.pp}, layers {self.kept.layers}", f"{self.problem.num_gpus} GPUs"],
            "solve anew without --keep; every rank will move",
        )

    def _fits(self, strategy: Strategy) -> bool:
        gpus = list(self.problem.hierarchy.gpus[: strategy.num_ranks])
        return fits(self.problem, judge_training(self.problem, strategy, self.kept.layers, gpus))

    def _price(self, many: Candidates) -> None:
        """Queue strategies with every way to span the machine, at their exact step times."""
        rows, shares = with_spans(many, self.levels)
        spread = many.take(rows)
        seconds = self._seconds(spread, shares)
        for row in range(len(rows)):
            self._push(as_strategy(spread, row), as_chain(shares[row]), seconds[row])

    def _push(self, strategy: Strategy, chain: Chain, seconds: float) -> None:
        if (strategy, chain) not in self._seen:
            self._seen.add((strategy, chain))
            heapq.heappush(self._queue, (seconds, len(self._seen), strategy, chain))

    def _seconds(self, many: Candidates, shares: IntArray) -> list[float]:
        problem, spans = self.problem, as_spans(many, shares)
        costs = stage_costs(problem.shape, many, spans, problem.kernels, problem.fabric, problem.calibration)
        dense, moe = split_kinds(np.asarray(self.kept.layers, dtype=np.int64), problem.model.dense_layers)
        virtual = self.kept.plan.strategy.virtual
        found = []
        for row in range(len(many)):
            again = fewest_repeated(problem, as_strategy(many, row), costs, row, dense, moe)
            found.append(step_time(costs, row, virtual, dense, moe, again))
        return found

    def _place(self, strategy: Strategy, chain: Chain, seconds: float, limit: int) -> None:
        self.visited += 1
        gpus, proven = self._layout(strategy, chain, limit)
        if gpus is not None:
            devices = [self.problem.hierarchy.gpus[gpu] for gpu in gpus]
            outcome = judge_training(self.problem, strategy, self.kept.layers, devices)
            if not fits(self.problem, outcome):
                return
            if outcome.step_time < self.incumbent:
                self.best = as_placed(strategy, devices, outcome)
            if outcome.step_time <= seconds * (1 + TOLERANCE):
                return
        if not proven:
            self.unresolved.append(seconds)
        for weaker in weaker_chains(chain, len(self.levels)):
            one = as_candidates(strategy)
            self._push(strategy, weaker, self._seconds(one, np.asarray([weaker]))[0])

    def _layout(self, strategy: Strategy, chain: Chain, limit: int) -> tuple[IntArray | None, bool]:
        """Return a layout; it depends on the degrees alone, not on the switches."""
        s = strategy
        known = self._layouts.setdefault((s.tp, s.pp, s.dp, s.cp, s.ep), {})
        if chain not in known:
            known[chain] = self._solve_layout(strategy, chain, limit)
        return known[chain]

    def _solve_layout(self, strategy: Strategy, chain: Chain, limit: int) -> tuple[IntArray | None, bool]:
        if strategy.num_ranks * len(self.problem.hierarchy.levels[0].capacities) > MOST_BOOLEANS:
            return substituted(self.problem, strategy, self.kept, limit), False
        layout = KeepingLayout(strategy, chain, self.problem, self.kept, limit)
        solver, status = run_model(layout.model, self.budget)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return layout.extract(solver), True
        return None, status == cp_model.INFEASIBLE


def substituted(problem: TrainingProblem, strategy: Strategy, kept: Kept, limit: int) -> IntArray | None:
    """Return the layout in which every rank stays that can, and free GPUs take the place of the rest.

    ``None`` where that takes more moves than allowed.
    """
    number = {gpu: index for index, gpu in enumerate(problem.hierarchy.gpus)}
    holders: dict[Role, list[int]] = {}
    for gpu, role in kept.alive.items():
        holders.setdefault(role, []).append(number[gpu])
    roles = rank_roles(strategy, kept.layers)
    gpus = [holders[role].pop(0) if holders.get(role) else -1 for role in roles]
    used = set(gpus)
    spare = [gpu for gpu in range(problem.hierarchy.num_gpus) if gpu not in used]
    if gpus.count(-1) > limit:
        return None
    return np.asarray([spare.pop(0) if gpu < 0 else gpu for gpu in gpus], dtype=np.int64)


def too_few(job: str, limit: int, least: int) -> InfeasibleError:
    """Return the error for a number of moves that does not suffice."""
    return InfeasibleError(
        f"job {job!r}: no plan differs from the one to keep in {limit} moves",
        [f"--max-moves {limit}", "what is gone of the machine"],
        f"nearest change: --max-moves {least}",
    )
