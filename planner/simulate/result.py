"""Document ``simulation/1``: what a simulated plan did, as flat records."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from planner.schema import Bytes, BytesPerSecond, Document, Record, Seconds


class Percentiles(Record):
    """A sample's mean and percentiles with 95 % intervals, s.

    Attributes
    ----------
    p99_interval
        Lower and upper end of the confidence interval of ``p99`` (likewise for the others).
    """

    count: int
    mean: Seconds
    p50: Seconds
    p95: Seconds
    p99: Seconds
    p50_interval: tuple[float, float]
    p95_interval: tuple[float, float]
    p99_interval: tuple[float, float]


class LinkUse(Record):
    """Exact use of one directed link over the measured time.

    Attributes
    ----------
    mean, peak
        Utilisation, 0 to 1.
    saturated
        Share of the time at 95 % or above.
    waiting
        Waiting that this link caused by being the bottleneck of flows, s.
    series
        Breakpoints ``(time in s, utilisation)`` of the piecewise-constant utilisation, thinned for reports.
    """

    source: str
    target: str
    kind: str
    rate: BytesPerSecond
    carried: Bytes
    mean: float
    peak: float
    saturated: float
    waiting: Seconds
    series: list[tuple[float, float]] = Field(default_factory=list)


class TimelineSpan(Record):
    """One busy interval of a track (a GPU stage, a copy engine, a core pool), s from the start."""

    track: str
    name: str
    category: Literal[
        "forward", "backward", "communication", "optimizer", "prefill", "decode", "cpu", "copy", "idle"
    ]
    start: Seconds
    end: Seconds


class JobRun(Record):
    """A training job from its first step to its last under a scenario.

    Attributes
    ----------
    seconds, stopped
        When its last step ended, or when a failure ended it, s; the other is ``None``.
    failures
        GPUs that failed before that.
    lost, checkpointing, restarting
        Time of work and saves that failures undid, of writing checkpoints, of standing still after
        failures, s.
    """

    seconds: Seconds | None
    stopped: Seconds | None
    failures: int
    lost: Seconds
    checkpointing: Seconds
    restarting: Seconds


class JobSimulation(Record):
    """Outcome of one job.

    Attributes
    ----------
    step_time
        Simulated time of one step, s: of the optimizer (training), of an iteration (recommender), between
        samples or, where the objective is latency, of one sample (operators).
    critical_path
        Longest chain of work in a step, s; of an operator graph the time of the first sample.
    throughput
        Tokens/s of a transformer, samples/s of a recommender or an operator graph.
    latency
        Serving: percentiles by metric: ``latency``, ``ttft``, ``tpot``; of an ensemble by class.
    split
        Serving: mean share of the latency by part (queue, batch, transfer, compute, cpu), s.
    class_split
        Of an ensemble: the same by class.
    latency_cdf
        Points ``(latency in s, share of requests)`` for the figure.
    slo_met
        Whether every simulated limit holds; ``None`` without limits.
    attribution
        Share of the time by what it goes into; the shares add up to 1. Serving: of the mean latency by part
        of `split`. Training: of the step as its busiest stage sees it: ``compute``, ``sending`` (held by its
        own transfers), ``bubble`` (waiting for other stages), ``gradients`` (synchronisation that nothing
        hides, and other stages' updates), ``optimizer``.
    warm_up, cool_down
        Serving: requests at the beginning, found by MSER-5, and at the end that count in no figure.
    run
        Training under a scenario that states its steps.
    """

    name: str
    kind: Literal["training", "serving", "recommender", "operators", "ensemble"]
    step_time: Seconds | None = None
    critical_path: Seconds | None = None
    bubble: float | None = None
    latency: dict[str, Percentiles] = Field(default_factory=dict)
    split: dict[str, Seconds] = Field(default_factory=dict)
    class_split: dict[str, dict[str, Seconds]] = Field(default_factory=dict)
    throughput: float | None = None
    latency_cdf: list[tuple[float, float]] = Field(default_factory=list)
    slo_met: bool | None = None
    attribution: dict[str, float] = Field(default_factory=dict)
    warm_up: int | None = None
    cool_down: int | None = None
    run: JobRun | None = None
    utilisation: dict[str, float] = Field(default_factory=dict)
    timeline: list[TimelineSpan] = Field(default_factory=list)


class SimulationResult(Document):
    """Document ``simulation/1``."""

    kind: ClassVar[str] = "simulation"
    version: ClassVar[int] = 1
    plan: str
    plan_digest: str
    seed: int
    horizon: Seconds
    jobs: list[JobSimulation]
    links: list[LinkUse] = Field(default_factory=list)
