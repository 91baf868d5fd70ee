"""Judge the training step model: ``python -m benchmarks.training_accuracy FOLDER [--json OUT]``.

Predictions with the shipped calibration come under ``shipped: ``; predictions of rows whose group was left
out of the fit under ``left out: ``. Every fit starts from the stated values ``training.stated`` alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import Report, Row, cross_validate, read_rows
from benchmarks.training_baselines import linear_fit, roofline
from benchmarks.training_memory import activation_scores, peak_scores
from benchmarks.training_speed import configurations_per_second
from planner.calibrate.training import fit_family, fit_training, with_values
from planner.calibrate.training_batch import batch
from planner.calibrate.training_runs import Run, read_runs
from planner.costs import Calibration, load_calibration
from planner.costs.scores import score
from planner.costs.stacks import DEFAULT_STACK

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BENCHMARK = "training_accuracy"

VTRAIN = {
    "gpu": "A100-SXM-80", "framework": "Megatron-DeepSpeed", "recompute": "full", "precision": "FP16",
    "gpus_per_node": "8", "system": "800 Gb/s per node", "optimizer_sharding": "none", "vp": "1",
}  # fmt: skip
"""What the README says of all vTrain rows, 1F1B among it; sharding and vocabulary are not stated."""
MOST_POINTS = 250
"""Points of a group in the figure."""
LABELS = ("korthikanti22-tab5", "megatron-sc21-table1")


@dataclass(frozen=True)
class Protocol:
    """Rows of the must table, what is left out together, what must be reached.

    Attributes
    ----------
    rows, group
        Which runs count, and the group of each.
    count
        Number of folds; ``None`` leaves out one group at a time.
    """

    key: str
    rows: Callable[[Run], bool]
    group: Callable[[Run], Hashable]
    must: float | None
    aim: float | None
    count: int | None = None


def _shape(run: Run) -> Hashable:
    return run.model.layers, run.model.hidden, run.model.vocab


def _bridge(run: Run) -> bool:
    return (run.stack or "").split("@")[0] in ("nemo", "megatron-bridge")


def _megatron(run: Run) -> bool:
    return run.source in LABELS


PROTOCOLS = (
    Protocol("vtrain multi-node: a model size", lambda r: r.source == "vtrain-multi", _shape, 0.07, 0.05),
    Protocol(
        "vtrain single-node: random folds",
        lambda r: r.source == "vtrain-single",
        lambda r: r.index,
        0.07,
        0.045,
        5,
    ),
    Protocol("llm-foundry FSDP: a model size", lambda r: r.stack == "llm-foundry", _shape, 0.09, 0.05),
    Protocol(
        "Bridge and NeMo dense: a model", lambda r: _bridge(r) and r.model.experts is None, _shape, 0.12, 0.08
    ),
    Protocol(
        "Bridge and NeMo MoE: a model",
        lambda r: _bridge(r) and r.model.experts is not None,
        _shape,
        0.20,
        0.12,
    ),
    Protocol(
        "torchtitan: random folds",
        lambda r: "torchtitan" in (r.stack or ""),
        lambda r: r.index,
        None,
        None,
        5,
    ),
    Protocol("Table 5 and SC'21: both sources", _megatron, lambda r: 0, None, None),
)


def load(folder: Path) -> list[Row]:
    """Return the rows of all tables of a folder, those of vTrain completed from its README."""
    rows = read_rows(folder / "rows.csv")
    for name in ("vtrain-multi", "vtrain-single"):
        rows += [VTRAIN | row | {"source_id": name} for row in read_rows(folder / f"{name}.csv")]
    return rows


class Judge:
    """The runs of a folder, and predictions of them under fits that have not seen some."""

    def __init__(self, folder: Path, calibration: Calibration) -> None:
        self.rows, self.calibration = load(folder), calibration
        found = read_runs(self.rows, folder)
        self.runs = [run for run in found if isinstance(run, Run) and np.isfinite(run.measured)]
        self.unusable = [one for one in found if not isinstance(one, Run)]
        self.batch = batch(self.runs, calibration) if self.runs else None

    @property
    def measured(self) -> FloatArray:
        """Measured step times, s."""
        return np.asarray([run.measured for run in self.runs])

    def places(self, wanted: Callable[[Run], bool]) -> IntArray:
        """Return the places of the runs that a condition holds for."""
        return np.asarray([place for place, run in enumerate(self.runs) if wanted(run)], dtype=np.int64)

    def predicted(self, calibration: Calibration, places: IntArray) -> FloatArray:
        """Return the predictions of some runs under a calibration, s."""
        assert self.batch is not None
        some = self.batch.only(places)
        return some.predicted(some.entry_times(some.coefficients(calibration)))

    def fitted(self, seen: IntArray, tested: IntArray) -> FloatArray:
        """Return the predictions of some runs from a fit to others of the same stacks, s."""
        assert self.batch is not None
        families = {self._family(place) for place in tested}
        used = np.asarray([place for place in seen if self._family(place) in families], dtype=np.int64)
        values = fit_training(self.batch, self.calibration, used)
        if families - {self._family(place) for place in used}:
            values |= fit_family(self.batch.only(seen), self.calibration, DEFAULT_STACK)
        return self.predicted(with_values(self.calibration, values), tested)

    def _family(self, place: int) -> str:
        return (self.runs[place].stack or "").split("@")[0]

    def left_out(self, protocol: Protocol) -> tuple[IntArray, FloatArray]:
        """Return the places of a protocol's runs, and predictions that have not seen their group."""
        places = self.places(protocol.rows)
        rest = np.setdiff1d(np.arange(len(self.runs)), places)
        groups = [protocol.group(self.runs[place]) for place in places]

        def predict(fit: IntArray, test: IntArray) -> FloatArray:
            return self.fitted(np.concatenate([rest, places[fit]]), places[test])

        if not len(places):
            return places, np.zeros(0)
        return places, cross_validate(groups, predict, protocol.count)


