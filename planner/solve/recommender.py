"""Solve a recommender job: the plan, the simple rules beside it, and what its freedom is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from planner.costs.embeddings import Kernel, ShardingKind, enumerate_options, row_parts
from planner.errors import InfeasibleError, NoPlanError
from planner.placement import Baseline, Decision, RecommenderProblem, recommender_plan
from planner.placement.tables import TablePlacement, TablePlan, TableProblem, check_tables, table_loads
from planner.solve.budget import Budget
from planner.solve.solution import JobSolution
from planner.solve.tables import Effort, Fewest, fewest_ranks, solve_tables

PRECISION = 2e-5
"""Relative gap up to which a plan counts as optimal: the rounding of times in the exact model."""
QUICK = Effort(gap=1e-2, rounds=1, tries=500, proof=0.3, repair=0.1)
"""Effort for what an alternative gives."""


def solve_recommender(problem: RecommenderProblem, budget: Budget, *, explain: bool = True) -> JobSolution:
    """Return the best plan of a recommender with its bound.

    Raises
    ------
    InfeasibleError
        If the tables fit in no way.
    NoPlanError
        If the budget ended before there was a plan.
    """
    inner = problem.table_problem
    found = solve_tables(inner, budget)
    options = sum(1 for _ in enumerate_options(inner.tables, inner.space))
    return JobSolution(
        recommender_plan(problem, found.placements),
        "embedding_time",
        "s",
        found.cost,
        found.bound,
        options,
        len(inner.tables),
        list(_baselines(inner, found.cost)) if explain else [],
        list(_decisions(inner, found, budget)) if explain else [],
        PRECISION,
        f"{options:,} ways to shard {len(inner.tables)} tables over {len(problem.ranks)} ranks, costs of the "
        f"model {problem.job.costs!r}",
    )


def fewest_gpus(
    problem: RecommenderProblem,
    seconds: float,
    counts: Sequence[int] | None = None,
    budget: Budget | None = None,
    effort: Effort | None = None,
) -> Fewest:
    """Return the fewest of a problem's GPUs on which an iteration takes at most ``seconds``.

    The batch stays the same, so fewer GPUs have more samples each; the dense part counts.

    Parameters
    ----------
    counts
        Numbers to try; by default powers of two on a node and whole nodes, up to all GPUs of the problem.
    """

    def on(count: int) -> RecommenderProblem:
        limits = problem.job.budget.model_copy(update={"gpus": count})
        return replace(problem, job=problem.job.model_copy(update={"budget": limits}))

    whole, local = problem.num_gpus, problem.local_size
    inside = [1 << step for step in range(local.bit_length()) if 1 << step < local]
    tried = counts or [*inside, *range(local, whole + 1, local)]
    return fewest_ranks(
        lambda count: on(count).table_problem,
        tried,
        lambda count: seconds - on(count).dense_seconds,
        budget,
        effort,
    )


def _baselines(inner: TableProblem, best: float) -> Iterator[Baseline]:
    rules = {
        "whole tables, largest first": tuple(_largest_first(inner, "fused")),
        "all tables by rows": tuple(_by_rows(inner, place, "fused") for place in range(len(inner.tables))),
    }
    if "fused_uvm" in inner.space.kernels:
        rules["all tables in host memory"] = tuple(_largest_first(inner, "fused_uvm"))
    for name, placements in rules.items():
        cost = float(table_loads(inner, placements).seconds.max())
        broken = check_tables(
            inner, TablePlan(placements=placements, cost=cost, bound=0.0, status="feasible")
        )
        yield Baseline(
            name=name,
            value=None if broken else cost,
            ratio=None if broken or best <= 0.0 else cost / best,
            note=broken[0] if broken else "",
        )


def _largest_first(inner: TableProblem, kernel: Kernel) -> Iterator[TablePlacement]:
    """Yield whole tables, each on the rank that holds least so far."""
    held = np.zeros(inner.costs.world_size)
    for table in sorted(inner.tables, key=lambda each: -each.size):
        rank = int(held.argmin())
        held[rank] += table.size
        yield TablePlacement(
            table=table.name,
            kind="table_wise",
            kernel=kernel,
            columns=(table.dim,),
            rows=(table.rows,),
            ranks=(rank,),
        )


def _by_rows(inner: TableProblem, place: int, kernel: Kernel) -> TablePlacement:
    table, ranks = inner.tables[place], inner.costs.world_size
    return TablePlacement(
        table=table.name,
        kind="row_wise",
        kernel=kernel,
        columns=(table.dim,),
        rows=row_parts(table.rows, ranks),
        ranks=tuple(range(ranks)),
    )


def _decisions(inner: TableProblem, found: TablePlan, budget: Budget) -> Iterator[Decision]:
    """Yield what the plan would lose without one of its ways to shard or one of its tiers."""
    kinds = {placement.kind for placement in found.placements}
    for kind in sorted(kinds):
        left = tuple(other for other in inner.space.kinds if other != kind)
        used = sum(placement.kind == kind for placement in found.placements)
        text = f"{used} of {len(found.placements)} tables"
        without = f"no {_words(kind)} tables"
        yield _decision(_words(kind), text, without, _other(inner, left, inner.space.kernels), found, budget)
    for name, kernel in (("tables in host memory", "fused_uvm"), ("cached tables", "fused_uvm_caching")):
        used = sum(placement.kernel == kernel for placement in found.placements)
        if used:
            kernels = tuple(other for other in inner.space.kernels if other != kernel)
            text = f"{used} of {len(found.placements)} tables"
            yield _decision(name, text, "none", _other(inner, inner.space.kinds, kernels), found, budget)


def _words(kind: ShardingKind) -> str:
    return kind.replace("_", " ")


def _other(inner: TableProblem, kinds: Sequence[ShardingKind], kernels: Sequence[Kernel]) -> TableProblem:
    space = replace(inner.space, kinds=tuple(kinds), kernels=tuple(kernels))
    return replace(inner, space=space)


def _decision(
    what: str, chosen: str, alternative: str, other: TableProblem, found: TablePlan, budget: Budget
) -> Decision:
    loss, reason = None, "nothing else fits the memory"
    try:
        without = solve_tables(other, budget.part(min(2.0, max(budget.left, 0.5))), QUICK)
        loss, reason = max(0.0, without.cost / found.cost - 1.0), "a short search without it"
    except InfeasibleError:
        pass
    except NoPlanError:
        reason = "a short search without it found no plan"
    return Decision(decision=what, chosen=chosen, alternative=alternative, loss=loss, reason=reason)
