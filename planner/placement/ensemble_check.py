"""Every rule that a plan of an ensemble may break, recomputed from the plan alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from planner.placement.bindings import core_numbers
from planner.placement.ensemble import dealt_evenly, design_of, gpu_utilisation
from planner.placement.ensemble_design import Design, Group
from planner.placement.ensemble_judge import Judged, seconds
from planner.placement.ensemble_plan import EnsemblePlan, EnsemblePool, EnsemblePrediction, GpuInstance
from planner.placement.ensemble_problem import EnsembleProblem
from planner.placement.ensemble_records import (
    group_memory,
    host_memory,
    host_problems,
    prediction,
    transfers,
    weighted_tail,
)
from planner.placement.ensemble_units import unit_bytes, unit_room
from planner.placement.slices import Cut, cut_problems
from planner.schema import Record, expand

RELATIVE = 1e-6


def ensemble_objective(problem: EnsembleProblem, plan: EnsemblePlan) -> float:
    """Return the objective of a plan, recomputed: weighted 99th percentiles, s, or GPUs."""
    if problem.job.objective == "gpus":
        return float(len(plan.gpus()))
    return weighted_tail(Judged(problem, design_of(problem, plan)))


def ensemble_problems(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[str]:
    """Yield every rule that a plan breaks, as sentences."""
    named = list(_name_problems(problem, plan)) or list(_shape_problems(problem, plan))
    if named:
        yield from (f"{plan.name}: {text}" for text in named)
        return
    design = design_of(problem, plan)
    found = [*_gpu_problems(problem, plan), *_unit_problems(problem, design)]
    judged = Judged(problem, design)
    if found or not judged.stable:
        found += [] if judged.stable else ["a pool or a GPU cannot keep up with its requests"]
        yield from (f"{plan.name}: {text}" for text in found)
        return
    found += [*host_problems(judged), *_core_problems(problem, plan), *_limits_broken(judged)]
    found += _stated(judged, plan)
    yield from (f"{plan.name}: {text}" for text in found)


def _name_problems(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[str]:
    stages = {stage.name: stage for stage in problem.stages}
    classes = {request.name for request in problem.classes}
    domains = {domain.name for domain in problem.domains}
    gpus = set(problem.hierarchy.gpus)
    for pool in plan.pools:
        if pool.stage not in stages or stages[pool.stage].cpu is None:
            yield f"there is no CPU stage {pool.stage!r}"
        if f"{pool.node}/{pool.numa}" not in domains:
            yield f"there is no NUMA domain {pool.node}/{pool.numa}"
    for each in plan.instances:
        if each.stage not in stages or stages[each.stage].gpu is None:
            yield f"there is no GPU stage {each.stage!r}"
        if each.gpu not in gpus:
            yield f"unknown GPU {each.gpu!r}"
        if each.mig not in problem.profiles:
            yield f"the job has no use of the profile {each.mig!r}: the GPU lacks it or MIG is not allowed"
        yield from (f"there is no class {name!r}" for name in each.classes if name not in classes)
    for move in plan.transfers:
        ends = [name for name in (move.source, move.target) if name is not None and name not in stages]
        yield from (f"there is no stage {name!r}" for name in ends)
        if move.request not in classes:
            yield f"there is no class {move.request!r}"


def _shape_problems(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[str]:
    """Yield groups and pools that are not equal, and classes that are served twice or nowhere."""
    pools: dict[str, list[EnsemblePool]] = defaultdict(list)
    groups: dict[str, list[GpuInstance]] = defaultdict(list)
    for pool in plan.pools:
        pools[pool.stage].append(pool)
    for each in plan.instances:
        groups[each.group].append(each)
    for stage, own in pools.items():
        kinds = {(pool.workers, pool.cores, round(pool.share * len(own), 6)) for pool in own}
        apart = len({(pool.node, pool.numa) for pool in own}) == len(own)
        if not apart or len(kinds) != 1 or not dealt_evenly(len(own)):
            yield f"the pools of {stage} are not equal pools in domains of their own"
    for name, members in groups.items():
        yield from _uneven(name, members)
    yield from _route_problems(problem, plan)


def _route_problems(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[str]:
    """Yield classes that are served twice or nowhere at a stage, or elsewhere than their route says."""
    served: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pool in plan.pools:
        for request in problem.classes:
            served[pool.stage, request.name].add("cpu")
    for each in plan.instances:
        for name in each.classes:
            served[each.stage, name].add(each.group)
    routes = {(route.stage, route.request): {route.to} for route in plan.routes}
    for stage in problem.stages:
        for request in problem.classes:
            key = stage.name, request.name
            if len(served[key]) != 1:
                where = " and ".join(sorted(served[key])) or "nowhere"
                yield f"{request.name} is served at {stage.name} by {where}"
            if routes.get(key, set()) != served[key]:
                yield f"the route of {key[1]} at {key[0]} is {routes.get(key)}, it is served by {served[key]}"


def _uneven(name: str, members: Sequence[GpuInstance]) -> Iterator[str]:
    units: dict[tuple[str, int | None], list[tuple[object, ...]]] = defaultdict(list)
    for each in members:
        settings = (each.stage, tuple(sorted(each.classes)), each.max_batch, each.window, each.priority)
        units[each.gpu, each.start].append((*settings, each.mig))
    kinds = {tuple(sorted(map(repr, own))) for own in units.values()}
    if len(kinds) != 1 or not dealt_evenly(len(units)):
        yield f"the units of {name} are not equal, or requests cannot be dealt out over {len(units)}"
    elif len({each.mig for each in members}) != 1:
        yield f"the units of {name} are of several profiles"
    if any(abs(each.share * len(units) - 1.0) > RELATIVE for each in members):
        yield f"the shares of the instances of {name} are not those of {len(units)} equal ones"
    keys = [(each.stage, one) for each in members for one in each.classes]
    if len(keys) != len(set(keys)) * len(units):
        yield f"a unit of {name} serves a class at a stage twice"


def _gpu_problems(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[str]:
    """Yield GPUs that are used whole and cut, by two groups, or cut in a way that they do not allow."""
    users: dict[str, dict[tuple[str | None, int | None], set[str]]] = defaultdict(lambda: defaultdict(set))
    for each in plan.instances:
        users[each.gpu][each.mig, each.start].add(each.group)
    for gpu, units in users.items():
        if any(len(groups) > 1 for groups in units.values()) or ((None, None) in units and len(units) > 1):
            yield f"{gpu} is given to several groups"
        if any((mig is None) != (start is None) for mig, start in units):
            yield f"{gpu}: a slice needs its profile and where it starts"
            continue
        cuts = [Cut(mig, start) for mig, start in units if mig is not None and start is not None]
        yield from (f"{gpu}: {text}" for text in cut_problems(problem.device, cuts))
    if len(users) > problem.num_gpus:
        yield f"{len(users)} GPUs exceed the {problem.num_gpus} that may be used"


def _unit_problems(problem: EnsembleProblem, design: Design) -> Iterator[str]:
    for group in design.groups:
        names = " and ".join(problem.stages[tenant.stage].name for tenant in group.tenants)
        if len(group.tenants) > problem.job.allow.tenants:
            yield f"{len(group.tenants)} instances share a unit, {problem.job.allow.tenants} may"
        yield from _setting_problems(problem, group)
        need = unit_bytes(problem, [(tenant.stage, tenant.batch) for tenant in group.tenants])
        if need > unit_room(problem, group.profile):
            yield f"{names} need {need:.4g} bytes of {unit_room(problem, group.profile):.4g}"


def _setting_problems(problem: EnsembleProblem, group: Group) -> Iterator[str]:
    for tenant in group.tenants:
        stage = problem.stages[tenant.stage]
        assert stage.gpu is not None
        largest = max(stage.units(problem.classes[one]) for one in tenant.classes)
        if not largest <= tenant.batch <= stage.gpu.max_batch:
            allowed = f"{largest} to {stage.gpu.max_batch}"
            yield f"batches of {tenant.batch} at {stage.name}, where {allowed} units are possible"
        whole = len(tenant.classes) == len(problem.classes)
        if not whole and not problem.job.allow.split_classes:
            yield f"{stage.name} has instances for some classes only, which the job does not allow"
        fixed = {problem.classes[one].priority for one in tenant.classes} - {None}
        alone = len(group.tenants) == 1 or not any(each.high for each in group.tenants)
        if not alone and fixed and tenant.high != ("high" in fixed):
            yield f"the stream of {stage.name} has not the priority that the job asks for"
        if tenant.high and not problem.job.allow.priority and not fixed:
            yield f"the stream of {stage.name} has high priority, which the job does not allow"


def _core_problems(problem: EnsembleProblem, plan: EnsemblePlan) -> Iterator[str]:
    """Yield core lists that clash, that take cores of others, or that are not as long as stated."""
    stages = {stage.name: stage for stage in problem.stages}
    taken: dict[str, set[int]] = defaultdict(set)
    domains = {domain.name: domain for domain in problem.domains}
    for pool in plan.pools:
        name, cpu = f"{pool.node}/{pool.numa}", stages[pool.stage].cpu
        domain = domains[name]
        numbers = core_numbers(problem.machines[domain.node], domain.numa.name)
        own = {int(number) for number in expand(f"[{pool.core_list}]")}
        free = set(numbers[len(numbers) - domain.cores :])
        if len(own) != pool.cores or cpu is None or pool.cores != pool.workers * cpu.parallel:
            yield f"{pool.stage} states {pool.cores} cores for {pool.workers} workers and lists {len(own)}"
        if own & taken[name] or not own <= free:
            yield f"the cores of {pool.stage} on {name} are not its own"
        taken[name] |= own


def _limits_broken(judged: Judged) -> Iterator[str]:
    for request, tail in zip(judged.problem.classes, judged.tails, strict=True):
        limit = request.slo.latency_p99
        if limit is not None and seconds(tail) > limit * (1 + 1e-9):
            yield f"latency_p99 of {request.name} is {seconds(tail):.4g} s, the limit {limit:.4g} s"


def _stated(judged: Judged, plan: EnsemblePlan) -> list[str]:
    """Return figures of the plan that differ from the judge's."""
    problem = judged.problem
    busy = gpu_utilisation(problem, plan.instances)
    expected: EnsemblePrediction = prediction(judged).model_copy(update={"gpu_utilisation": busy})
    pairs: list[tuple[str, object, object]] = [("prediction", plan.prediction, expected)]
    pairs += [("transfers", _by_ends(plan.transfers), _by_ends(transfers(judged)))]
    pairs += [("host memory", plan.host_memory, host_memory(judged))]
    groups = [group_memory(problem, number, group) for number, group in enumerate(judged.design.groups)]
    pairs += [("memory", plan.memory, groups)]
    table = {
        (problem.stages[tenant.stage].name, one): float(judged.tables[group].own[place][0])
        for group in judged.design.groups
        for place, tenant in enumerate(group.tenants)
        for one in [problem.classes[tenant.classes[0]].name]
    }
    found = [text for name, stated, own in pairs for text in differences(name, stated, own)]
    for each in plan.instances:
        first = min(each.classes, key=[request.name for request in problem.classes].index)
        found += differences(f"utilisation of {each.name}", each.utilisation, table[each.stage, first])
    return found


