"""Requests of a serving job: when they arrive and how long they are, one random stream per purpose."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from planner.errors import SimulationError
from planner.placement import ServingProblem
from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.statistics import named_stream
from planner.workload import Lengths, Traffic

TRACE_COLUMNS = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
MOST_TOKENS = 10**9
"""Prompt or output tokens of a request in a trace, at most."""


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests in order of arrival; arrays of shape (n,).

    Attributes
    ----------
    arrivals
        s from the start.
    computed
        Prompt tokens that have to be computed: text outside the prefix cache, and images.
    prompts
        Prompt tokens that the cache holds.
    outputs
        Tokens to generate, at least 1.
    """

    arrivals: FloatArray
    computed: IntArray
    prompts: IntArray
    outputs: IntArray

    def __len__(self) -> int:
        return len(self.arrivals)


def draw_requests(
    problem: ServingProblem, count: int, seed: int, most: int, trace: Path | None = None
) -> Requests:
    """Return requests of a job's traffic.

    Parameters
    ----------
    count
        How many; fewer where a trace has fewer.
    most
        Tokens that a request can hold at most; longer ones are cut, first the output.
    trace
        CSV file of the traffic process ``trace``. Its times are stretched to the job's offered rate.
    """
    traffic = problem.job.traffic
    if traffic.process == "trace":
        if trace is None:
            raise SimulationError(f"job {problem.job.name!r}: the file of its trace is not known")
        arrivals, text, outputs = read_trace(trace, count)
        if len(arrivals) > 1 and arrivals[-1] > arrivals[0]:
            recorded = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
            arrivals = (arrivals - arrivals[0]) * (recorded / traffic.rate)
    else:
        arrivals = draw_arrivals(traffic, count, seed)
        text = draw_lengths(traffic.prompt, count, named_stream(seed, "prompt lengths"))
        outputs = draw_lengths(traffic.output, count, named_stream(seed, "output lengths"))
    images = traffic.images * (problem.model.vision.tokens if problem.model.vision else 0)
    text = np.clip(text, 1, max(most - images - 1, 1))
    prompts = text + images
    computed = np.maximum(np.rint(text * (1.0 - traffic.prefix)).astype(np.int64), 1) + images
    return Requests(arrivals, computed, prompts, np.clip(outputs, 1, np.maximum(most - prompts, 1)))


def draw_arrivals(traffic: Traffic, count: int, seed: int) -> FloatArray:
    """Return arrival times, s; another rate stretches the same random numbers."""
    if traffic.process == "deterministic":
        return np.arange(1, count + 1) / traffic.rate
    stream = named_stream(seed, "arrivals")
    if traffic.process == "poisson":
        gaps = stream.exponential(size=count)
    else:
        shape = 1.0 / traffic.cv**2
        gaps = stream.gamma(shape, 1.0 / shape, size=count)
    return np.asarray(np.cumsum(gaps) / traffic.rate)


def draw_lengths(lengths: Lengths, count: int, stream: np.random.Generator) -> IntArray:
    """Return token counts, log-normal with the given mean and coefficient of variation, at least 1."""
    if lengths.cv == 0.0:
        return np.full(count, max(1, round(lengths.mean)), dtype=np.int64)
    variance = math.log1p(lengths.cv**2)
    drawn = lengths.mean * np.exp(math.sqrt(variance) * stream.standard_normal(count) - variance / 2.0)
    return np.maximum(np.rint(drawn).astype(np.int64), 1)


def read_trace(path: Path, count: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Return arrival times, s, prompt and output tokens of the first requests of a CSV trace, by time.

    Raises
    ------
    SimulationError
        If a column is missing or a value is no number, with file and line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = _trace_rows(path, stream)
    except (csv.Error, UnicodeDecodeError) as error:
        raise SimulationError(f"{path}: is no table of text: {error}") from None
    if not rows:
        raise SimulationError(f"{path}: the trace has no requests")
    rows = sorted(rows)[:count]
    table: FloatArray = np.asarray(rows, dtype=float)
    return table[:, 0], table[:, 1].astype(np.int64), table[:, 2].astype(np.int64)


def _trace_rows(path: Path, stream: TextIO) -> list[tuple[float, int, int]]:
    reader = csv.DictReader(stream)
    missing = [name for name in TRACE_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        columns = ", ".join(TRACE_COLUMNS)
        raise SimulationError(f"{path}:1: no column {', '.join(missing)}; a trace has {columns}")
    rows: list[tuple[float, int, int]] = []
    for row in reader:
        try:
            time, prompt, output = (float(row[name]) for name in TRACE_COLUMNS)
            rows.append((time, int(prompt), int(output)))
        except (TypeError, ValueError, OverflowError):
            raise SimulationError(f"{path}:{reader.line_num}: not three numbers: {dict(row)}") from None
        if not (0 <= prompt <= MOST_TOKENS and 0 <= output <= MOST_TOKENS):
            raise SimulationError(f"{path}:{reader.line_num}: tokens must be 0 to {MOST_TOKENS}: {dict(row)}")
        if not math.isfinite(time):
            raise SimulationError(f"{path}:{reader.line_num}: the time of arrival must be finite")
    return rows
