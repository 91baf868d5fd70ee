"""CPU stages of the replicas on one node: NUMA domain, whole cores, memory mode, by CP-SAT with proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from types import MappingProxyType

from ortools.sat.python import cp_model

from planner.costs.host import service_time, traffic
from planner.placement import (
    CpuPlacement,
    ServingProblem,
    Transfer,
    host_options,
    stage_latency,
    transfer_sizes,
)
from planner.placement.job_problem import free_cores
from planner.placement.serving import HOST_BANDWIDTH_SHARE, hand_over
from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up
from planner.topology import MachineType
from planner.workload import CpuStage

TICKS = 1e9
UNREACHABLE = round(1e6 * TICKS)
KIB = 1024.0
NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class HostPlan:
    """CPU stages and transfers of every replica of a node, the slowest replica's latency and its bound, s."""

    slots: list[int]
    stages: list[list[CpuPlacement]]
    transfers: list[list[Transfer]]
    seconds: float
    bound: float


class HostTables:
    """Latencies of stages, hand-overs and transfers on one machine type, in ticks."""

    def __init__(self, problem: ServingProblem, machine: MachineType, rate: float) -> None:
        self.problem, self.machine, self.rate = problem, machine, rate
        self.domains = {domain.name: domain for domain in machine.numa}
        self.free = {name: free_cores(problem, machine, name) for name in self.domains}

    @cached_property
    def stages(self) -> list[CpuStage]:
        """All CPU stages, those before the model first."""
        return [*self.problem.job.before, *self.problem.job.after]

    def pools(self, stage: CpuStage) -> dict[tuple[str, int], int]:
        """Return the latency of every sensible pool ``(NUMA domain, cores)`` of a stage.

        More cores than make the 99th percentile of the wait vanish bring nothing.
        """
        found: dict[tuple[str, int], int] = {}
        for name, domain in self.domains.items():
            floor = service_time(stage, domain)
            for cores in range(stage.parallel, self.free[name] + 1, stage.parallel):
                seconds = stage_latency(stage, domain, self.rate, cores)
                if seconds == float("inf"):
                    continue
                found[name, cores] = round(seconds * TICKS)
                if seconds <= floor * (1 + 1e-12):
                    break
        return found

    def handed(self, first: str, second: str, size: float) -> int:
        """Return the time of a hand-over between NUMA domains."""
        seconds = hand_over(self.problem, self.machine, first, second, size)
        return UNREACHABLE if seconds == float("inf") else round(seconds * TICKS)

    def moved(self, numa: str, gpu: str, *, into: bool) -> int:
        """Return the time of the fastest legal transfer between a NUMA domain and a GPU."""
        size = transfer_sizes(self.problem)[0 if into else 1]
        options = host_options(self.problem, self.machine, numa, gpu, size, "in" if into else "out")
        return round(options[0].seconds * TICKS) if options else UNREACHABLE


