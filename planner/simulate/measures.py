"""Figures of a serving run: which requests count, percentiles with intervals, signs of overload."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.errors import SimulationError
from planner.simulate.fluid import FloatArray
from planner.simulate.result import JobSimulation, Percentiles, TimelineSpan
from planner.simulate.statistics import Interval, mser5, percentile_interval, student_t_quantile
from planner.workload import ServingJob

SECTIONS = 10
CDF_POINTS = 200
FEWEST_FOR_TREND = 200
"""Requests below which nothing is said about overload."""


PARTS = ("cpu", "transfer", "queue", "prefill", "decode")


@dataclass(frozen=True, eq=False)
class RequestRecords:
    """What became of each request, in order of arrival; arrays of shape (n,) in s.

    Attributes
    ----------
    first
        From arrival to the first token.
    latency
        From arrival to the end, the stages after the model included; the sum of the parts.
    parts
        Time by part: CPU stages and waiting for them, copies and waiting for them, waiting for the model,
        prompt, answer.
    """

    arrivals: FloatArray
    outputs: FloatArray
    first: FloatArray
    latency: FloatArray
    parts: dict[str, FloatArray]


@dataclass(frozen=True)
class Window:
    """Requests that count, by their place in order of arrival: from ``begin`` until before ``end``."""

    begin: int
    end: int

    @property
    def part(self) -> slice:
        """The requests as a slice."""
        return slice(self.begin, self.end)


def steady_window(arrivals: FloatArray, latencies: FloatArray) -> Window:
    """Return the requests without the warm-up, by MSER-5, and without the cool-down.

    The cool-down are those that came within a 99th percentile of the latency before the last arrival, a
    quarter at most: the load falls while they are served.
    """
    begin = mser5(latencies)
    last = arrivals[-1] - float(np.quantile(latencies, 0.99))
    end = max(int(np.searchsorted(arrivals, last, side="right")), len(arrivals) - len(arrivals) // 4)
    return Window(begin, end)


def sectioned_percentile(series: FloatArray, q: float, sections: int = SECTIONS) -> Interval:
    r"""Return a percentile of a correlated series with a 95 % interval from sections of it.

    Parameters
    ----------
    series
        Observations in order of time.
    q
        Percentile, between 0 and 100.

    Notes
    -----
    :math:`\hat q \pm t \sqrt{\sum_i (q_i - \hat q)^2 / (n (n - 1))}` over the percentiles :math:`q_i`
    of :math:`n` sections, centred at that of all [1]_. With too few observations the interval is the one for
    independent ones, cut at the extremes.

    References
    ----------
    .. [1] M. K. Nakayama, "Confidence intervals for quantiles using sectioning when applying
       variance-reduction techniques", ACM TOMACS 24(4), 2014.
    """
    if len(series) < 10 * sections:
        plain = percentile_interval(series, q)
        low, high = max(plain.low, float(series.min())), min(plain.high, float(series.max()))
        return Interval(plain.estimate, min(low, plain.estimate), max(high, plain.estimate), plain.confidence)
    estimate = float(np.quantile(series, q / 100.0))
    parts = [float(np.quantile(part, q / 100.0)) for part in np.array_split(series, sections)]
    spread = sum((part - estimate) ** 2 for part in parts) / (sections * (sections - 1))
    half = student_t_quantile(0.975, sections - 1) * math.sqrt(spread)
    return Interval(estimate, estimate - half, estimate + half, 0.95)


def percentiles(series: FloatArray) -> Percentiles:
    """Return the record of a series in order of time, s."""
    p50, p95, p99 = (sectioned_percentile(series, q) for q in (50.0, 95.0, 99.0))
    return Percentiles(
        count=len(series), mean=float(series.mean()),
        p50=p50.estimate, p95=p95.estimate, p99=p99.estimate,
        p50_interval=(p50.low, p50.high), p95_interval=(p95.low, p95.high), p99_interval=(p99.low, p99.high),
    )  # fmt: skip


def distribution(series: FloatArray) -> list[tuple[float, float]]:
    """Return points of the cumulative distribution, evenly spaced in probability, the extremes among them."""
    shares = np.linspace(0.0, 1.0, min(CDF_POINTS, len(series)))
    values = np.quantile(series, shares)
    return list(zip(values.tolist(), shares.tolist(), strict=True))


def falls_behind(delays: FloatArray) -> bool:
    """Whether requests wait ever longer: the shortest delay of the second half is far from that of all.

    A stable queue empties now and then, even under high load; one that cannot keep up never does again.

    Parameters
    ----------
    delays
        Time from arrival to the start of the prompt, s, in order of arrival.
    """
    if len(delays) < FEWEST_FOR_TREND:
        return False
    floor, top = float(delays.min()), float(delays.max())
    late = delays[len(delays) // 2 :]
    middle = len(late) // 2
    grows = float(late[middle:].mean()) > 1.2 * float(late[:middle].mean())
    return grows and float(late.min()) - floor > 0.25 * (top - floor) > 0.0


def refuse_overload(job: ServingJob, records: RequestRecords) -> None:
    """Say so when requests wait ever longer.

    Raises
    ------
    SimulationError
        With what they wait for.
    """
    waits = {name: records.parts[name] for name in ("cpu", "transfer", "queue")}
    if not falls_behind(np.sum(list(waits.values()), axis=0)):
        return
    worst = max(waits, key=lambda name: float(waits[name][-1]))
    what = {"cpu": "the CPU stages", "transfer": "the copies to and from the GPU", "queue": "the model"}
    raise SimulationError(
        f"job {job.name!r}: the plan cannot keep up with {job.traffic.rate:g} requests/s; after "
        f"{len(records.arrivals)} of them they wait {float(waits[worst][-1]):.3g} s for {what[worst]}, and "
        "ever longer; lower the rate, or add replicas or cores"
    )


def job_record(
    job: ServingJob, records: RequestRecords, utilisation: dict[str, float], timeline: list[TimelineSpan]
) -> JobSimulation:
    """Return the record of a run, its figures over the steady part."""
    window = steady_window(records.arrivals, records.latency)
    kept = window.part
    several = records.outputs[kept] > 1.0
    latency = {"latency": percentiles(records.latency[kept]), "ttft": percentiles(records.first[kept])}
    if several.any():
        gaps = records.parts["decode"][kept][several] / (records.outputs[kept][several] - 1.0)
        latency["tpot"] = percentiles(gaps)
    split = {name: float(values[kept].mean()) for name, values in records.parts.items()}
    whole = sum(split.values())
    return JobSimulation(
        name=job.name,
        kind="serving",
        latency=latency,
        split=split,
        attribution={name: seconds / whole for name, seconds in split.items()} if whole > 0.0 else {},
        warm_up=window.begin,
        cool_down=len(records.arrivals) - window.end,
        throughput=throughput(records, window),
        latency_cdf=distribution(records.latency[kept]),
        slo_met=within_limits(job, latency),
        utilisation=utilisation,
        timeline=timeline,
    )


def throughput(records: RequestRecords, window: Window) -> float | None:
    """Return the tokens per second of the answers that ended while the kept requests arrived."""
    begin, end = records.arrivals[window.begin], records.arrivals[window.end - 1]
    if end <= begin:
        return None
    finish = records.arrivals + records.latency
    return float(records.outputs[(finish > begin) & (finish <= end)].sum() / (end - begin))


def within_limits(job: ServingJob, latency: dict[str, Percentiles]) -> bool | None:
    """Return whether the 99th percentiles hold the job's limits; ``None`` without limits."""
    limits = {"latency": job.slo.latency_p99, "ttft": job.slo.ttft_p99, "tpot": job.slo.tpot_p99}
    held = [
        name not in latency or latency[name].p99 <= limit
        for name, limit in limits.items()
        if limit is not None
    ]
    return all(held) if held else None
