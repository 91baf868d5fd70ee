"""Predict measured inference runs given as rows of a table."""

from __future__ import annotations

from pathlib import Path

from planner.calibrate.inference_batch import predict_runs
from planner.calibrate.inference_runs import ServedRun, number, read_silicon
from planner.costs import Calibration
from planner.study.accuracy import Prediction

FIRST_LINE = 2
"""Line of the first row: the names of the columns come before it."""
OTHER_NAMES = {
    "model_path": ("model",),
    "system": ("gpu", "device"),
    "backend": ("engine",),
    "isl": ("input_len", "isl_mean"),
    "osl": ("output_len", "osl_mean"),
    "tp_size": ("tp",),
    "pp_size": ("pp",),
    "attention_dp_size": ("dp", "adp"),
    "moe_tp_size": ("moe_tp",),
    "moe_ep_size": ("ep",),
    "concurrency": ("clients", "batch", "num_requests"),
}
"""Columns by how users call them."""


def predict(
    rows: list[dict[str, str]], calibration: Calibration, folder: Path | None = None
) -> list[Prediction]:
    """Return the predicted times to first token and per token of every row, s, and its output tokens/s.

    Parameters
    ----------
    rows
        With ``model``, ``gpu``, ``engine``, ``precision``, ``isl``, ``osl``, ``tp``, ``concurrency`` and what
        was measured: ``ttft_ms``, ``tpot_ms``, ``output_tokens_per_s``; other names: :data:`OTHER_NAMES`.
    folder
        Where ``architectures.csv`` may lie, with the shapes of models that are not presets.
    """
    named = [_named(row) for row in rows]
    found = read_silicon(named, folder)
    runs = [run for run in found if run is not None]
    predictions: list[Prediction] = []
    if runs:
        together = predict_runs(runs, calibration)
        ttft, tpot, rate = together.take(together.best(runs))
    place = 0
    for index, (row, run) in enumerate(zip(named, found, strict=True)):
        source = row.get("source_id") or row.get("source") or row.get("backend") or "rows"
        line = index + FIRST_LINE
        if run is None:
            for metric, measured in _measured(row).items():
                reason = "unknown model, device or concurrency"
                predictions.append(Prediction(line, source, metric, float("nan"), measured, 0, reason))
            continue
        values = {"ttft": ttft[place], "tpot": tpot[place], "throughput": rate[place]}
        tried = int(together.tried[place])
        predictions += _of_run(line, source, row, run, values, tried)
        place += 1
    return predictions


def _of_run(
    line: int, source: str, row: dict[str, str], run: ServedRun, values: dict[str, float], tried: int
) -> list[Prediction]:
    measured = _measured(row)
    if not measured:  # nothing to compare with: say what is expected
        measured = dict.fromkeys(("ttft", "tpot"), float("nan"))
    return [
        Prediction(line, source, metric, float(values[metric]), value, tried)
        for metric, value in measured.items()
    ]


def _named(row: dict[str, str]) -> dict[str, str]:
    """Return a row under the names of the columns that are read."""
    named = dict(row)
    for name, others in OTHER_NAMES.items():
        if not named.get(name):
            named[name] = next((row[other] for other in others if row.get(other)), "")
    return named


def _measured(row: dict[str, str]) -> dict[str, float]:
    """Return what a row measured, SI."""
    found = {}
    for metric, column, unit in (
        ("ttft", "ttft_ms", 1e-3), ("tpot", "tpot_ms", 1e-3), ("throughput", "output_tokens_per_s", 1.0),
    ):  # fmt: skip
        value = number(row, column) * unit
        if value > 0.0:
            found[metric] = value
    return found
