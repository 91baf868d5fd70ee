"""Plans of ensembles: from a design to its record and back, and every rule that a plan may break."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from planner.costs import MemoryMode
from planner.placement.bindings import as_core_list, core_numbers, gpu_bindings
from planner.placement.ensemble_cuts import cut_gpus
from planner.placement.ensemble_design import Design, Group, Key, Pools, Tenant
from planner.placement.ensemble_judge import Judged
from planner.placement.ensemble_plan import EnsemblePlan, EnsemblePool, EnsembleRoute, GpuInstance, Purpose
from planner.placement.ensemble_problem import SHARES, EnsembleProblem
from planner.placement.ensemble_records import (
    group_memory,
    host_memory,
    pool_utilisation,
    prediction,
    transfers,
)
from planner.placement.records import Binding
from planner.placement.slices import Cut

SHARED: Purpose = "shared"
Seat = tuple[str, Cut | None]
"""A GPU, and its slice where it is cut."""


def ensemble_plan(problem: EnsembleProblem, design: Design) -> EnsemblePlan:
    """Return the plan of a design that is legal and keeps up, with the judge's figures."""
    judged = Judged(problem, design)
    instances = list(_instances(judged))
    said = prediction(judged)
    busy = gpu_utilisation(problem, instances)
    return EnsemblePlan(
        name=problem.job.name,
        model=problem.job.name,
        pools=_pools(judged),
        instances=instances,
        routes=list(_routes(judged)),
        transfers=transfers(judged),
        bindings=bindings(problem, instances),
        memory=[group_memory(problem, number, group) for number, group in enumerate(design.groups)],
        host_memory=host_memory(judged),
        prediction=said.model_copy(update={"gpu_utilisation": busy}),
    )


def gpu_utilisation(problem: EnsembleProblem, instances: Sequence[GpuInstance]) -> dict[str, float]:
    """Return the busy part of every GPU in use, slices by their share of the multiprocessors."""
    found: dict[str, float] = defaultdict(float)
    for instance in instances:
        found[instance.gpu] += instance.utilisation * problem.compute_share(instance.mig)
    return dict(found)


def bindings(problem: EnsembleProblem, instances: Sequence[GpuInstance]) -> list[Binding]:
    """Return NUMA domain, cores kept, and network port of the GPUs of the machines in use."""
    kept = int(problem.calibration.number("host_cores_per_gpu"))
    machines = {
        machine.name: machine
        for node, machine in problem.machines.items()
        if any(instance.gpu.startswith(f"{node}/") for instance in instances)
    }
    return [binding for machine in machines.values() for binding in gpu_bindings(machine, max(1, kept))]


def _pools(judged: Judged) -> list[EnsemblePool]:
    """Return the pools with core numbers, those kept for the GPUs of a domain left out."""
    problem = judged.problem
    free: dict[int, list[int]] = {}
    found = []
    for pools in judged.design.pools:
        stage = problem.stages[pools.stage]
        assert stage.cpu is not None
        for index in pools.domains:
            domain = problem.domains[index]
            numbers = core_numbers(problem.machines[domain.node], domain.numa.name)
            own = free.setdefault(index, numbers[len(numbers) - domain.cores :])
            cores = pools.workers * stage.cpu.parallel
            taken = [own.pop(0) for _ in range(min(cores, len(own)))]
            found.append(
                EnsemblePool(
                    stage=stage.name, node=domain.node, numa=domain.numa.name, cores=cores,
                    core_list=as_core_list(taken), workers=pools.workers, share=1.0 / len(pools.domains),
                    utilisation=pool_utilisation(problem, pools),
                )
            )  # fmt: skip
    return found


def seats(problem: EnsembleProblem, design: Design) -> list[list[Seat]] | None:
    """Return the GPU or slice of every unit of every group; ``None`` where they do not fit."""
    found: list[list[Seat]] = [[] for _ in design.groups]
    for index, domain in enumerate(problem.domains):
        gpus = list(domain.gpus)
        wanted: dict[str, int] = defaultdict(int)
        for place, group in enumerate(design.groups):
            units = group.units[index]
            if group.profile is None:
                if units > len(gpus):
                    return None
                found[place] += [(gpus.pop(0), None) for _ in range(units)]
            else:
                wanted[group.profile] += units
        cuts = cut_gpus(problem.device, dict(wanted), len(gpus))
        if cuts is None:
            return None
        free = [(gpu, cut) for gpu, own in zip(gpus, cuts, strict=False) for cut in own]
        for place, group in enumerate(design.groups):
            if group.profile is not None:
                for _ in range(group.units[index]):
                    seat = next(each for each in free if each[1].profile == group.profile)
                    free.remove(seat)
                    found[place].append((seat[0], seat[1]))
    return found


