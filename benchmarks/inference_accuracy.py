"""Predicted against measured inference: ``python -m benchmarks.inference_accuracy FOLDER [--json OUT]``.

Every case comes twice: ``shipped`` with the calibration as it is, ``left out`` with coefficients fitted to
the other groups of the folder. A row without a prediction counts as 100 %. ``plain`` takes settings that
a table leaves open at their default, ``open settings at best`` the nearest of those tried.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.accuracy import Report, read_rows
from benchmarks.inference_baselines import log_linear, roofline
from benchmarks.inference_choice import choices
from benchmarks.inference_pools import predict_pools
from benchmarks.inference_rows import FloatArray, Table, joined, left_out, silicon, tensorrt
from benchmarks.scatter import scatter
from planner.calibrate.inference import Fitted, fit_inference
from planner.calibrate.inference_batch import Predicted, predict_runs
from planner.calibrate.inference_runs import ServedRun, known_models
from planner.costs import Calibration, load_calibration
from planner.schema.files import write_text_atomic

TPOT, TTFT, OFFLINE = (0.16, 0.35), (0.35, 0.20), {"model": 0.15, "gpu": 0.25}

HEADER = """\
schema: calibration/1
name: inference
description: >-
  What serving engines add to their kernels, links and caches (planner/costs/engine.py, closed_loop.py), from
  benchmarks/inference_accuracy.py --fit. The measured ones are fitted together to {samples} configurations of
  TensorRT-LLM, SGLang and vLLM on A100, H100, H200, B200 and GB200; the residual is the median relative error
  of the time per token and of the offline throughput over the same rows. An engine's own value,
  engine_NAME_ENGINE, comes before the one for all, engine_NAME.
date: 2026-11-23
sources:
  fit: ai-dynamo/aiconfigurator @095f58a silicon_sample.csv and TensorRT-LLM perf-overview pages 0.17 and 1.0
  stated: stated default of this release
  engines: defaults of the engines (TensorRT-LLM GUARANTEED_NO_EVICT and max_num_tokens, vLLM block size 16)
  usual: eight GPUs a node with one 400 Gb/s port each, 72 in an NVL72 rack
coefficients:
"""


def main() -> None:
    """Run the benchmark; the table goes to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figures", type=Path, help="folder for scatter plots of the shipped predictions")
    parser.add_argument("--fit", type=Path, help="also write the coefficients fitted to all rows")
    options = parser.parse_args()
    report = run(options.folder)
    print(report.table())
    for key, value in report.summary.items():
        print(f"{key}: {value}")
    report.write(options.json)
    if options.figures is not None:
        draw(options.folder, options.figures)
    if options.fit is not None:
        write_fit(options.folder, options.fit)


def run(folder: Path) -> Report:
    """Return the figures of a folder with tables of measured inference; missing tables are left aside."""
    report, calibration = Report("inference_accuracy"), load_calibration()
    aggregated = silicon(folder)
    if aggregated.runs or aggregated.unread:
        _served(report, aggregated, calibration)
    disaggregated = [
        row for row in read_rows(folder / "aiconfigurator-silicon.csv") if row.get("mode") == "disagg"
    ]
    if disaggregated:
        _pools(report, disaggregated, calibration, folder)
    _offline(report, tensorrt(folder, "offline-throughput"), calibration)
    for name, metric in (("static-batch-throughput", "rate"), ("first-token-latency", "ttft")):
        _single(report, tensorrt(folder, name), calibration, name, metric)
    _online(report, folder, calibration)
    _speed(report, aggregated, calibration)
    return report


def _model(run: ServedRun) -> str:
    return run.model.name


def _gpu(run: ServedRun) -> str:
    return run.device.name