def _by_ends(moves: Sequence[Record]) -> dict[str, object]:
    return {
        "/".join(str(getattr(each, field)) for field in ("source", "target", "request")): each
        for each in moves
    }


def differences(name: str, stated: object, found: object) -> list[str]:
    """Return where stated figures differ from those found, field by field."""
    if isinstance(stated, Record) and isinstance(found, Record):
        fields = type(found).model_fields
        return [
            text
            for field in fields
            for text in differences(f"{name}, {field}", getattr(stated, field), getattr(found, field))
        ]
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        deeper = partial(_of_mappings, name, stated, found)
        return [text for key in dict.fromkeys([*stated, *found]) for text in deeper(key)]
    if isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        pairs = enumerate(zip(stated, found, strict=True))
        return [
            text for place, (left, right) in pairs for text in differences(f"{name} {place}", left, right)
        ]
    if isinstance(stated, float | int) and isinstance(found, float | int):
        close = abs(stated - found) <= RELATIVE * max(abs(found), 1e-9)
        return [] if close else [f"{name} {stated:.6g} stated, the judge finds {found:.6g}"]
    return [] if stated == found else [f"{name} {stated!r} stated, the judge finds {found!r}"]


def _of_mappings(
    name: str, stated: Mapping[object, object], found: Mapping[object, object], key: object
) -> list[str]:
    return differences(f"{name}, {key}", stated.get(key, 0.0), found.get(key, 0.0))
