"""Several jobs on one machine or cluster: how many nodes, or GPUs of a single node, each of them gets.

Every job is solved on shares of growing size; CP-SAT picks the shares. A job never gains by having fewer
units, so what is known of a larger share bounds every smaller one, and only the sizes that could still be
chosen are solved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from planner.errors import InfeasibleError, NoPlanError
from planner.placement import Problem, connected_groups, make_problem
from planner.solve import Budget, JobSolution, Option, share_out, solve_job
from planner.study.hosts import fair_part
from planner.study.inputs import Documents
from planner.topology import Topology
from planner.workload import ResolvedJob

Pool = list[list[str]]
"""Units of one kind, neighbours side by side: each the GPUs of one node, or a single GPU."""
Place = tuple[int, int]
"""Number of a pool, and how many of its units."""


@dataclass(frozen=True)
class Shares:
    """What each job gets, with its mean slowdown against being alone, as chosen and at best."""

    gpus: dict[str, list[str]]
    alone: dict[str, float]
    bound: float


def unit_pools(topology: Topology, jobs: int) -> list[Pool]:
    """Return the units that jobs may be given, by connected group of equal GPUs.

    Of equal groups only as many are returned as there are jobs.
    """
    pools: list[Pool] = []
    kinds: dict[tuple[str, int, frozenset[str]], int] = {}
    for group in connected_groups(topology):
        by_node: dict[str, list[str]] = {}
        for gpu in group:
            by_node.setdefault(gpu.split("/", 1)[0], []).append(gpu)
        machines = frozenset(topology.node_of[node].machine.name for node in by_node)
        kind = (topology.device(group[0]).name, len(group), machines)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= jobs:
            pools.append(list(by_node.values()) if len(topology.nodes) > 1 else [[gpu] for gpu in group])
    return pools


def make_share(documents: Documents, resolved: ResolvedJob, gpus: list[str]) -> Problem:
    """Return the problem of a job on its share."""
    part = fair_part(documents.topology, gpus)
    return make_problem(resolved.job, resolved.model, part, documents.calibration, gpus)


@dataclass
class ShareSearch:
    """State of the search for the best shares; :meth:`run` returns them.

    Attributes
    ----------
    known
        What is known by job and pool: the solution on that many units, ``None`` where nothing fits.
    """

    documents: Documents
    budget: Budget
    known: dict[tuple[str, int], dict[int, JobSolution | None]] = field(default_factory=dict)
    failure: InfeasibleError | None = None

    def __post_init__(self) -> None:
        self.jobs = {resolved.job.name: resolved for resolved in self.documents.workload.jobs}
        self.pools = unit_pools(self.documents.topology, len(self.jobs))

    def run(self) -> Shares:
        """Return the best shares.

        Raises
        ------
        InfeasibleError
            If some job fits on no share, or the jobs do not fit together.
        NoPlanError
            If the budget ended before every job had a plan on some share.
        """
        self._solve_whole_pools()
        hoped, least = self._choose(hopeful=True)
        while open_places := self._open(hoped):
            if self.budget.over:
                break
            for name, place in open_places.items():
                self._solve(name, place)
            hoped, least = self._choose(hopeful=True)
        chosen, _ = self._choose(hopeful=False)
        return Shares(self._lay_out(chosen), {name: self._alone(name) for name in self.jobs}, least)

    def _solve_whole_pools(self) -> None:
        """Solve every job on all units of every pool, then on an equal share of them."""
        everything = list(product(self.jobs, range(len(self.pools))))
        for name, number in everything:
            self._solve(name, (number, len(self.pools[number])))
        if any(not self.known[pair] for pair in everything):
            raise self._late()
        for name in self.jobs:
            if not any(self._solved(name)) and self.failure is not None:
                raise self.failure
        for name, number in everything:
            self._solve(name, (number, max(1, len(self.pools[number]) // len(self.jobs))))

    def _open(self, hoped: dict[str, Place]) -> dict[str, Place]:
        """Return the sizes to solve next, of the jobs whose share is only hoped for."""
        found: dict[str, Place] = {}
        for name, (number, count) in hoped.items():
            sizes = self.known[name, number]
            if count not in sizes:
                found[name] = number, (count + min(size for size in sizes if size > count)) // 2
        return found

    def _solve(self, name: str, place: Place) -> None:
        """Find out what a job gives on the first units of a pool, unless it is known or the time is over."""
        if place[1] in self.known.setdefault((name, place[0]), {}):
            return
        number, count = place
        gpus = [gpu for unit in self.pools[number][:count] for gpu in unit]
        problem = make_share(self.documents, self.jobs[name], gpus)
        try:
            self.known[name, number][count] = solve_job(problem, self.budget, explain=False)
        except InfeasibleError as error:
            self.known[name, number][count] = None
            self.failure = error
        except NoPlanError:
            if not self.budget.over:
                raise

    def _solved(self, name: str) -> Iterator[JobSolution]:
        for (job, _), sizes in self.known.items():
            if job == name:
                yield from (solution for solution in sizes.values() if solution is not None)

    def _alone(self, name: str) -> float:
        """Return the best objective of a job with nobody beside it."""
        return min(solution.bound for solution in self._solved(name))

    def _options(self, name: str, number: int, *, hopeful: bool) -> list[Option]:
        """Return the shares of a pool that a job may get, with its slowdown; hopeful: at least that much."""
        alone, before, options = self._alone(name), 0, []
        for count, solution in sorted(self.known.get((name, number), {}).items()):
            if solution is not None:
                if hopeful and count - before > 1:
                    options.append(Option(before + 1, solution.bound / alone))
                options.append(Option(count, (solution.bound if hopeful else solution.value) / alone))
            before = count
        return options

    def _choose(self, *, hopeful: bool) -> tuple[dict[str, Place], float]:
        """Return the best shares among what is known, or hoped for, and the mean slowdown."""
        names, best, least = list(self.jobs), None, float("inf")
        reason: InfeasibleError | None = None
        for numbers in product(range(len(self.pools)), repeat=len(names)):
            try:
                places = self._choose_in(dict(zip(names, numbers, strict=True)), hopeful=hopeful)
            except InfeasibleError as error:
                reason = error
                continue
            cost = sum(self._cost(name, place, hopeful=hopeful) for name, place in places.items()) / len(
                names
            )
            if cost < least:
                best, least = places, cost
        if best is None and not hopeful:
            raise self._late()
        if best is None:
            raise reason or InfeasibleError("the jobs do not fit together")
        return best, least

    def _choose_in(self, pool_of: dict[str, int], *, hopeful: bool) -> dict[str, Place]:
        """Return the best shares when the pool of every job is given."""
        places: dict[str, Place] = {}
        for number in sorted(set(pool_of.values())):
            names = [name for name, other in pool_of.items() if other == number]
            options = {name: self._options(name, number, hopeful=hopeful) for name in names}
            missing = [name for name, found in options.items() if not found]
            if missing:
                raise InfeasibleError(f"job {missing[0]!r} fits in no way on its share")
            counts = share_out(options, len(self.pools[number]), self.budget)
            places |= {name: (number, count) for name, count in counts.items()}
        return places

    def _cost(self, name: str, place: Place, *, hopeful: bool) -> float:
        options = self._options(name, place[0], hopeful=hopeful)
        return min(option.cost for option in options if option.units == place[1])

    def _late(self) -> NoPlanError:
        """Return the error for a search that ended before every job had a share."""
        if self.budget.stopped():
            return NoPlanError("interrupted before every job had a plan; let it run longer")
        return NoPlanError(
            f"not every job has a plan within {self.budget.seconds:g} s; give more time with --time-limit"
        )

    def _lay_out(self, places: dict[str, Place]) -> dict[str, list[str]]:
        """Return the GPUs of every job, larger shares first so that they stay aligned."""
        start = [0] * len(self.pools)
        gpus: dict[str, list[str]] = {}
        for name, (number, count) in sorted(places.items(), key=lambda item: -item[1][1]):
            units = self.pools[number][start[number] : start[number] + count]
            start[number] += count
            gpus[name] = [gpu for unit in units for gpu in unit]
        return {name: gpus[name] for name in self.jobs}
