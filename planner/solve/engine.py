"""Run CP-SAT under a budget: one place for limits, seed, workers, determinism and export."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from ortools.sat.python import cp_model

from planner.errors import PlannerError
from planner.solve.budget import Budget, LastModel, never

LEAST = 0.01
"""Shortest limit of a solve, s."""
POLL = 0.05
"""How often a running solve looks whether it shall stop, s."""
Watch = cp_model.CpSolverSolutionCallback


def run_model(
    model: cp_model.CpModel,
    budget: Budget,
    *,
    seconds: float = float("inf"),
    work: float = float("inf"),
    least: float = LEAST,
    linearization: int = 1,
    gap: float = 0.0,
    watch: Watch | None = None,
) -> tuple[cp_model.CpSolver, cp_model.CpSolverStatus]:
    """Solve a model within what is left of a budget; return the solver that holds the answer.

    In a deterministic solve several workers take turns instead of racing, and the limit is in CP-SAT's
    deterministic time, which is charged to the budget.

    Parameters
    ----------
    seconds
        Longest limit, s, where the budget has more left.
    work
        Longest limit in CP-SAT's deterministic time, which is close to seconds.
    least
        Shortest limit, s, even where less is left.
    linearization
        How much of the model goes into its linear relaxation: 1, CP-SAT's own choice, or 2, all.
    gap
        Relative gap at which to stop.
    watch
        Is called with every solution.
    """
    solver = cp_model.CpSolver()
    limit = max(min(seconds, budget.left), least)
    if budget.deterministic:
        solver.parameters.max_deterministic_time = min(limit, work)
        solver.parameters.interleave_search = budget.workers > 1
    else:
        solver.parameters.max_time_in_seconds = limit
        solver.parameters.max_deterministic_time = work
    solver.parameters.relative_gap_limit = gap
    solver.parameters.random_seed = budget.seed
    solver.parameters.num_workers = budget.workers
    solver.parameters.linearization_level = linearization
    solver.parameters.catch_sigint_signal = False  # interrupts are the budget's business
    if budget.models is not None:
        budget.models.model = model
    status = _run(solver, model, budget, watch)
    assert status != cp_model.MODEL_INVALID, model.validate()
    budget.charge(solver.response_proto.deterministic_time)
    return solver, status


def _run(
    solver: cp_model.CpSolver, model: cp_model.CpModel, budget: Budget, watch: Watch | None
) -> cp_model.CpSolverStatus:
    """Run the solver; in a thread of its own where somebody may ask to stop, as only that keeps listening."""
    if budget.stopped is never:
        return solver.solve(model, watch)
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(solver.solve, model, watch)
        while wait([future], POLL).not_done:
            if budget.stopped():
                solver.stop_search()
        return future.result()


def export_model(kept: LastModel, path: Path) -> None:
    """Write the model that was solved last: text where the name ends in ``.txt``, else binary.

    Raises
    ------
    PlannerError
        If the solve needed no CP-SAT model, or the file cannot be written.
    """
    if kept.model is None:
        raise PlannerError(
            "there is no model to export: every candidate was placed by construction, without CP-SAT"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # CP-SAT says only whether it could write
    except OSError as error:
        raise PlannerError(f"{path} cannot be written: {error.strerror or error}") from error
    if not kept.model.export_to_file(str(path)):
        raise PlannerError(f"CP-SAT could not write the model to {path}")