def _instances(judged: Judged) -> Iterator[GpuInstance]:
    problem = judged.problem
    placed = seats(problem, judged.design)
    assert placed is not None
    for number, (group, own) in enumerate(zip(judged.design.groups, placed, strict=True)):
        table = judged.tables[group]
        for place, tenant in enumerate(group.tenants):
            stage = problem.stages[tenant.stage]
            assert stage.gpu is not None
            busy, (units, time) = float(table.own[place][0]), table.batches[place]
            for copy, (gpu, cut) in enumerate(own):
                yield GpuInstance(
                    name=f"{stage.name}-{'-'.join(_names(problem, tenant))}-{copy}", stage=stage.name,
                    group=f"group-{number}", gpu=gpu, mig=group.profile,
                    start=None if cut is None else cut.start, classes=_names(problem, tenant),
                    share=1.0 / group.count, max_batch=tenant.batch, preferred_sizes=[tenant.batch],
                    window=tenant.window, priority="high" if tenant.high else "normal",
                    graph_shapes=graph_shapes(tenant.batch) if problem.job.cuda_graphs else [],
                    batch=float(units[0]), seconds=float(time[0]), utilisation=busy,
                    memory=stage.gpu.weights + tenant.batch * stage.gpu.activations,
                )  # fmt: skip


def _names(problem: EnsembleProblem, tenant: Tenant) -> list[str]:
    return [problem.classes[one].name for one in tenant.classes]


def graph_shapes(batch: int) -> list[int]:
    """Return the batch sizes to capture as CUDA graphs: powers of two, and the largest."""
    return sorted({batch, *(1 << step for step in range(batch.bit_length()) if 1 << step <= batch)})


def _routes(judged: Judged) -> Iterator[EnsembleRoute]:
    problem, design = judged.problem, judged.design
    number = {group: place for place, group in enumerate(design.groups)}
    for index, stage in enumerate(problem.stages):
        sizes = {
            request: max(each.batch for each in group.tenants if (index, request) in each.keys)
            for request in range(len(problem.classes))
            for group in [judged.group_of.get((index, request))]
            if group is not None
        }
        apart = len({judged.group_of[index, request] for request in sizes}) > 1
        for request, own in enumerate(problem.classes):
            to, purpose = "cpu", SHARED
            if request in sizes:
                to = f"group-{number[judged.group_of[index, request]]}"
                if apart:
                    purpose = "latency" if sizes[request] == min(sizes.values()) else "bulk"
            yield EnsembleRoute(stage=stage.name, request=own.name, to=to, purpose=purpose)


def design_of(problem: EnsembleProblem, plan: EnsemblePlan) -> Design:
    """Return the decisions that a plan states.

    Raises
    ------
    KeyError
        If it names a stage, a class or a domain that the problem lacks.
    """
    stage_of = {stage.name: index for index, stage in enumerate(problem.stages)}
    class_of = {request.name: index for index, request in enumerate(problem.classes)}
    domain_of = {domain.name: domain.index for domain in problem.domains}
    near = {gpu: domain.index for domain in problem.domains for gpu in domain.gpus}
    pools: dict[int, list[EnsemblePool]] = defaultdict(list)
    for pool in plan.pools:
        pools[stage_of[pool.stage]].append(pool)
    groups: dict[str, list[GpuInstance]] = defaultdict(list)
    for instance in plan.instances:
        groups[instance.group].append(instance)
    index = {(way.source, way.target): place for place, way in enumerate(problem.ways)}
    modes: dict[Key, MemoryMode] = {}
    for item in plan.transfers:
        if item.mode is not None:
            source = None if item.source is None else stage_of[item.source]
            target = None if item.target is None else stage_of[item.target]
            modes[index[source, target], class_of[item.request]] = item.mode
    return Design(
        tuple(
            Pools(stage, own[0].workers, tuple(sorted(domain_of[f"{p.node}/{p.numa}"] for p in own)))
            for stage, own in sorted(pools.items())
        ),
        tuple(_group(own, stage_of, class_of, near, len(problem.domains)) for own in groups.values()),
        modes,
    )


def _group(
    instances: Sequence[GpuInstance], stage_of: Mapping[str, int], class_of: Mapping[str, int],
    near: Mapping[str, int], domains: int,
) -> Group:  # fmt: skip
    tenants = {
        Tenant(
            stage_of[each.stage], tuple(sorted(class_of[name] for name in each.classes)), each.max_batch,
            each.window, each.priority == "high",
        )
        for each in instances
    }  # fmt: skip
    units = {(each.gpu, each.start) for each in instances}
    counts = [0] * domains
    for gpu, _ in units:
        counts[near[gpu]] += 1
    return Group(tuple(sorted(tenants, key=lambda tenant: tenant.keys)), instances[0].mig, tuple(counts))


def dealt_evenly(count: int) -> bool:
    """Whether requests can be dealt out to as many equal places."""
    return count > 0 and SHARES % count == 0
