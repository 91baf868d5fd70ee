"""Options of ``planner solve`` that steer its search: where it starts, what is fixed, how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from planner.schema import load
from planner.solve import Budget
from planner.solve.cuts import AnyCut
from planner.study import Documents, Sources, Study

Command = TypeVar("Command", bound=Callable[..., Any])
PLAN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Search:
    """What the user asked of the search."""

    hint: Path | None = None
    fix: tuple[str, ...] = ()
    keep: Path | None = None
    max_moves: int | None = None
    workers: int = 1
    deterministic: bool = False
    export_model: Path | None = None

    def __post_init__(self) -> None:
        if self.max_moves is not None and self.keep is None:
            raise click.UsageError("--max-moves counts the moves from a plan; name it with --keep PLAN")
        if self.keep is not None and (self.hint is not None or self.fix):
            raise click.UsageError("--keep holds to the decisions of its plan; leave out --hint and --fix")

    def budget(self, budget: Budget) -> Budget:
        """Return a budget with the engine set up as asked for."""
        from planner.solve.budget import LastModel, counted

        kept = LastModel() if self.export_model else None
        budget = replace(budget, workers=self.workers, models=kept)
        return counted(budget) if self.deterministic else budget

    def solve(
        self, documents: Documents, budget: Budget, sources: Sources, cuts: tuple[AnyCut, ...] = ()
    ) -> Study:
        """Solve with some strategies left out, or re-plan with few moves from the plan to keep."""
        from planner.placement import Plan
        from planner.solve.fixes import parse_fix
        from planner.study import Wishes, replan, solve

        if self.keep is not None:
            return replan(documents, load(self.keep, Plan), self.max_moves, budget, sources)
        hint = load(self.hint, Plan) if self.hint else None
        return solve(documents, budget, sources, Wishes(hint, tuple(map(parse_fix, self.fix)), cuts))

    def may_refine(self, documents: Documents) -> bool:
        """Whether a refuted plan is solved again: that of a single job, with no plan to keep."""
        return self.keep is None and len(documents.workload.jobs) == 1

    def export(self, budget: Budget) -> None:
        """Write the CP-SAT model that was solved last, if that was asked for."""
        from planner.solve.engine import export_model

        if self.export_model is not None and budget.models is not None:
            export_model(budget.models, self.export_model)


def search_options(command: Command) -> Command:
    """Add the options that :class:`Search` holds."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option("--hint", type=PLAN_FILE, metavar="PLAN", help="Start from this plan; never end worse."),
    click.option(
        "--fix",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Hold a decision: tp=8, replicas=2, gpus=node-0/gpu[0-3]. Repeatable.",
    ),
    click.option(
        "--keep",
        type=PLAN_FILE,
        metavar="PLAN",
        help="Re-plan after a failure with few moves from this plan.",
    ),
    click.option(
        "--max-moves",
        type=click.IntRange(min=0),
        help="Most moves from the plan of --keep.  [default: the fewest that work]",
    ),
    click.option(
        "--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Workers of CP-SAT."
    ),
    click.option(
        "--deterministic",
        is_flag=True,
        help="Count work instead of time: the same plan and report, byte for byte, on every run.",
    ),
    click.option(
        "--export-model",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write the last CP-SAT model (text if FILE ends in .txt).",
    ),
)
