"""How well the cost model predicts a user's own measured runs: rows in, errors by source out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from planner.costs import load_calibration
from planner.costs.scores import Score, score
from planner.errors import DocumentError, Problem, nearest

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Prediction:
    """What the cost model says of one row.

    Attributes
    ----------
    line
        Line of the row in its file, counted from 1.
    metric
        What is predicted: ``step_time``, ``ttft``, ``tpot``, ...
    predicted, measured
        In the unit of the metric, SI; ``predicted`` is not a number where there is no prediction.
    tried
        Settings that the row leaves open and that were tried; the one nearest to the measured value counts.
    reason
        Why there is no prediction, empty where there is one.
    """

    line: int
    source: str
    metric: str
    predicted: float
    measured: float
    tried: int = 1
    reason: str = ""


@dataclass(frozen=True)
class Form:
    """A form of table: by which columns it is known, and who predicts its rows.

    Attributes
    ----------
    marks
        Columns of which each, or one of each tuple, must be there.
    """

    name: str
    marks: tuple[tuple[str, ...], ...]
    module: str


FORMS = (
    Form(
        "training runs",
        (("gbs",), ("seq_len",), ("tp",), ("pp",), ("num_gpus",), ("model", "hidden"), ("gpu", "device")),
        "planner.study.training_rows",
    ),
    Form(
        "inference runs",
        (("model",), ("isl", "input_len"), ("osl", "output_len"), ("tp",), ("gpu", "device", "system")),
        "planner.study.inference_rows",
    ),
)


@dataclass(frozen=True)
class Accuracy:
    """Errors of the predictions of a table of rows.

    Attributes
    ----------
    scores
        By metric and source, all sources together under ``all``.
    """

    form: str
    calibration: str
    predictions: tuple[Prediction, ...]
    scores: dict[tuple[str, str], Score]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {
            "form": self.form,
            "calibration": self.calibration,
            "scores": [
                {"metric": metric, "source": source, **asdict(one)}
                for (metric, source), one in self.scores.items()
            ],
            "rows": [asdict(one) for one in self.predictions],
        }


def accuracy_of_file(path: Path, calibration: str | Path = "default") -> Accuracy:
    """Return how well a calibration predicts the measured runs of a CSV file.

    Raises
    ------
    DocumentError
        If the file has no rows, or columns are missing: names the nearest that is there.
    """
    rows, columns = _read(path)
    form = _form(path, columns)
    predict: Callable[..., list[Prediction]] = import_module(form.module).predict
    loaded = load_calibration(calibration)
    predictions = predict(rows, loaded, path.parent)
    return Accuracy(form.name, loaded.name, tuple(predictions), scores(predictions))


def _read(path: Path) -> tuple[Rows, list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = [{k: v or "" for k, v in row.items() if k is not None} for row in reader]
            columns = [name for name in reader.fieldnames or [] if name]
    except UnicodeDecodeError as error:
        raise _wrong(path, 0, f"is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise _wrong(path, 0, f"is not a CSV table ({error})") from None
    if not rows:
        raise _wrong(path, 1, "has no rows", "the first line names the columns, one run a line follows")
    return rows, columns


def _form(path: Path, columns: Sequence[str]) -> Form:
    lacking = {form: _lacking(form, columns) for form in FORMS}
    best = min(lacking, key=lambda form: len(lacking[form]))
    if not lacking[best]:
        return best
    texts = []
    for mark in lacking[best]:
        close = nearest(mark[0], columns)
        hint = f" (did you mean it by {close!r}?)" if close else ""
        texts.append(" or ".join(repr(name) for name in mark) + hint)
    raise _wrong(path, 1, f"looks like {best.name} but lacks the columns {', '.join(texts)}")


def _lacking(form: Form, columns: Sequence[str]) -> list[tuple[str, ...]]:
    return [mark for mark in form.marks if not set(mark) & set(columns)]


def _wrong(path: Path, line: int, text: str, hint: str = "") -> DocumentError:
    return DocumentError([Problem(str(path), line, 1, "", text, hint)])


def scores(predictions: Sequence[Prediction]) -> dict[tuple[str, str], Score]:
    """Return the errors by metric and source, rows without a measured value left aside."""
    found: dict[tuple[str, str], Score] = {}
    known = [one for one in predictions if np.isfinite(one.measured) and one.measured > 0]
    for metric in dict.fromkeys(one.metric for one in known):
        rows = [one for one in known if one.metric == metric]
        sources = list(dict.fromkeys(one.source for one in rows))
        for source in [*sources, *(["all"] if len(sources) > 1 else [])]:
            chosen = [one for one in rows if source in ("all", one.source)]
            found[metric, source] = score(
                np.asarray([one.predicted for one in chosen]), np.asarray([one.measured for one in chosen])
            )
    return found
