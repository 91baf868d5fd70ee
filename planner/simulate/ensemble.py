"""Simulate an ensemble: its pools, batchers and streams, with copies on the links of the machine."""

from __future__ import annotations

import itertools
from collections import defaultdict
from functools import cache

import numpy as np

from planner.costs.host import service_time
from planner.errors import SimulationError
from planner.placement import EnsemblePlan, EnsembleProblem, design_of
from planner.placement.ensemble_plan import EnsemblePool, GpuInstance
from planner.placement.ensemble_units import unit_seconds
from planner.simulate.batcher import BatcherPolicy
from planner.simulate.cabling import Cabling
from planner.simulate.ensemble_layout import (
    OUTSIDE,
    BatchWork,
    ClassSpec,
    EnsembleLayout,
    InstanceSpec,
    Move,
    PoolSpec,
    StepSpec,
    Work,
)
from planner.simulate.ensemble_measures import job_record, refuse_overload
from planner.simulate.ensemble_moves import Mover, Seat
from planner.simulate.ensemble_run import EnsembleRun
from planner.simulate.link_use import link_uses
from planner.simulate.outcome import JobOutcome, beginning
from planner.topology import Router

Station = EnsemblePool | GpuInstance


def simulate_ensemble(
    problem: EnsembleProblem, plan: EnsemblePlan, *, seed: int = 0, requests: int = 4000,
    router: Router | None = None,
) -> JobOutcome:  # fmt: skip
    """Simulate some requests of all classes together.

    Raises
    ------
    SimulationError
        If a class waits ever longer, or has too few requests to say anything of its percentiles.
    """
    cabling = Cabling(router or Router(problem.topology))
    layout = _Layout(problem, plan, cabling).whole()
    run = EnsembleRun(layout, cabling.specs(), cabling.groups(), requests=requests, seed=seed)
    records = run.finish()
    refuse_overload(plan.name, layout.classes, records)
    horizon = float(run.env.now)
    busy = _utilisation(problem, plan, run, horizon)
    spans = beginning(itertools.chain.from_iterable(each.spans for each in run.instances.values()))
    job = job_record(plan.name, layout.classes, records, busy, spans)
    utilisation = run.network.utilisation()
    members = [[index] for index in range(len(run.network.links))]
    waiting = dict(enumerate(utilisation.waiting.tolist()))
    links = link_uses(cabling.cables, members, utilisation, waiting, {}, lambda _: True)
    return JobOutcome(job, links, horizon)


def _utilisation(
    problem: EnsembleProblem, plan: EnsemblePlan, run: EnsembleRun, horizon: float
) -> dict[str, float]:
    """Return the busy part of every GPU in use, slices by their share of the multiprocessors."""
    share = {_compute(each): problem.compute_share(each.mig) for each in plan.instances}
    found: dict[str, float] = defaultdict(float)
    for name, gpu in run.gpus.items():
        found[name.split(" ", 1)[0]] += gpu.busy / horizon * share[name]
    return dict(found)


def _compute(each: GpuInstance) -> str:
    """Return the name of the compute that an instance shares."""
    return each.gpu if each.mig is None else f"{each.gpu} {each.mig} from {each.start}"