def _served(report: Report, table: Table, calibration: Calibration) -> None:
    """Report aggregated serving: shipped, a model left out, a GPU left out, baselines, choices."""
    runs = table.runs
    if runs:
        _both(report, table, predict_runs(runs, calibration), "shipped: silicon", "shipped")
        groups: tuple[tuple[str, Callable[[ServedRun], str]], ...] = (("model", _model), ("gpu", _gpu))
        for name, key in groups:
            predicted = joined(left_out(runs, calibration, key)[0], len(runs))
            _both(report, table, predicted, f"left out: a {name}, silicon", f"{name} left out")
        floor = np.asarray([roofline(one) for one in runs]).T
        for place, metric in enumerate(("ttft", "tpot")):
            measured = table.measured(metric)
            report.scored(f"roofline: {metric}", table.padded(floor[place]), measured)
            if len({_model(one) for one in runs}) > 1:
                line = log_linear(runs, measured[: len(runs)], _model)
                report.scored(f"log-log, model left out: {metric}", table.padded(line), measured)
    else:
        report.scored("shipped: silicon tpot", table.padded(np.empty(0)), table.measured("tpot"))


def _both(report: Report, table: Table, predicted: Predicted, case: str, key: str) -> None:
    options = {
        "plain": np.zeros(len(table.runs), dtype=np.int64),
        "open settings at best": predicted.best(table.runs),
    }
    for how, chosen in options.items():
        ttft, tpot, _ = predicted.take(chosen)
        for metric, values, must in (("tpot", tpot, TPOT[0]), ("ttft", ttft, TTFT[0])):
            score = report.scored(
                f"{case} {metric}, {how}", table.padded(values), table.measured(metric), must
            )
            report.summary[f"{key}: {metric} median error, {how}"] = round(score.median, 4)
            report.summary[f"{key}: coverage"] = round(score.coverage, 4)
            _by_engine(report, table, values, metric, f"{case} {metric}, {how}")
        chosen_by = choices(table.runs, ttft, tpot)
        report.add(f"{case} choice, {how}", "limit broken", chosen_by.broken, 0.12, count=chosen_by.count)
        report.add(f"{case} choice, {how}", "throughput lost", chosen_by.lost, 0.12, count=chosen_by.count)
        report.summary[f"{key}: choice, limit broken, {how}"] = round(chosen_by.broken, 4)
        report.summary[f"{key}: choice, throughput lost, {how}"] = round(chosen_by.lost, 4)
    report.summary[f"{key}: settings tried per row"] = round(float(predicted.tried.mean()), 2)


def _by_engine(report: Report, table: Table, values: FloatArray, metric: str, case: str) -> None:
    keys = [f"{one.engine} {one.model.name}" for one in table.runs]
    for key in sorted(set(keys)):
        rows = [index for index, name in enumerate(keys) if name == key]
        report.scored(f"  {key} | {case}"[:52], values[rows], table.measured(metric)[rows])


def _pools(report: Report, rows: list[dict[str, str]], calibration: Calibration, folder: Path) -> None:
    found = predict_pools(rows, calibration, known_models(folder))
    for metric, values in (("tpot", found.tpot), ("ttft", found.ttft)):
        measured = np.asarray([float(row[f"{metric}_ms"]) / 1e3 for row in rows])
        score = report.scored(f"shipped: disaggregated {metric}, best of tried", values, measured)
        report.summary[f"disaggregated: {metric} median error"] = round(score.median, 4)
        report.summary["disaggregated: coverage"] = round(score.coverage, 4)
    report.summary["disaggregated: settings tried per row"] = round(found.tried, 2)


def _offline(report: Report, table: Table, calibration: Calibration) -> None:
    if not table.runs:
        return
    measured = table.measured("rate")
    shipped = predict_runs(table.runs, calibration).rate[0]
    report.scored("shipped: offline throughput", table.padded(shipped), measured)
    groups: tuple[tuple[str, Callable[[ServedRun], str]], ...] = (("model", _model), ("gpu", _gpu))
    for name, key in groups:
        predicted = joined(left_out(table.runs, calibration, key)[0], len(table.runs))
        score = report.scored(
            f"left out: a {name}, offline throughput",
            table.padded(predicted.rate[0]),
            measured,
            OFFLINE[name],
        )
        report.summary[f"offline throughput, {name} left out: mean error"] = round(score.mape, 4)
        report.summary[f"offline throughput, {name} left out: median error"] = round(score.median, 4)
    report.scored(
        "log-log, model left out: offline",
        table.padded(log_linear(table.runs, measured[: len(table.runs)], _model)),
        measured,
    )