class HostModel:
    """CP-SAT: a pool for every stage of every replica, a slot of GPUs for every replica."""

    def __init__(self, tables: HostTables, slots: list[str], replicas: int) -> None:
        self.tables, self.slots, self.replicas = tables, slots, replicas
        self.model = cp_model.CpModel()
        options = [tables.pools(stage) for stage in tables.stages]
        self.pool = [
            [
                {key: self.model.new_bool_var(f"pool[{r},{s},{key}]") for key in options[s]}
                for s in range(len(options))
            ]
            for r in range(replicas)
        ]
        self.options = options
        self.slot = [
            [self.model.new_bool_var(f"slot[{r},{g}]") for g in range(len(slots))] for r in range(replicas)
        ]
        self._choose_once()
        self._respect_domains()
        self.latency = [self._latency(replica) for replica in range(replicas)]
        self.slowest = self.model.new_int_var(0, 10 * UNREACHABLE, "slowest")
        for latency in self.latency:
            self.model.add(self.slowest >= latency)
        self.model.minimize(self.slowest)

    def _choose_once(self) -> None:
        for replica in range(self.replicas):
            for choices in self.pool[replica]:
                self.model.add_exactly_one(choices.values())
            self.model.add_exactly_one(self.slot[replica])
        for group in range(len(self.slots)):
            self.model.add_at_most_one(self.slot[r][group] for r in range(self.replicas))
        for earlier, later in zip(self.slot, self.slot[1:], strict=False):
            rank = add_up(g * x for g, x in enumerate(earlier))
            self.model.add(rank <= add_up(g * x for g, x in enumerate(later)))

    def _respect_domains(self) -> None:
        """Cores, memory and memory bandwidth of every NUMA domain."""
        for name, domain in self.tables.domains.items():
            cores: Expression = 0
            memory: Expression = 0
            moved: Expression = 0
            for replica, (index, stage) in product(range(self.replicas), enumerate(self.tables.stages)):
                for (numa, count), chosen in self.pool[replica][index].items():
                    if numa == name:
                        cores = cores + count * chosen
                        memory = memory + round(stage.memory / KIB) * (count // stage.parallel) * chosen
                        moved = moved + round(traffic(stage) * self.tables.rate / KIB) * chosen
            self.model.add(cores <= self.tables.free[name])
            self.model.add(memory <= int(domain.memory.value / KIB))
            self.model.add(moved <= int(domain.memory_bandwidth.value * HOST_BANDWIDTH_SHARE / KIB))

    def _on(self, replica: int, stage: int, numa: str) -> Expression:
        return add_up(x for (name, _), x in self.pool[replica][stage].items() if name == numa)

    def _latency(self, replica: int) -> Expression:
        total: Expression = 0
        for index, choices in enumerate(self.pool[replica]):
            total = total + add_up(self.options[index][key] * x for key, x in choices.items())
        before, after = len(self.tables.problem.job.before), len(self.tables.stages)
        for start, stop in ((0, before), (before, after)):
            for index in range(start, stop - 1):
                total = total + self._hand_over(replica, index)
        return (
            total
            + self._transfer(replica, before - 1 if before else None, into=True)
            + self._transfer(replica, before if after > before else None, into=False)
        )

    def _hand_over(self, replica: int, index: int) -> cp_model.IntVar:
        cost = self.model.new_int_var(0, UNREACHABLE, "")
        size = self.tables.stages[index].bytes_out
        for first, second in product(self.tables.domains, repeat=2):
            if first != second:
                both = self._on(replica, index, first) + self._on(replica, index + 1, second) - 1
                self.model.add(cost >= self.tables.handed(first, second, size) * both)
        return cost

    def _transfer(self, replica: int, stage: int | None, *, into: bool) -> cp_model.IntVar:
        """Time between the GPU and the stage next to it, or the best NUMA domain where there is no stage."""
        cost = self.model.new_int_var(0, UNREACHABLE, "")
        for group, gpu in enumerate(self.slots):
            times = {numa: self.tables.moved(numa, gpu, into=into) for numa in self.tables.domains}
            if stage is None:
                self.model.add(cost >= min(times.values()) * self.slot[replica][group])
                continue
            for numa, ticks in times.items():
                both = self._on(replica, stage, numa) + self.slot[replica][group] - 1
                self.model.add(cost >= ticks * both)
        return cost


def place_host(
    problem: ServingProblem,
    machine: MachineType,
    slots: list[str],
    replicas: int,
    rate: float,
    budget: Budget,
    taken: Mapping[str, int] = NOTHING,
) -> HostPlan | None:
    """Return the best CPU placement of the replicas of a node, ``None`` where its cores do not suffice.

    Parameters
    ----------
    slots
        First GPU of every group of GPUs that a replica may take.
    rate
        Requests/s on each replica.
    taken
        Cores of each NUMA domain that others of the node have.
    """
    tables = HostTables(problem, machine, rate)
    tables.free = {name: max(0, free - taken.get(name, 0)) for name, free in tables.free.items()}
    if any(not tables.pools(stage) for stage in tables.stages):
        return None
    host = HostModel(tables, slots, replicas)
    solver, status = run_model(host.model, budget)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return _extract(host, solver)


def _extract(host: HostModel, solver: cp_model.CpSolver) -> HostPlan:
    tables, problem = host.tables, host.tables.problem
    chosen = [next(g for g, x in enumerate(row) if solver.boolean_value(x)) for row in host.slot]
    stages, transfers = [], []
    for replica in range(host.replicas):
        placed = []
        for index, stage in enumerate(tables.stages):
            numa, cores = next(key for key, x in host.pool[replica][index].items() if solver.boolean_value(x))
            domain = tables.domains[numa]
            placed.append(
                CpuPlacement(
                    stage=stage.name, numa=numa, cores=cores, core_list="",
                    utilisation=tables.rate * service_time(stage, domain) * stage.parallel / cores,
                    latency=stage_latency(stage, domain, tables.rate, cores),
                )
            )  # fmt: skip
        stages.append(placed)
        transfers.append(_transfers(problem, tables, placed, host.slots[chosen[replica]]))
    value, bound = solver.objective_value / TICKS, solver.best_objective_bound / TICKS
    return HostPlan(chosen, stages, transfers, value, bound)


def _transfers(
    problem: ServingProblem, tables: HostTables, placed: list[CpuPlacement], gpu: str
) -> list[Transfer]:
    before = len(problem.job.before)
    inward = placed[before - 1].numa if before else _nearest(tables, gpu, into=True)
    outward = placed[before].numa if len(placed) > before else _nearest(tables, gpu, into=False)
    sizes = transfer_sizes(problem)
    return [
        _transfer(problem, tables.machine, "inputs to GPU", inward, gpu, sizes[0], into=True),
        _transfer(problem, tables.machine, "outputs to host", outward, gpu, sizes[1], into=False),
    ]


def _nearest(tables: HostTables, gpu: str, *, into: bool) -> str:
    return min(tables.domains, key=lambda numa: (tables.moved(numa, gpu, into=into), numa))


def _transfer(
    problem: ServingProblem, machine: MachineType, name: str, numa: str, gpu: str, size: float, *, into: bool
) -> Transfer:
    options = host_options(problem, machine, numa, gpu, size, "in" if into else "out")
    second = options[1] if len(options) > 1 else None
    return Transfer(
        name=name, source=numa if into else gpu, target=gpu if into else numa, size=size,
        mode=options[0].mode, seconds=options[0].seconds,
        runner_up=second.mode if second else None, runner_up_seconds=second.seconds if second else None,
    )  # fmt: skip
