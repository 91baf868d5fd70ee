"""What the accuracy runners share: rows from CSV, folds that leave groups out, tables, the JSON document."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import planner
from planner.costs.scores import Score, score

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file; none where the file does not exist."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def column(rows: Sequence[Row], name: str) -> FloatArray:
    """Return a column as numbers, blank cells not a number."""
    return np.asarray([float(row[name]) if row.get(name) else np.nan for row in rows])


def folds(
    groups: Sequence[Hashable], count: int | None = None, *, seed: int = 0
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield rows to fit on and rows to predict, with whole groups left out.

    Parameters
    ----------
    groups : sequence, shape (n,)
        The group of every row.
    count
        Number of folds; ``None`` leaves out one group at a time.
    seed
        Order in which groups are dealt to folds.
    """
    names = sorted(set(groups), key=repr)
    if count is None:
        fold_of = {name: place for place, name in enumerate(names)}
    else:
        order = np.random.default_rng(seed).permutation(len(names))
        fold_of = {names[one]: place % count for place, one in enumerate(order)}
    place = np.asarray([fold_of[group] for group in groups])
    for one in sorted(set(fold_of.values())):
        yield np.flatnonzero(place != one), np.flatnonzero(place == one)


def cross_validate(
    groups: Sequence[Hashable],
    predict: Callable[[IntArray, IntArray], FloatArray],
    count: int | None = None,
    *,
    seed: int = 0,
) -> FloatArray:
    """Return a prediction of every row from a fit that has not seen its group; ``predict(fit, test)``."""
    guesses = np.full(len(groups), np.nan)
    for fit, test in folds(groups, count, seed=seed):
        guesses[test] = predict(fit, test)
    return guesses


@dataclass
class Report:
    """The figures of one run: a row per case and metric."""

    benchmark: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def add(self, case: str, metric: str, value: float, reference: float | None = None, **extra: Any) -> None:
        """Add one figure."""
        self.rows.append({"case": case, "metric": metric, "value": value, "reference": reference} | extra)

    def scored(
        self, case: str, predicted: FloatArray, measured: FloatArray, reference: float | None = None
    ) -> Score:
        """Add the errors of a case; ``reference`` is what its mean error must not exceed."""
        result = score(predicted, measured)
        self.add(
            case, "mape", result.mape, reference, **{k: v for k, v in asdict(result).items() if k != "mape"}
        )
        return result

    def table(self) -> str:
        """Return the figures as text, one case a line."""
        header = ("case", "rows", "cover", "mean", "median", "p90", "worst", "bias", "rank", "must")
        lines = ["{:52} {:>6} {:>6} {:>7} {:>7} {:>7} {:>8} {:>7} {:>6} {:>6}".format(*header)]
        for row in self.rows:
            if row["metric"] != "mape":
                lines.append(f"{row['case'] + ' ' + row['metric']:52} {row['value']:.4g}")
                continue
            shares = [row["value"], row["median"], row["p90"]]
            cells = " ".join(f"{100 * one:6.1f}%" for one in shares)
            must = "" if row["reference"] is None else f"{100 * row['reference']:5.0f}%"
            lines.append(
                f"{row['case']:52} {row['rows']:6} {100 * row['coverage']:5.0f}% {cells} "
                f"{100 * row['worst']:7.1f}% {100 * row['bias']:6.1f}% {row['spearman']:6.3f} {must:>6}"
            )
        return "\n".join(lines)

    def write(self, path: Path | None) -> None:
        """Write the document; not-a-number becomes null."""
        if path is None:
            return
        body = {"benchmark": self.benchmark, "version": planner.__version__}
        body |= {"rows": _finite(self.rows), "summary": _finite(self.summary)}
        path.write_text(json.dumps(body, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
