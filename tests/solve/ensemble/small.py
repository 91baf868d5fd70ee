"""Random ensembles on a tiny machine, and every design of them, walked with the judge alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations, product

from planner.costs import MemoryMode, load_calibration
from planner.costs.ensemble import gather_window
from planner.placement import EnsembleProblem, make_problem
from planner.placement.ensemble import seats
from planner.placement.ensemble_design import Design, Group, Key, Pools, Tenant
from planner.placement.ensemble_judge import FINE, Judged
from planner.placement.ensemble_problem import TICK
from planner.placement.ensemble_records import host_problems
from planner.placement.ensemble_units import Part, unit_bytes, unit_room
from planner.schema import loads
from planner.solve.ensemble.model import class_weights
from planner.topology import Topology
from planner.topology.models import TopologyDocument
from planner.topology.resolve import resolve
from planner.workload import EnsembleJob, StageGraph

Serving = tuple[int, tuple[int, ...]]
DIVISORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 48)


def machine(domains: int, gpus: int, cores: int, *, mig: bool, coherent: bool) -> Topology:
    """Return a node with some domains, each with as many GPUs and free cores."""
    numa = [
        f"  - {{name: numa{d}, arch: x86_64, cores: {cores + 2 * gpus}, core_speed: {_figure('1.0')}, "
        f"vector_bits: 512, memory: {_figure('64 GB')}, memory_bandwidth: {_figure('100 GB/s')}}}"
        for d in range(domains)
    ]
    kind, addressing = ("nvlink-c2c", "ats") if coherent else ("pcie", "none")
    parts = [
        f"  - {{name: 'g{d}x{g}', device: tiny, numa: numa{d}, addressing: {addressing}}}"
        for d in range(domains)
        for g in range(gpus)
    ]
    links = [
        f"  - {{between: [numa{d}, 'g{d}x{g}'], kind: {kind}, bandwidth: {_figure('20 GB/s')}, "
        f"latency: {_figure('1 us')}, coherent: {str(coherent).lower()}}}"
        for d in range(domains)
        for g in range(gpus)
    ]
    if domains > 1:
        links.append(
            f"  - {{between: [numa0, numa1], kind: socket, bandwidth: {_figure('10 GB/s')}, "
            f"latency: {_figure('1 us')}}}"
        )
    slices = (
        "  mig:\n"
        "  - {name: small, compute: 0.285714, memory: 0.25, instances: 2, starts: [0, 2]}\n"
        "  - {name: large, compute: 0.571429, memory: 0.5, instances: 1, starts: [4]}\n"
    )  # fmt: skip
    text = "\n".join(
        [
            "schema: topology/1", "name: box", "sources: {none: a test}", "devices:",
            "- name: tiny", "  architecture: hopper", f"  peak: {{bf16: {_figure('100 TFLOP/s')}}}",
            f"  memory: {_figure('16 GB')}", f"  memory_bandwidth: {_figure('1 TB/s')}",
            *([slices.rstrip()] if mig else []),
            "machines:", "- name: box", "  numa:", *numa, "  gpus:", *parts, "  links:", *links,
        ]
    )  # fmt: skip
    return resolve(loads(text + "\n", TopologyDocument))


def _figure(value: str) -> str:
    return f"{{value: {value}, provenance: assumed, source: none}}"


def random_problem(seed: int) -> EnsembleProblem:
    """Return a small random ensemble on a small random machine."""
    draw = random.Random(seed)
    mig = draw.random() < 0.4
    domains, gpus = draw.choice([(1, 1), (1, 2), (2, 1)]) if not mig else draw.choice([(1, 1), (2, 1)])
    topology = machine(domains, gpus, draw.randint(2, 3), mig=mig, coherent=draw.random() < 0.5)
    many = 1 if mig and domains > 1 else draw.choice([1, 2, 2])
    classes = [_class(draw, index) for index in range(many)]
    stages = [_stage(draw, index) for index in range(draw.choice([2, 3]) if len(classes) == 1 else 2)]
    objective = "gpus" if draw.random() < 0.2 else "latency"
    job = EnsembleJob.model_validate(
        {
            "kind": "ensemble", "name": "small", "classes": classes, "stages": stages, "objective": objective,
            "allow": {
                "mig": mig, "tenants": 2, "batches": [1, 4], "priority": draw.random() < 0.7,
                "pinned": draw.choice([0.25, 0.25, 0.0]),
            },
        }
    )  # fmt: skip
    made = make_problem(job, StageGraph(tuple(job.stages)), topology, load_calibration())
    assert isinstance(made, EnsembleProblem)
    return made


def _class(draw: random.Random, index: int) -> dict[str, object]:
    limit = {} if draw.random() < 0.5 else {"slo": {"latency_p99": draw.choice([0.02, 0.05, 0.2])}}
    return {
        "name": f"c{index}", "rate": draw.choice([20.0, 100.0, 250.0]), "items": draw.choice([1, 1, 4]),
        "weight": draw.choice([1.0, 3.0]), **draw.choice([{}, {"process": "gamma", "cv": 2.0}]), **limit,
    }  # fmt: skip


def _stage(draw: random.Random, index: int) -> dict[str, object]:
    cpu = {"work": draw.choice([1e-4, 1e-3, 4e-3]), "vector_share": 0.2, "memory": 1e8}
    gpu = {
        "flops": draw.choice([2e10, 1e11]), "bytes": 1e8, "weights": draw.choice([1e8, 2e9]),
        "kernels": draw.choice([1, 50]), "activations": 1e7, "max_batch": 8,
    }  # fmt: skip
    sides = draw.choice([{"cpu": cpu}, {"gpu": gpu}, {"gpu": gpu}, {"cpu": cpu, "gpu": gpu}])
    return {"name": f"s{index}", "bytes_in": 1e6, "bytes_out": draw.choice([1e3, 3e6]), **sides}


def _partitions(many: Sequence[object], most: int) -> Iterator[list[list[object]]]:
    """Yield the ways to divide things into parts of at most so many."""
    if not many:
        yield []
        return
    first, rest = many[0], many[1:]
    for size in range(min(most, len(many))):
        for others in combinations(range(len(rest)), size):
            part = [first, *(rest[index] for index in others)]
            left = [thing for index, thing in enumerate(rest) if index not in others]
            for parts in _partitions(left, most):
                yield [part, *parts]


class Walk:
    """Every design of a problem, and what the judge says of its parts."""

    def __init__(self, problem: EnsembleProblem) -> None:
        self.problem = problem
        self.barred = {"pinned-copy"} if problem.job.allow.pinned == 0.0 else set()
        self.parts: dict[Pools | Group, dict[Key, Part | None]] = {}
        self.settled: dict[object, list[Group]] = {}

    def least(self) -> float:
        """Return the least objective over every legal design; infinite without one."""
        problem = self.problem
        best = float("inf")
        for sides in product(*(stage.sides for stage in problem.stages)):
            pools = [self._pools(index) for index, side in enumerate(sides) if side == "cpu"]
            keys = [index for index, side in enumerate(sides) if side == "gpu"]
            for groups in self._groupings(keys):
                if not self._fits(groups):
                    continue
                for chosen in product(*pools):
                    best = min(best, self._value(chosen, groups))
        return best

    def _value(self, pools: tuple[Pools, ...], groups: tuple[Group, ...]) -> float:
        cores = [0] * len(self.problem.domains)
        for own in pools:
            for domain in own.domains:
                cores[domain] += own.workers
        if any(used > domain.cores for used, domain in zip(cores, self.problem.domains, strict=True)):
            return float("inf")
        judged = Judged(self.problem, Design(pools, groups, {}))
        judged.__dict__["stage_parts"] = {
            key: part for each in (pools, groups) for own in each for key, part in self._parts(own).items()
        }
        if not judged.stable:
            return float("inf")
        judged.design = Design(pools, groups, dict(self._best_modes(judged)))
        for request, tail in zip(self.problem.classes, judged.tails, strict=True):
            if request.slo.latency_p99 is not None and tail > request.slo.latency_p99 / TICK * FINE * (
                1 + 1e-12
            ):
                return float("inf")
        if list(host_problems(judged)):
            return float("inf")
        if self.problem.job.objective == "gpus":
            placed = seats(self.problem, judged.design)
            assert placed is not None
            return float(len({gpu for own in placed for gpu, _ in own}))
        weights = class_weights(self.problem)
        return float(sum(weight * tail for weight, tail in zip(weights, judged.tails, strict=True)))

    def _parts(self, own: Pools | Group) -> dict[Key, Part | None]:
        if own not in self.parts:
            alone = Design((own,), (), {}) if isinstance(own, Pools) else Design((), (own,), {})
            self.parts[own] = dict(Judged(self.problem, alone).stage_parts)
        return self.parts[own]

    def _best_modes(self, judged: Judged) -> Iterator[tuple[Key, MemoryMode]]:
        """Yield the fastest mode of every copy: modes do not compete while memory may be pinned."""
        problem = self.problem
        for index, way in enumerate(problem.ways):
            for request, own in enumerate(problem.classes):
                ends = [
                    stage is not None and (stage, request) in judged.group_of
                    for stage in (way.source, way.target)
                ]
                if sum(ends) == 1:
                    options = problem.prices.host_copy(problem.size(way, own), "out" if ends[0] else "in")
                    times = {}
                    for mode in options.keys() - self.barred:
                        judged.design = Design(
                            judged.design.pools, judged.design.groups, {(index, request): mode}
                        )
                        times[mode] = judged.moved(index, request).fine
                    yield (index, request), min(times, key=lambda mode: times[mode])

    def _pools(self, stage: int) -> list[Pools]:
        many = range(len(self.problem.domains))
        most = max(domain.cores for domain in self.problem.domains)
        return [
            Pools(stage, workers, chosen)
            for count in range(1, len(many) + 1)
            for chosen in combinations(many, count)
            for workers in range(1, most + 1)
        ]

    def _groupings(self, stages: Sequence[int]) -> Iterator[tuple[Group, ...]]:
        """Yield all ways to serve the GPU stages by groups with settings and units."""
        classes = range(len(self.problem.classes))
        by_stage = [list(_partitions(list(classes), len(classes))) for _ in stages]
        for parted in product(*by_stage):
            tenants = [
                (stage, tuple(part)) for stage, parts in zip(stages, parted, strict=True) for part in parts
            ]
            for groups in _partitions(tenants, self.problem.job.allow.tenants):
                yield from product(*(self._settled(tuple(group)) for group in groups))  # type: ignore[arg-type]

    def _settled(self, tenants: tuple[Serving, ...]) -> list[Group]:
        """Return all settings and units of a group that keep up."""
        if tenants not in self.settled:
            self.settled[tenants] = list(self._all_settings(tenants))
        return self.settled[tenants]

    def _all_settings(self, tenants: tuple[Serving, ...]) -> Iterator[Group]:
        for profile in self.problem.profiles:
            each = (
                1
                if profile is None
                else next(p.instances for p in self.problem.device.mig if p.name == profile)
            )
            rooms = [len(domain.gpus) * each for domain in self.problem.domains]
            for units in product(*(range(room + 1) for room in rooms)):
                if sum(units) not in DIVISORS:
                    continue
                for chosen in product(*(self._settings(one, sum(units)) for one in tenants)):
                    high = [tenant.high for tenant in chosen]
                    if (all(high) and any(high)) or (any(high) and not self.problem.job.allow.priority):
                        continue
                    group = Group(chosen, profile, units)
                    if unit_bytes(self.problem, [(t.stage, t.batch) for t in chosen]) > unit_room(
                        self.problem, profile
                    ):
                        continue
                    if all(part is not None for part in self._parts(group).values()):
                        yield group

    def _settings(self, tenant: Serving, count: int) -> list[Tenant]:
        stage, classes = tenant
        own = self.problem.stages[stage]
        assert own.gpu is not None
        rates = [self.problem.classes[one].rate for one in classes]
        units = [own.units(self.problem.classes[one]) for one in classes]
        mean = sum(rate * number for rate, number in zip(rates, units, strict=True)) / sum(rates)
        sizes = {max(units), *(size for size in (1, 4) if max(units) <= size <= own.gpu.max_batch)}
        found = [(max(units), 0.0)]
        found += [(size, gather_window(sum(rates) / count, mean, size)) for size in sizes if size > mean]
        return [
            Tenant(stage, classes, size, window, high) for size, window in found for high in (False, True)
        ]

    def _fits(self, groups: tuple[Group, ...]) -> bool:
        return seats(self.problem, Design((), groups, {})) is not None