def judge(folder: Path, report: Report, figures: dict[str, tuple[FloatArray, FloatArray]]) -> None:
    """Add all figures of a folder to a report; predictions and measured times for drawing to ``figures``."""
    calibration = load_calibration()
    everything = Judge(folder, calibration)
    _shipped(everything, report)
    summary = report.summary
    for protocol in PROTOCOLS:
        places, guesses = everything.left_out(protocol)
        if not len(places):
            continue
        measured = everything.measured[places]
        result = report.scored(f"left out: {protocol.key}", guesses, measured, protocol.must)
        summary[protocol.key] = {"value": result.mape, "must": protocol.must, "aim": protocol.aim,
                                 "spearman": result.spearman}  # fmt: skip
        few = slice(None, None, 1 + len(places) // MOST_POINTS)
        figures[protocol.key] = guesses[few], measured[few]
        _baselines(everything, protocol, places, report)
        if "vtrain" in protocol.key:
            _ranking(everything, protocol.key, places, guesses, report)
    _in_fit(everything, report)
    _other_groups(everything, report)
    _memory(folder, report)
    _speed(report)


def _shipped(everything: Judge, report: Report) -> None:
    if not everything.runs:
        return
    places = np.arange(len(everything.runs))
    guesses = everything.predicted(everything.calibration, places)
    sources = np.asarray([run.source for run in everything.runs])
    tried = everything.batch.tried() if everything.batch is not None else np.ones(len(places))
    for source in dict.fromkeys(sources):
        chosen = sources == source
        lost = [one for one in everything.unusable if _source(everything, one.index) == source]
        predicted = np.concatenate([guesses[chosen], np.full(len(lost), np.nan)])
        measured = np.concatenate([everything.measured[chosen], np.ones(len(lost))])
        report.scored(f"shipped: {source}", predicted, measured)
        if tried[chosen].max() > 1:
            report.add(f"shipped: {source}", "settings tried per row", float(tried[chosen].mean()))
    for one in everything.unusable:
        report.add(f"no prediction: {_source(everything, one.index)}: {one.reason}", "row", one.index)


def _source(everything: Judge, index: int) -> str:
    return everything.rows[index].get("source_id", "")


def _baselines(everything: Judge, protocol: Protocol, places: IntArray, report: Report) -> None:
    runs = [everything.runs[place] for place in places]
    groups = [protocol.group(run) for run in runs]
    measured = everything.measured[places]
    for name, predict in (("roofline", roofline), ("log-linear fit", linear_fit)):
        guesses = cross_validate(groups, partial(predict, runs, measured), protocol.count)
        report.scored(f"baseline {name}: {protocol.key}", guesses, measured)


def _ranking(everything: Judge, key: str, places: IntArray, guesses: FloatArray, report: Report) -> None:
    """Add how much slower the configuration ranked first was than the best, per model size and job."""
    jobs: dict[Hashable, list[int]] = {}
    for row, place in enumerate(places):
        run = everything.runs[place]
        jobs.setdefault(
            (run.model.hidden, run.model.layers, run.global_batch, run.tp * run.pp * run.dp), []
        ).append(row)
    measured = everything.measured[places]
    lost, ranks = [], []
    for rows in (np.asarray(rows) for rows in jobs.values() if len(rows) > 2):
        lost.append(measured[rows[np.argmin(guesses[rows])]] / measured[rows].min() - 1.0)
        ranks.append(score(guesses[rows], measured[rows]).spearman)
    name = f"ranked first over best: {key}"
    report.add(name, "mean", float(np.mean(lost)), 0.02, jobs=len(lost), worst=float(np.max(lost)))
    report.add(name, "Spearman, mean over jobs", float(np.nanmean(ranks)))
    report.summary[name] = {
        "value": float(np.mean(lost)), "worst": float(np.max(lost)), "must": 0.02, "aim": 0.01,
        "spearman": float(np.nanmean(ranks)),
    }  # fmt: skip


def _in_fit(everything: Judge, report: Report) -> None:
    """Score Table 5 and SC'21 with rows allowed in the fit."""
    places = everything.places(_megatron)
    if not len(places):
        return
    guesses = everything.fitted(np.arange(len(everything.runs)), places)
    for source, must, aim in zip(LABELS, (0.03, 0.06), (0.02, 0.04), strict=True):
        chosen = np.asarray([everything.runs[place].source == source for place in places])
        if chosen.any():
            result = report.scored(
                f"in the fit: {source}", guesses[chosen], everything.measured[places][chosen], must
            )
            report.summary[source] = {"value": result.mape, "must": must, "aim": aim}


def _gpu(run: Run) -> str:
    return run.device.name


def _source_of(run: Run) -> str:
    return run.source


def _other_groups(everything: Judge, report: Report) -> None:
    """Leave out one GPU, and one whole source: of a stack that is left without runs, the default holds."""
    by: dict[str, Callable[[Run], str]] = {"GPU": _gpu, "source": _source_of}
    for name, group in by.items():
        groups = [group(run) for run in everything.runs]
        if len(set(groups)) < 2:
            continue
        guesses = cross_validate(groups, everything.fitted)
        result = report.scored(f"left out: a {name}, all runs", guesses, everything.measured)
        report.summary[f"a {name}"] = {"value": result.mape, "median": result.median}
        for one in dict.fromkeys(groups):
            chosen = np.asarray([other == one for other in groups])
            report.scored(f"left out: {name} {one}", guesses[chosen], everything.measured[chosen])


def _memory(folder: Path, report: Report) -> None:
    for key, (predicted, measured, must, aim) in (activation_scores(folder) | peak_scores(folder)).items():
        result = report.scored(f"memory: {key}", predicted, measured, must)
        report.summary[key] = {"value": result.mape, "must": must, "aim": aim}


def _speed(report: Report) -> None:
    rate = configurations_per_second()
    report.add("speed", "configurations per CPU second", rate, 10_000.0)
    report.summary["configurations per CPU second"] = {"value": rate, "must": 10_000.0, "aim": 100_000.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figures", type=Path, help="folder for scatter plots")
    options = parser.parse_args(arguments)
    report = Report(BENCHMARK)
    figures: dict[str, tuple[FloatArray, FloatArray]] = {}
    started = time.process_time()
    judge(options.folder, report, figures)
    report.add("run", "CPU seconds", time.process_time() - started)
    print(report.table())
    report.write(options.json)
    if options.figures is not None:
        from benchmarks.scatter import scatter

        scatter(options.figures / "training.svg", figures, "s")


if __name__ == "__main__":
    main()
