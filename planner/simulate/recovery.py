"""A training job through failures: work that is lost, restarts, and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from planner.errors import SimulationError
from planner.simulate.result import JobRun
from planner.simulate.scenario import Checkpoints, Scenario
from planner.simulate.statistics import named_stream

MOST_FAILURES = 100_000


def run_job(scenario: Scenario, gpus: Iterable[str], step_time: float, seed: int) -> JobRun | None:
    """Return what becomes of a job; ``None`` where the scenario does not say how many steps it has.

    Parameters
    ----------
    gpus
        GPUs that the job uses.

    Raises
    ------
    SimulationError
        If there are failures but no number of steps, or the job makes no progress.
    """
    used = set(gpus)
    stated = sorted(failure.at for failure in scenario.failures if failure.gpu in used)
    if scenario.steps is None:
        if stated or scenario.mean_time_between_failures is not None:
            raise SimulationError(f"scenario {scenario.name!r}: failures need the number of steps of the job")
        return None
    mean = scenario.mean_time_between_failures
    random = _random_failures(mean, seed) if mean is not None else iter(())
    return through_failures(
        scenario.steps * step_time, _merged(stated, random), scenario.checkpoints, scenario.name
    )


def through_failures(
    work: float, failures: Iterator[float], checkpoints: Checkpoints | None, name: str = ""
) -> JobRun:
    """Return the course of some work, s, under failures at times in ascending order, s.

    Notes
    -----
    A checkpoint follows every interval of work but the last. A failure loses what was done since the last
    checkpoint, and restarting begins anew when another comes during it.
    """
    now = saved = writing = restarting = lost = 0.0
    interval = math.inf if checkpoints is None else checkpoints.interval
    write = 0.0 if checkpoints is None else checkpoints.write
    num_failures, failure = 0, next(failures, math.inf)
    while saved < work:
        part = min(interval, work - saved)
        pause = write if saved + part < work else 0.0
        if now + part + pause <= failure:
            now, saved, writing = now + part + pause, saved + part, writing + pause
            continue
        num_failures += 1
        lost += failure - now
        if checkpoints is None:
            return JobRun(
                seconds=None, stopped=failure, failures=1, lost=lost, checkpointing=0.0, restarting=0.0
            )
        begin, now = failure, failure + checkpoints.restart
        failure = next(failures, math.inf)
        while failure < now:
            num_failures += 1
            now, failure = failure + checkpoints.restart, next(failures, math.inf)
        restarting += now - begin
        if num_failures > MOST_FAILURES:
            raise SimulationError(
                f"scenario {name!r}: the job makes no progress between failures; checkpoint more often"
            )
    return JobRun(
        seconds=now, stopped=None, failures=num_failures, lost=lost, checkpointing=writing,
        restarting=restarting,
    )  # fmt: skip


def _random_failures(mean: float, seed: int) -> Iterator[float]:
    stream = named_stream(seed, "failures")
    time = 0.0
    while True:
        time += float(stream.exponential(mean))
        yield time


def _merged(stated: list[float], random: Iterator[float]) -> Iterator[float]:
    following = next(random, math.inf)
    for time in (*stated, math.inf):
        while following < time:
            yield following
            following = next(random, math.inf)
        if time < math.inf:
            yield time
