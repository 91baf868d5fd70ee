"""Bytes per device against published figures: Korthikanti et al. 2022, torchtitan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import column, read_rows
from planner.calibrate.training_batch import setting_of
from planner.calibrate.training_runs import Choice, Run, read_runs
from planner.costs import load_calibration
from planner.costs.footprint import kept_bytes, static_bytes, working_bytes
from planner.costs.pipeline import in_flight

FloatArray = NDArray[np.float64]
Scores = dict[str, tuple[FloatArray, FloatArray, float, float]]
GIB = 2.0**30


def activation_scores(folder: Path) -> Scores:
    """Return predicted and measured bytes of the first stage's layers, with must and aim.

    Activations are those of the formulas, before the share that the planner adds for fragmentation. Where the
    figure gives per cents, they are compared with the same mode over ``none``.
    """
    rows = read_rows(folder / "memory-korthikanti22.csv")
    runs = {
        run.model.name: run
        for run in read_runs(read_rows(folder / "rows.csv"), folder)
        if isinstance(run, Run) and run.source.startswith("korthikanti")
    }
    rows = [row for row in rows if row["model"] in runs]
    if not rows:
        return {}
    states, kept = [], []
    for row in rows:
        static, activations = _first_stage(runs[row["model"]], row["mode"])
        whole = _first_stage(runs[row["model"]], "none")[1]
        states.append(static / GIB)
        kept.append(100 * activations / whole if row["activations_pct_of_none"] else activations / GIB)
    stated = column(rows, "params_and_optimizer_gib")
    measured = np.where(
        np.isfinite(column(rows, "activations_gib")),
        column(rows, "activations_gib"),
        column(rows, "activations_pct_of_none"),
    )
    known, given = np.isfinite(stated), np.isfinite(measured)
    return {
        "parameters and optimizer": (np.asarray(states)[known], stated[known], 0.02, 0.01),
        "activations": (np.asarray(kept)[given], measured[given], 0.02, 0.01),
    }


def _first_stage(run: Run, mode: str) -> tuple[float, float]:
    """Return the bytes of the state of the first stage's layers, and of what it keeps of micro-batches."""
    recompute = 2 if mode == "full" else int("selective" in mode)
    choice = Choice(run.choices[0].micro_batch, run.choices[0].virtual, recompute)
    setting = setting_of([(run, choice)], load_calibration(), dropout=True, sequence_parallel="seq" in mode)
    layers = run.model.layers / run.pp
    count = max(1, run.global_batch // (run.dp * choice.micro_batch))
    held = in_flight(run.pp, choice.virtual, count)[0]
    spread = 1.0 + setting.number("fragmentation")
    kept = kept_bytes(setting, moe=False)[0] / spread
    return float(static_bytes(setting)[0][0] * layers), float(kept * layers * held)


def peak_scores(folder: Path) -> Scores:
    """Return predicted and measured peak memory of rows that state one, with must and aim."""
    rows = read_rows(folder / "rows.csv")
    peaks = column(rows, "peak_mem_gib") if rows else np.zeros(0)
    runs = [run for run in read_runs(rows, folder) if isinstance(run, Run) and np.isfinite(peaks[run.index])]
    if not runs:
        return {}
    predicted = np.asarray([peak_bytes(run) / GIB for run in runs])
    return {"peak memory": (predicted, np.asarray([peaks[run.index] for run in runs]), 0.10, 0.06)}


def peak_bytes(run: Run) -> float:
    """Return the peak of the fullest stage of a run, all parts together, least over its open settings."""
    calibration = load_calibration()
    totals = []
    for choice in run.choices:
        setting = setting_of([(run, choice)], calibration)
        dense, moe, first, last = (float(one[0]) for one in static_bytes(setting))
        layers = run.model.layers / run.pp
        experts = (run.model.layers - run.model.dense_layers) / run.model.layers
        count = max(1, run.global_batch // (run.dp * choice.micro_batch))
        held = in_flight(run.pp, choice.virtual, count)[0]
        kept = kept_bytes(setting, moe=False)[0] * (1 - experts) + kept_bytes(setting, moe=True)[0] * experts
        state = dense * (1 - experts) + moe * experts
        ends = first + last if run.pp == 1 else max(first, last)
        total = (state + kept * held) * layers + ends
        totals.append(total + working_bytes(setting)[0] + calibration.number("context_bytes"))
    return float(min(totals))