def _single(report: Report, table: Table, calibration: Calibration, name: str, metric: str) -> None:
    """Report a table of single batches, all of which fit in memory as stated."""
    if not table.runs:
        return
    predicted = predict_runs(table.runs, calibration, bounded=False)
    values = predicted.rate[0] if metric == "rate" else predicted.ttft[0]
    score = report.scored(f"shipped: {name}", table.padded(values), table.measured(metric))
    report.summary[f"{name}: median error"] = round(score.median, 4)


def _online(report: Report, folder: Path, calibration: Calibration) -> None:
    """Report open arrivals: as many clients as the offered rate keeps busy, at most all requests."""
    from dataclasses import replace

    rows = read_rows(folder / "trtllm-online-serving.csv")
    table = tensorrt(folder, "online-serving")
    if not table.runs or table.unread:
        return
    offered = np.asarray(
        [float(row["qps_offered"]) if row["qps_offered"] != "INF" else np.inf for row in rows]
    )
    most = np.asarray([run.clients for run in table.runs])
    clients = np.minimum(most, np.where(np.isfinite(offered), 1.0, np.inf))
    for _ in range(12):
        runs = [replace(one, clients=float(many)) for one, many in zip(table.runs, clients, strict=True)]
        seen = predict_runs(runs, calibration)
        lasting = seen.ttft[0] + seen.tpot[0] * np.asarray([one.output - 1.0 for one in runs])
        clients = np.clip(np.sqrt(clients * np.clip(offered * lasting, 1.0, most)), 1.0, most)
    for metric, values in (("tpot", seen.tpot[0]), ("ttft", seen.ttft[0])):
        score = report.scored(f"shipped: online serving {metric}", values, table.measured(metric))
        report.summary[f"online serving {metric}: median error"] = round(score.median, 4)


def _speed(report: Report, table: Table, calibration: Calibration) -> None:
    """Report the CPU time of an estimate: one alone, and one of many at once."""
    if not table.runs:
        return
    one = table.runs[:1]
    predict_runs(one, calibration)
    start = time.process_time()
    for _ in range(5):
        predict_runs(one, calibration)
    alone = (time.process_time() - start) / 5.0
    start = time.process_time()
    predicted = predict_runs(table.runs, calibration)
    many = (time.process_time() - start) / float(predicted.tried.sum())
    report.add("an estimate alone", "CPU seconds", alone, 0.005)
    report.add("an estimate among many", "CPU seconds", many, 0.005)
    report.summary["estimate alone, s"], report.summary["estimate among many, s"] = (
        round(alone, 5),
        round(many, 6),
    )


def draw(folder: Path, figures: Path) -> None:
    """Draw predicted over measured times as shipped: every second point, to stay small."""
    table = silicon(folder)
    ttft, tpot, _ = predict_runs(table.runs, load_calibration()).plain()
    engines = np.asarray([run.engine for run in table.runs])
    for metric, values in (("tpot", tpot), ("ttft", ttft)):
        measured = table.measured(metric)[: len(values)]
        groups = {
            str(one): (values[engines == one][::2], measured[engines == one][::2])
            for one in sorted(set(engines))
        }
        scatter(figures / f"inference-{metric}.svg", groups, "s")


def write_fit(folder: Path, path: Path) -> Fitted:
    """Write a calibration document: coefficients fitted to all rows of a folder, others as they are."""
    calibration = load_calibration()
    runs = [*silicon(folder).runs, *tensorrt(folder, "offline-throughput").runs]
    fitted = fit_inference(runs, calibration)
    known = fitted.calibration(calibration, "fit").coefficients
    lines = [HEADER.format(samples=fitted.samples, residual=fitted.residual)]
    for name, one in known.items():
        if not name.startswith("engine_"):
            continue
        figures = f"value: {one.value:.4g}, provenance: {one.provenance}, source: {one.source}"
        if one.residual is not None:
            figures += f", residual: {one.residual}, samples: {one.samples}"
        lines.append(f"  {name}: {{{figures}}}\n")
    write_text_atomic(path, "".join(lines))
    return fitted


if __name__ == "__main__":
    main()
