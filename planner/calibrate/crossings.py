"""Fit the links that join the domains of a machine: a rate and a latency, from what crosses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.collectives import PRIOR
from planner.costs.collectives import Fabric, all_reduce, send
from planner.costs.domains import Domain
from planner.costs.protocols import ProtocolCurve, message, quickest

FloatArray = NDArray[np.float64]

NOISE = 0.2
RATE_WIDTH, LATENCY_WIDTH = 1.5, 1.0


@dataclass(frozen=True)
class Crossing:
    """Links between domains.

    Attributes
    ----------
    rate
        Per GPU that sends across, bytes/s.
    latency
        Of one step, software included, s.
    sharing
        How ranks of one domain share its ports: 0 a port for each, 1 one port for all.
    """

    rate: float
    latency: float
    sharing: float = 0.0


@dataclass(frozen=True)
class Moves:
    """All-reduces and sends over domains; arrays of shape (n,).

    Attributes
    ----------
    reduce
        Whether it is an all-reduce; else a send.
    ranks, near
        Ranks, and how many of them share a domain.
    """

    reduce: NDArray[np.bool_]
    size: FloatArray
    ranks: FloatArray
    near: FloatArray

    def take(self, rows: NDArray[np.int64]) -> Moves:
        """Return some of the rows."""
        return Moves(self.reduce[rows], self.size[rows], self.ranks[rows], self.near[rows])


def moves_time(
    moves: Moves, crossing: Crossing, inside: Domain | None, host: float, ramp: float
) -> FloatArray:
    """Return the times of moves, s; ``host`` is the least time between two that the host launches."""
    times = np.empty(len(moves.size))
    for near in np.unique(moves.near):
        rows = np.flatnonzero(moves.near == near)
        rate = crossing.rate * float(near) ** -crossing.sharing
        times[rows] = _alike(moves.take(rows), rate, crossing.latency, inside, host, ramp)
    return times


def _alike(
    moves: Moves, port: float, latency: float, inside: Domain | None, host: float, ramp: float
) -> FloatArray:
    """Return the times of moves with the same number of ranks in a domain."""
    rate = port if inside is None else max(inside.rate, port)
    net = Fabric(
        np.asarray([rate, port]), np.asarray([1e-6, max(latency, 1e-6)]),
        np.asarray([False, False]), 1.0, 0.0, inside, ramp,
    )  # fmt: skip
    members = np.stack([moves.near, moves.ranks], axis=1)
    together = all_reduce(moves.size, moves.ranks, members, net).time(moves.size)
    level = np.where(moves.near >= moves.ranks, 0, 1)
    single = send(level, net, moves.size).time(moves.size)
    times = np.where(moves.reduce, together, single)
    return np.asarray(np.where(moves.reduce, np.hypot(times, host), times))


def fit_crossing(
    moves: Moves, seconds: FloatArray, prior: Crossing, inside: Domain | None, host: float, ramp: float
) -> Crossing:
    """Return the rate and latency of a machine's crossing links, near a prior where rows say little."""
    from scipy.optimize import least_squares

    widths = np.asarray([RATE_WIDTH, LATENCY_WIDTH])
    start = np.log([prior.rate, prior.latency])

    def crossing(scaled: FloatArray) -> Crossing:
        rate, latency = np.exp(start + scaled * widths)
        return Crossing(float(rate), float(latency), prior.sharing)

    def residuals(scaled: FloatArray) -> FloatArray:
        times = moves_time(moves, crossing(scaled), inside, host, ramp)
        error = (np.log(times) - np.log(seconds)) / NOISE
        damped = np.sign(error) * np.sqrt(8.0 * (np.sqrt(1.0 + error**2 / 4.0) - 1.0))
        return np.concatenate([damped, scaled])

    return crossing(np.asarray(least_squares(residuals, np.zeros(2), diff_step=1e-4).x))


def fit_send(moves: Moves, seconds: FloatArray, rates: FloatArray) -> ProtocolCurve:
    """Return the curve of sends inside a domain; ``rates`` of the links behind every row, bytes/s."""
    from scipy.optimize import least_squares

    names = ("start", "ll128_rate", "simple_start", "simple_rate")
    start = np.log([getattr(PRIOR, name) for name in names])
    ranks = np.full(len(moves.size), 2.0)
    batch = message("send", moves.size, ranks, rates, reduces=False)

    def curve(scaled: FloatArray) -> ProtocolCurve:
        values = {name: float(value) for name, value in zip(names, np.exp(start + scaled), strict=True)}
        return PRIOR.model_copy(update=values | {"step": 1e-7, "simple_step": 1e-7})

    def residuals(scaled: FloatArray) -> FloatArray:
        error = np.log(quickest(curve(scaled).values[:, None], batch)[0] / seconds) / NOISE
        return np.concatenate([np.sign(error) * np.sqrt(8.0 * (np.sqrt(1.0 + error**2 / 4.0) - 1.0)), scaled])

    found = curve(np.asarray(least_squares(residuals, np.zeros(len(names))).x))
    return ProtocolCurve(**{name: float(f"{value:.4g}") for name, value in found.model_dump().items()})
