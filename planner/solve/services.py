"""Solve a serving job, with replicas that do all or with pools, and assemble its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import InfeasibleError, NoPlanError
from planner.placement import (
    Batching,
    Decision,
    JobPlan,
    Replica,
    ServingPlan,
    ServingProblem,
    Strategy,
    serving_memory,
    serving_prediction,
)
from planner.placement.bindings import gpu_bindings, with_core_lists
from planner.placement.plan import PrefillPart
from planner.placement.pools import AGGREGATED, DISAGGREGATED, PoolOutcome, allowed_pools, prompt_memory
from planner.solve.baselines import even_layers, serving_baselines
from planner.solve.budget import Budget
from planner.solve.cuts import AnyCut, allowed, cut_pairs
from planner.solve.degrees import powers_of_two
from planner.solve.hints import Hint, serving_hint
from planner.solve.infeasible import explain_serving
from planner.solve.pools import PoolSearch
from planner.solve.serving import PlacedService, ServingSearch, serving_strategies
from planner.solve.solution import JobSolution, no_plan
from planner.solve.why import pool_decision, serving_decisions
from planner.topology import MachineType


@dataclass(frozen=True)
class ServiceSearch:
    """What the searches over replicas that do all, and over pools, found together.

    Attributes
    ----------
    bound
        Proven lower bound of the objective over all that the job allows.
    strategies
        Those of replicas that were searched.
    how
        What was searched, in words.
    """

    best: PlacedService | None
    bound: float
    evaluated: int
    visited: int
    strategies: list[Strategy]
    how: str


def search_service(
    problem: ServingProblem, budget: Budget, start: PlacedService | None = None, cuts: Sequence[AnyCut] = ()
) -> ServiceSearch:
    """Return the best service of those that a job allows: replicas that do all, pools, or either."""
    kinds = allowed_pools(problem)
    strategies = allowed(problem, serving_strategies(problem), cuts)
    plain = ServingSearch(problem, budget, start)
    if AGGREGATED in kinds:
        plain.run(strategies)
    pools = PoolSearch(problem, budget, plain.incumbent, cut_pairs(problem, cuts))
    if DISAGGREGATED in kinds:
        pools.run()
    return ServiceSearch(
        pools.best or plain.best,
        min(plain.bound, pools.bound),
        plain.evaluated + pools.evaluated,
        plain.visited + pools.visited,
        strategies,
        _how(problem, plain, pools) if DISAGGREGATED in kinds else "",
    )


def _is_cut(problem: ServingProblem, placed: PlacedService, cuts: Sequence[AnyCut]) -> bool:
    """Whether a cut leaves out a service."""
    if placed.prefill is not None:
        return (placed.prefill.strategy, placed.strategy) in cut_pairs(problem, cuts)
    return not allowed(problem, [placed.strategy], cuts)


def _how(problem: ServingProblem, plain: ServingSearch, pools: PoolSearch) -> str:
    """Return what was searched besides replicas that do all, in words."""
    priced = f"{plain.evaluated:,} strategies with their ways to span the machine"
    pairs = f"{pools.evaluated:,} pairs of pools priced"
    if AGGREGATED not in allowed_pools(problem):
        return f"{pairs}, {pools.visited:,} placed; caches move over the level that holds both pools"
    if problem.job.before or problem.job.after:
        return f"{priced} priced, {plain.visited:,} placed; no pools, as the job has CPU stages"
    return (
        f"{priced} and {pairs}, {plain.visited + pools.visited:,} placed; "
        "caches move over the level that holds both pools"
    )


def solve_service(
    problem: ServingProblem, budget: Budget, start: JobPlan | None, cuts: Sequence[AnyCut], *, explain: bool
) -> JobSolution:
    """Return the best plan of a service with its bound.

    Raises
    ------
    InfeasibleError
        If no plan can exist.
    NoPlanError
        If the budget ended before any plan was found.
    """
    hint = serving_hint(problem, start)
    if hint.placed is not None and _is_cut(problem, hint.placed, cuts):
        hint = Hint(reason="its simulation breaks a limit")
    search = search_service(problem, budget, hint.placed, cuts)
    if search.best is None:
        if search.bound < float("inf"):
            raise NoPlanError(no_plan(problem.job.name, budget), search.bound)
        if cuts:
            raise InfeasibleError(f"job {problem.job.name!r}: no strategy is left", remedy="")
        raise explain_service(problem)
    best = search.best
    decisions: list[Decision] = hint.decisions(best.value)
    if explain:
        decisions += pool_decision(problem, best, budget, search.strategies)
        decisions += serving_decisions(problem, best, budget, search.strategies)
    return JobSolution(
        service_plan(problem, best),
        problem.job.objective,
        problem.unit,
        best.value,
        search.bound,
        search.evaluated,
        search.visited,
        serving_baselines(problem, best, budget) if explain else [],
        decisions,
        searched=search.how,
    )


def explain_service(problem: ServingProblem) -> InfeasibleError:
    """Return the error for a service that fits nowhere."""
    name = problem.job.name
    if AGGREGATED in allowed_pools(problem):
        return explain_serving(problem)
    if problem.job.before or problem.job.after:
        return InfeasibleError(
            f"job {name!r}: pools for prompts and for answers cannot have CPU stages",
            ["pools: [disaggregated]", "CPU stages of the job"],
            "allow 'aggregated' in 'degrees.pools', or serve the CPU stages as a job of their own",
        )
    limits = [f"{limit} of {value:g} s" for limit, value in problem.job.slo if value is not None]
    return InfeasibleError(
        f"job {name!r}: no two pools on {problem.num_gpus} GPUs {problem.device.name} hold every limit at "
        f"{problem.job.traffic.rate:g} requests/s",
        [*limits, f"offered rate of {problem.job.traffic.rate:g} requests/s", f"{problem.num_gpus} GPUs"],
        "allow 'aggregated' in 'degrees.pools', ease a limit, lower the rate, or give more GPUs",
    )


def service_plan(problem: ServingProblem, best: PlacedService) -> ServingPlan:
    """Return the plan record of a placed service."""
    own = _Pool(problem, best.strategy, best.replicas, int(best.outcome.model.max_batch[0]))
    prefill, machines = _prefill_part(problem, best), own.machines
    if prefill is not None:
        machines = machines | _Pool(problem, prefill.strategy, prefill.replicas, 1).machines
    kept = own.kept
    return ServingPlan(
        name=problem.job.name,
        model=problem.model.name,
        strategy=best.strategy,
        layers=own.layers,
        replicas=own.placed(),
        bindings=[binding for machine in machines.values() for binding in gpu_bindings(machine, kept)],
        batching=own.batching(graphs=problem.job.cuda_graphs),
        memory=serving_memory(problem, best.strategy, best.outcome.model, own.max_batch),
        prediction=serving_prediction(problem, best.outcome, best.strategy),
        prefill=prefill,
    )


def _prefill_part(problem: ServingProblem, best: PlacedService) -> PrefillPart | None:
    """Return the record of the pool for prompts, if there is one."""
    if best.prefill is None or not isinstance(best.outcome, PoolOutcome):
        return None
    strategy, figures = best.prefill.strategy, best.outcome.prefill
    pool = _Pool(problem, strategy, list(best.prefill.replicas), int(figures.sequences[0]))
    return PrefillPart(
        strategy=strategy,
        layers=pool.layers,
        replicas=pool.placed(),
        batching=pool.batching(graphs=False),
        memory=prompt_memory(problem, strategy, figures, pool.max_batch),
        cache_move=best.outcome.moved,
    )


@dataclass(frozen=True)
class _Pool:
    """Equal replicas on their nodes, as a plan records them."""

    problem: ServingProblem
    strategy: Strategy
    replicas: list[Replica]
    max_batch: int

    @property
    def layers(self) -> list[int]:
        return even_layers(self.problem.model.layers, self.strategy.pp)

    @property
    def kept(self) -> int:
        """Cores kept for the engine of each GPU."""
        return int(self.problem.calibration.number("host_cores_per_gpu"))

    @property
    def nodes(self) -> dict[str, MachineType]:
        return {one.node: self.problem.topology.node_of[one.node].machine for one in self.replicas}

    @property
    def machines(self) -> dict[str, MachineType]:
        return {machine.name: machine for machine in self.nodes.values()}

    def placed(self) -> list[Replica]:
        """Return the replicas with the numbers of their cores."""
        return with_core_lists(self.replicas, self.nodes, self.kept)

    def batching(self, *, graphs: bool) -> Batching:
        """Return how requests are batched; CUDA graphs hold the sequences of one copy of attention."""
        return Batching(
            max_batch=self.max_batch,
            max_tokens=int(self.problem.calibration.number("prefill_chunk")),
            graph_shapes=powers_of_two(self.max_batch // self.strategy.adp) if graphs else [],
        )
