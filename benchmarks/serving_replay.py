"""Replay recorded vLLM runs with the kernel times of their GPU, and compare what every request waited.

``python -m benchmarks.serving_replay FOLDER [--json OUT]`` takes a folder of runs, or one run. A run has the
requests, the settings of the engine and tables of kernel times; nothing is fitted to its request times.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy
from numpy.typing import NDArray

from benchmarks.accuracy import Report, Row, column, read_rows
from benchmarks.kernel_tables import KernelTimes, Link, Shape
from planner.errors import PlannerError
from planner.simulate.batching import Replica
from planner.simulate.sequence import Limits, Request

if TYPE_CHECKING:
    from simpy.events import ProcessGenerator

FloatArray = NDArray[np.float64]

MODELS = Path(__file__).with_name("served_models.csv")
"""Shapes from the ``config.json`` that each model is published with."""
MUST = {"tpot": 0.04, "latency": 0.05, "ttft": 0.12}
STATISTICS = {"mean": None, "p50": 50.0, "p95": 95.0, "p99": 99.0}
JUDGED = {"tpot": tuple(STATISTICS), "latency": tuple(STATISTICS), "ttft": ("p95", "p99")}
BLOCK_SIZE, UTILISATION = 16, 0.9
"""Defaults of vLLM."""
WORKSPACE = 1.5e9
"""Memory, bytes, for activations and graphs; only where a run does not say how many blocks it had."""


@dataclass(frozen=True)
class Run:
    """A recorded run."""

    name: str
    rows: list[Row]
    engine: dict[str, Any]
    limits: Limits
    times: KernelTimes
    replicas: int


def load_run(folder: Path) -> Run:
    """Read a run.

    Raises
    ------
    PlannerError
        If the shape of its model is not known.
    """
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    engine = meta["engine_kwargs"]
    shape = _shape(meta["model"])
    tp = int(engine.get("tensor_parallel_size", 1))
    max_batch = int(engine.get("max_num_seqs") or 256)
    limits = Limits(
        max_batch,
        max(int(engine.get("max_num_batched_tokens") or 2048), max_batch),
        _cache_tokens(folder, meta, shape, tp),
        block_size=int((meta.get("kv_cache") or {}).get("block_size") or BLOCK_SIZE),
        overlapped=bool(engine.get("async_scheduling", True)),
        keeps_prefixes=bool((meta.get("kv_cache") or {}).get("enable_prefix_caching", True)),
    )
    config = _config(folder)
    link = Link(float(config.get("link_bw", 16.0)) * 1e9, float(config.get("link_latency", 1000.0)) * 1e-9)
    sizes = Shape(*(int(shape[key]) for key in ("layers", "hidden", "experts", "top_k")))
    times = KernelTimes(folder, tp, sizes, link, max_batch)
    rows = sorted(read_rows(folder / "requests.csv"), key=lambda row: float(row["arrival_s"]))
    return Run(folder.name, rows, engine, limits, times, int(engine.get("data_parallel_size") or 1))


def simulate(run: Run) -> dict[str, FloatArray]:
    """Return ``ttft``, ``tpot`` and ``latency`` of every request of a run, s."""
    env = simpy.Environment()
    replicas = [Replica(env, f"{run.name} {index}", run.times, run.limits) for index in range(run.replicas)]
    arrivals = column(run.rows, "arrival_s")
    arrivals = arrivals - arrivals[0]
    ends: FloatArray = np.zeros((2, len(run.rows)))
    under_way = [0] * run.replicas

    def serve(index: int, request: Request) -> ProcessGenerator:
        place = under_way.index(min(under_way))
        under_way[place] += 1
        replicas[place].submit(request)
        yield request.done
        under_way[place] -= 1
        ends[:, index] = request.first, env.now

    def arrive() -> ProcessGenerator:
        for index, request in enumerate(_requests(env, run.rows)):
            yield env.timeout(max(arrivals[index] - env.now, 0.0))
            env.process(serve(index, request))

    env.process(arrive())
    env.run()
    return _times(arrivals, ends[0], ends[1], column(run.rows, "output_tokens"))


def measured(rows: Sequence[Row]) -> dict[str, FloatArray]:
    """Return the same figures as they were recorded, s."""
    names = ("arrival_s", "first_token_s", "last_token_s", "output_tokens")
    return _times(*(column(rows, name) for name in names))


def report_into(report: Report, folder: Path) -> None:
    """Add the errors of all runs of a folder to a report, a row per run, metric and statistic.

    A run that cannot be simulated counts as wrong by 100 %, and its rows say why.
    """
    worst: dict[str, float] = {}
    for place in _runs(folder):
        truth = measured(read_rows(place / "requests.csv"))
        extra: dict[str, Any] = {}
        try:
            found = simulate(load_run(place))
        except (PlannerError, LookupError) as failure:
            found = {name: np.full(len(values), np.nan) for name, values in truth.items()}
            extra = {"failure": f"{type(failure).__name__}: {failure}"}
        for metric, statistic in itertools.product(truth, STATISTICS):
            value, real = (_statistic(values[metric], STATISTICS[statistic]) for values in (found, truth))
            error = abs(value / real - 1.0) if np.isfinite(value) else 1.0
            must = MUST[metric] if statistic in JUDGED[metric] else None
            report.add(
                f"replay {place.name}", f"{metric}_{statistic}", value, real, error=error, must=must, **extra
            )
            if must is not None:
                worst[metric] = max(worst.get(metric, 0.0), error)
    report.summary |= {f"replay_{metric}_max_error": error for metric, error in worst.items()}


def _statistic(values: FloatArray, q: float | None) -> float:
    return float(values.mean() if q is None else np.percentile(values, q))


def _times(
    arrival: FloatArray, first: FloatArray, last: FloatArray, outputs: FloatArray
) -> dict[str, FloatArray]:
    several = outputs > 1.0
    return {
        "ttft": first - arrival,
        "latency": last - arrival,
        "tpot": (last - first)[several] / (outputs[several] - 1.0),
    }


def _requests(env: simpy.Environment, rows: list[Row]) -> Iterator[Request]:
    """Yield the requests, each with the earlier one whose prompt it most likely repeats.

    The recording says how many tokens of a prompt were seen before, not where: taken for the donor is the
    latest prompt that ends within the block after them, else the latest that is long enough.
    """
    earlier: list[Request] = []
    for row in rows:
        prompt, output = int(row["input_tokens"]), int(row["output_tokens"])
        shared = int(float(row.get("prefix_hit_tokens_upper_bound") or 0))
        long = [other for other in earlier if other.prompt >= shared]
        whole = [other for other in long if other.prompt < shared + BLOCK_SIZE]
        donor = next(reversed(whole or long), None) if shared else None
        request = Request(env, prompt, prompt, output, donor=donor, shared=shared)
        earlier.append(request)
        yield request


def _shape(model: str) -> dict[str, float]:
    """Return the published shape of a model, whatever its fine-tuning is called."""
    with MODELS.open(encoding="utf-8", newline="") as stream:
        known = {row["model"].lower(): row for row in csv.DictReader(stream)}
    name = model.lower()
    match = max((one for one in known if name.startswith(one)), key=len, default=None)
    if match is None:
        raise PlannerError(f"the shape of {model} is not known; add it to {MODELS.name}")
    return {key: float(value) for key, value in known[match].items() if key != "model"}


def _cache_tokens(folder: Path, meta: dict[str, Any], shape: dict[str, float], tp: int) -> int:
    """Return the tokens that the cache holds: as reported, less the block that the engine keeps empty."""
    cache = meta.get("kv_cache") or {}
    size = int(cache.get("block_size") or BLOCK_SIZE)
    if cache.get("num_gpu_blocks"):
        return (int(cache["num_gpu_blocks"]) - 1) * size
    instance = (_config(folder).get("nodes") or [{}])[0].get("instances", [{}])[0]
    memory = float(instance.get("npu_mem", {}).get("mem_size", 0.0)) * 2.0**30
    memory = float((meta.get("hardware") or {}).get("device_total_memory_bytes", memory))
    share = float(cache.get("gpu_memory_utilization") or UTILISATION)
    room = memory * share - shape["billion_parameters"] * 2e9 / tp - WORKSPACE
    per_token = shape["layers"] * 4.0 * shape["head_dim"] * max(shape["kv_heads"] / tp, 1.0)
    return int(room / per_token / size) * size


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "llmservingsim_config.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _runs(folder: Path) -> list[Path]:
    places = [folder, *sorted(folder.iterdir())]
    return [place for place in places if (place / "requests.csv").is_file()]


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving_replay", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of runs, or one run")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    report = Report("serving_replay")
    started = time.process_time()
    report_into(report, options.folder)
    report.summary["cpu_seconds"] = time.process_time() - started
    for row in report.rows:
        must = "" if row["must"] is None else f"(must {100 * row['must']:.0f} %)"
        print(
            f"{row['case']:44} {row['metric']:14} {row['value']:10.4f} s {row['reference']:10.4f} s "
            f"{100 * row['error']:6.2f} % {must} {row.get('failure', '')}".rstrip()
        )
    report.write(options.json)


if __name__ == "__main__":
    main()