class _Layout:
    """Translates a plan into stations, moves and classes."""

    def __init__(self, problem: EnsembleProblem, plan: EnsemblePlan, cabling: Cabling) -> None:
        self.problem, self.plan = problem, plan
        self.mover = Mover(problem, cabling)
        self.modes = design_of(problem, plan).modes
        self.numa_of = {gpu: domain.numa.name for domain in problem.domains for gpu in domain.gpus}
        self.stages = {stage.name: index for index, stage in enumerate(problem.stages)}
        self.stations: dict[str, Station] = {f"{p.stage}@{p.node}/{p.numa}": p for p in plan.pools}
        self.stations |= {each.name: each for each in plan.instances}

    def whole(self) -> EnsembleLayout:
        """Return all of the ensemble."""
        moves = dict(self._moves())
        engines = {move.engine: 1 for chain in moves.values() for move in chain if move.engine is not None}
        return EnsembleLayout(
            tuple(self._class(index) for index in range(len(self.problem.classes))),
            tuple(self._pool(name, p) for name, p in self.stations.items() if isinstance(p, EnsemblePool)),
            tuple(self._instance(each) for each in self.plan.instances),
            moves,
            engines,
        )

    def _seat(self, name: str) -> Seat:
        station = self.stations[name]
        if isinstance(station, EnsemblePool):
            return Seat(station.node, station.numa)
        node, gpu = station.gpu.split("/", 1)
        return Seat(node, self.numa_of[station.gpu], gpu, station.start)

    def _place(self, name: str) -> tuple[str, ...]:
        seat = self._seat(name)
        own = () if seat.gpu is None else (seat.gpu, str(seat.start))
        return seat.node, seat.numa, *own

    def _pool(self, name: str, pool: EnsemblePool) -> PoolSpec:
        stage = self.problem.stages[self.stages[pool.stage]]
        numa = self.problem.machines[pool.node].numa_named(pool.numa)
        service = {
            request.name: service_time(stage.cpu_stage(stage.units(request)), numa)
            for request in self.problem.classes
        }
        buffers = pool.prefetch * pool.workers
        return PoolSpec(name, pool.stage, self._place(name), pool.workers, service, buffers)

    def _instance(self, each: GpuInstance) -> InstanceSpec:
        policy = BatcherPolicy(
            max_batch=each.max_batch, preferred=tuple(each.preferred_sizes), max_delay=each.window
        )
        priority = 0 if each.priority == "high" else 1
        work = self._work(each)
        place = self._place(each.name)
        return InstanceSpec(each.name, each.stage, place, _compute(each), policy, work, priority)

    def _work(self, each: GpuInstance) -> BatchWork:
        index = self.stages[each.stage]
        gpu = self.problem.stages[index].gpu
        assert gpu is not None
        kernels = gpu.kernels

        @cache
        def work(size: int) -> Work:
            seconds = unit_seconds(self.problem, index, each.mig, np.array([float(size)]))
            return Work(float(seconds[0]), kernels)

        return work

    def _serving(self, stage: int, request: int) -> dict[str, float]:
        """Return the stations of a class at a stage with their shares."""
        name, own = self.problem.stages[stage].name, self.problem.classes[request].name
        return {
            key: station.share
            for key, station in self.stations.items()
            if station.stage == name and (isinstance(station, EnsemblePool) or own in station.classes)
        }

    def _class(self, request: int) -> ClassSpec:
        own = self.problem.classes[request]
        steps = []
        for index, stage in enumerate(self.problem.stages):
            stations = self._serving(index, request)
            if not stations:
                raise SimulationError(f"{own.name} is served nowhere at {stage.name}; check the plan")
            steps.append(StepSpec(stage.name, self.problem.model.before[index], stations, stage.units(own)))
        return ClassSpec(own.name, own.rate, tuple(steps), own.arrival_scv**0.5, own.slo.latency_p99)

    def _moves(self) -> itertools.chain[tuple[tuple[str, str, str], tuple[Move, ...]]]:
        many = range(len(self.problem.classes))
        return itertools.chain.from_iterable(
            self._moves_on(index, request) for index in range(len(self.problem.ways)) for request in many
        )

    def _moves_on(self, index: int, request: int) -> list[tuple[tuple[str, str, str], tuple[Move, ...]]]:
        """Return the moves of a class on a way, for every pair of stations."""
        way, own = self.problem.ways[index], self.problem.classes[request]
        size, mode = self.problem.size(way, own), self.modes.get((index, request))
        lefts = [OUTSIDE] if way.source is None else list(self._serving(way.source, request))
        rights = [OUTSIDE] if way.target is None else list(self._serving(way.target, request))
        found = []
        for left, right in itertools.product(lefts, rights):
            ends = self._seat(right or left), self._seat(left or right)
            target, source = ends
            if left == OUTSIDE:
                source = target.host
            if right == OUTSIDE:
                target = source.host
            whole = source.start is None and target.start is None
            moves = self.mover.between(source, target, size, mode, whole=whole)
            if moves:
                found.append(((own.name, left, right), moves))
        return found
