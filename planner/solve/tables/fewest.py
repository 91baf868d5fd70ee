"""The smallest number of ranks on which tables cost no more than they may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from planner.errors import InfeasibleError, NoPlanError
from planner.placement.tables import TablePlan, TableProblem
from planner.solve.budget import Budget
from planner.solve.tables.search import Effort, lower_bound, solve_tables


@dataclass(frozen=True)
class Fewest:
    """Outcome of a search for few ranks.

    Attributes
    ----------
    ranks, plan
        The smallest number tried whose plan keeps the cost, and the plan; ``None`` where no number does.
    bounds
        Lower bound of the cost of every smaller number, s; infinite where the tables do not fit.
    open
        Smaller numbers of which it is not proven that they fail: their bound keeps the cost, their best plan
        does not.
    """

    ranks: int | None
    plan: TablePlan | None
    bounds: dict[int, float] = field(default_factory=dict)
    open: tuple[int, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether every smaller number was shown to be too few."""
        return not self.open


def fewest_ranks(
    problem_on: Callable[[int], TableProblem],
    counts: Sequence[int],
    cost: float | Callable[[int], float],
    budget: Budget | None = None,
    effort: Effort | None = None,
) -> Fewest:
    """Return the fewest ranks on which the busiest one takes no longer than it may.

    Numbers are tried in rising order: most are refused by the bound alone, without a search.

    Parameters
    ----------
    problem_on
        Makes the problem on a number of ranks.
    counts
        Numbers that may be used.
    cost
        Most time of the busiest rank, s; where it depends on the number of ranks, a function of it.
    """
    bounds: dict[int, float] = {}
    doubtful: list[int] = []
    for count in sorted(counts):
        problem = problem_on(count)
        bounds[count] = lower_bound(problem)
        most = cost(count) if callable(cost) else cost
        if bounds[count] > most:
            continue
        try:
            plan = solve_tables(problem, budget, effort)
        except InfeasibleError:
            bounds[count] = float("inf")
            continue
        except NoPlanError:
            doubtful.append(count)
            continue
        if plan.cost <= most:
            return Fewest(count, plan, bounds, tuple(doubtful))
        bounds[count] = plan.bound
        if plan.bound <= most:
            doubtful.append(count)
    return Fewest(None, None, bounds, tuple(doubtful))
