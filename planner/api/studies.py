"""What-if studies and recommended clusters, as notebooks use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.api.frames import frame
from planner.errors import StudyError
from planner.report.recommend import (
    plot_capacity,
    plot_limits,
    plot_sizes,
    recommendation_rows,
    recommendation_summary,
)
from planner.report.tables_html import rows_html, summary_html
from planner.report.whatif import default_metric, plot_heat, plot_line, plot_pareto, plot_tornado, rows_of
from planner.study.recommend import Recommendation
from planner.study.whatif import Change, Outcome, StudyDocument, changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Sweep:
    """A what-if study and the outcome of each of its scenarios, in order."""

    study: StudyDocument
    outcomes: Sequence[Outcome]

    def __repr__(self) -> str:
        return f"<Sweep {self.study.name}: {len(self.outcomes)} scenarios>"

    def to_frame(self) -> Any:
        """Return one row per scenario as a pandas ``DataFrame``.

        Raises
        ------
        StudyError
            If pandas is not installed.
        """
        return frame(rows_of(self.outcomes))

    def changes(self) -> list[Change]:
        """Return every pair of neighbouring values between which the decision changes."""
        return changes(self.study, self.outcomes)

    def _repr_html_(self) -> str:
        rows = rows_of(self.outcomes)
        metric = default_metric(self.study, self.outcomes) if any(o.metrics for o in self.outcomes) else None
        columns = tuple(
            dict.fromkeys(
                [*(p.title for p in self.study.vary), "status", *filter(None, [metric]), "decision"]
            )
        )
        shown = tuple(tuple(_cell(row[column]) for column in columns) for row in rows)
        return rows_html(self.study.name, columns, shown)

    def plot_line(self, ax: Axes, metric: str | None = None) -> None:
        """Draw a metric over the first parameter."""
        plot_line(ax, self.study, self.outcomes, metric or self._metric)

    def plot_heat(self, ax: Axes, metric: str | None = None) -> None:
        """Draw a metric over the first two parameters.

        Raises
        ------
        StudyError
            If the study varies one thing alone.
        """
        if len(self.study.vary) < 2:
            raise StudyError("a heat map needs two parameters; the study varies one")
        plot_heat(ax, self.study, self.outcomes, metric or self._metric)

    def plot_tornado(self, ax: Axes, metric: str | None = None) -> None:
        """Draw how far each parameter alone moves a metric."""
        plot_tornado(ax, self.study, self.outcomes, metric or self._metric)

    def plot_pareto(self, ax: Axes, first: str, second: str) -> None:
        """Draw two metrics against one another with the front of what nothing beats in both."""
        plot_pareto(ax, self.outcomes, first, second)

    @property
    def _metric(self) -> str:
        return default_metric(self.study, self.outcomes)


@dataclass(frozen=True, repr=False)
class Advice:
    """The smallest clusters that hold the limits of a workload, and everything that was looked at.

    Attributes
    ----------
    found
        Every cluster under every load, with its verdict.
    """

    found: Recommendation

    def __repr__(self) -> str:
        return f"<Advice {self.found.workload}: {recommendation_summary(self.found).sentence}>"

    def best(self, load: float | None = None) -> str:
        """Return the recommended cluster, such as ``2 x dgx-h100``, for a load; for the lowest when absent.

        Raises
        ------
        InfeasibleError
            If none of the clusters holds it.
        """
        return self.found.best(self.found.loads[0] if load is None else load).cluster.name

    def to_frame(self) -> Any:
        """Return one row per cluster and load that was looked at as a pandas ``DataFrame``, times in s.

        Raises
        ------
        StudyError
            If pandas is not installed.
        """
        return frame(recommendation_rows(self.found))

    def _repr_html_(self) -> str:
        return summary_html(recommendation_summary(self.found))

    def plot(self, ax: Axes) -> None:
        """Draw the capacity curve, or the smallest cluster of each kind where one load was asked about."""
        if len(self.found.loads) > 1:
            self.plot_capacity(ax)
        else:
            self.plot_sizes(ax)

    def plot_capacity(self, ax: Axes) -> None:
        """Draw the size that each block needs over the load."""
        plot_capacity(ax, self.found)

    def plot_limits(self, ax: Axes) -> None:
        """Draw the simulated figures of the recommended clusters over their limits, with 95 % intervals."""
        plot_limits(ax, self.found)

    def plot_sizes(self, ax: Axes, load: float | None = None) -> None:
        """Draw the smallest cluster of each kind that holds a load; the lowest load when absent."""
        plot_sizes(ax, self.found, self.found.loads[0] if load is None else load)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
