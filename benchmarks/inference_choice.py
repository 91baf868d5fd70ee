"""Choosing a configuration under a limit of the time per token, judged by what was measured of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import erf

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.inference_runs import ServedRun

FloatArray = NDArray[np.float64]
LIMITS = (0.010, 0.015, 0.020, 0.030, 0.050, 0.100)
"""Limits of the time per token, s."""
MARGIN = 0.05
"""By how much a predicted time must stay below the limit for a configuration to be eligible."""
SPREAD = 0.15
"""Spread of measured about predicted times, as a logarithm: what a choice weighs the risk of a miss with."""


@dataclass(frozen=True)
class Choices:
    """Outcome of choices: how many, the share that broke the limit, mean throughput lost where it held."""

    count: int
    broken: float
    lost: float


def rate(run: ServedRun, ttft: float, tpot: float) -> float:
    """Return output tokens/s per GPU."""
    return run.clients * run.output / (ttft + (run.output - 1.0) * tpot) / run.gpus


def holds(limit: float, predicted: float) -> float:
    """Return the probability that a time holds a limit, its logarithm normal about the predicted one."""
    return 0.5 * (1.0 + erf(float(np.log(limit / predicted)) / SPREAD / 2.0**0.5))


def choices(runs: Sequence[ServedRun], ttft: FloatArray, tpot: FloatArray) -> Choices:
    """Choose by prediction among runs of one model, device, engine, data type and lengths.

    The choice has the highest throughput times the probability that the limit holds. A group with one
    configuration, or without one that holds the limit, leaves nothing to choose.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        if np.isfinite(tpot[index]):
            groups[
                run.model.name, run.device.name, run.engine, run.precisions, run.prompt, run.output
            ].append(index)
    broken, lost = [], []
    for rows in groups.values():
        if len(rows) < 2:
            continue
        seen = np.asarray([runs[row].measured["tpot"] for row in rows])
        got = np.asarray([rate(runs[row], *_pair(runs[row])) for row in rows])
        guess = np.asarray([rate(runs[row], ttft[row], tpot[row]) for row in rows])
        for limit in LIMITS:
            eligible = tpot[rows] <= limit / (1.0 + MARGIN)
            if not (seen <= limit).any() or not eligible.any() or (seen <= limit).all():
                continue
            hope = guess * [holds(limit, tpot[row]) for row in rows]
            chosen = int(np.argmax(np.where(eligible, hope, -np.inf)))
            held = bool(seen[chosen] <= limit)
            broken.append(not held)
            if held:
                lost.append(1.0 - got[chosen] / got[seen <= limit].max())
    return Choices(
        len(broken),
        float(np.mean(broken)) if broken else float("nan"),
        float(np.mean(lost)) if lost else float("nan"),
    )


def _pair(run: ServedRun) -> tuple[float, float]:
    return run.measured["ttft"], run.measured["tpot"]
