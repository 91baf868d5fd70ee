r"""Times of collectives over nested locality domains, as affine functions of the message size.

A group of :math:`m` ranks is described by how many of its members share each domain that it touches,
:math:`k_\ell` at level :math:`\ell` (:math:`k_{-1} = 1`, and :math:`k = m` where one domain holds all).
Each level has a rate per GPU :math:`B_\ell`, bytes/s, that never rises outwards and a latency
:math:`\alpha_\ell`, s, that never falls outwards.

Every cost here is monotone: more members that share a domain never make a collective slower. A sum
:math:`\sum_\ell (f(k_\ell) - f(k_{\ell-1})) w_\ell` with a rising :math:`f` and :math:`w_\ell` that rises
outwards falls with every :math:`k_\ell` (summation by parts), and all terms below have that form or are the
bottleneck of the levels that are crossed. The optimality proof of the solver rests on it.

A group inside one innermost domain has no shares to compare: its time comes from what was measured there
(:mod:`planner.costs.link_surfaces`), at the size of the message, with the protocol chosen. A group that
crosses domains never takes less than one of its size inside a domain, so the law holds for both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration
from planner.costs.domains import Domain, domain
from planner.costs.protocols import PROTOCOLS
from planner.topology import Device, Hierarchy, Level
from planner.topology.levels import NETWORK

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Line = tuple[FloatArray, FloatArray]
"""Latency, s, and time per byte, s/byte, of every group: arrays of shape (n,)."""

ALGORITHMS = ("ring", "tree", "hierarchical", "nvls")
"""Names behind the numbers in :attr:`Affine.algorithm`."""
BULK = float(1 << 28)
"""Size at which bulk prices are taken, bytes: gradients of a stage are of this order."""
SEND = float(1 << 24)
"""Size at which the line of a send is taken, bytes: activations of a micro-batch are of this order."""


@dataclass(frozen=True)
class Fabric:
    """Rates and latencies of the levels, efficiencies applied, levels ordered from the innermost.

    Attributes
    ----------
    rate : ndarray, shape (levels,)
        Payload rate per GPU that collectives reach, bytes/s, never rising outwards.
    latency : ndarray, shape (levels,)
        Time of one step at each level, software included, s, never falling outwards.
    reduces : ndarray of bool, shape (levels,)
        Whether the level's switch reduces in flight.
    nvls_efficiency
        Rate of an in-switch reduction over :attr:`rate`, a ratio.
    launch
        Fixed time of a collective or of a send, whatever its group, s.
    inside
        Measured collectives inside the innermost domains; absent: the formulas below hold there too.
    ramp
        Loss by cutting messages that cross domains in chunks, see :mod:`planner.costs.protocols`.
    """

    rate: FloatArray
    latency: FloatArray
    reduces: NDArray[np.bool_]
    nvls_efficiency: float
    launch: float = 0.0
    inside: Domain | None = None
    ramp: float = 0.0

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.rate)


def fabric(hierarchy: Hierarchy, calibration: Calibration, device: Device | None = None) -> Fabric:
    """Return the fabric of a hierarchy under a calibration.

    Data that cross an outer level also cross the inner ones, so an outer level is never priced as faster
    or nearer than an inner one, whatever the efficiencies. Where the GPUs' model is given, collectives
    inside the innermost domains are those measured on it or on its nearest sister.
    """
    number = calibration.number
    share = [number(efficiency_name(level)) for level in hierarchy.levels]
    rates = np.asarray([level.rate for level in hierarchy.levels]) * np.asarray(share)
    latencies = np.asarray([level.latency for level in hierarchy.levels])
    return Fabric(
        np.minimum.accumulate(rates),
        np.maximum.accumulate(latencies + _step_overheads(hierarchy, calibration, known=device is not None)),
        np.asarray([level.in_switch_reduction for level in hierarchy.levels], dtype=np.bool_),
        number("nvls_efficiency") / number("nvlink_efficiency"),
        number("collective_launch"),
        domain(hierarchy.levels[0], device, calibration) if device is not None else None,
        number("crossing_ramp") if device is not None else 0.0,
    )


def _step_overheads(hierarchy: Hierarchy, calibration: Calibration, *, known: bool) -> FloatArray:
    """Return the software time of a step at every level, s: a proxy thread moves what crosses a port."""
    inside = calibration.number("collective_step_overhead")
    outside = calibration.number("network_step_overhead") if known else inside
    return np.asarray([outside if level.name in NETWORK else inside for level in hierarchy.levels])


_EFFICIENCY = {
    "nvlink": "nvlink_efficiency",
    "c2c": "staged_efficiency",
    "pcie": "pcie_efficiency",
    "socket": "staged_efficiency",
    "leaf": "network_efficiency",
    "fabric": "network_efficiency",
}


def efficiency_name(level: Level) -> str:
    """Return the coefficient that says which share of a level's rate collectives reach."""
    return _EFFICIENCY.get(level.name, "pcie_efficiency")


@dataclass(frozen=True)
class Affine:
    """Times ``alpha + beta * size``: arrays of shape (n,), s and s/byte, and the algorithm chosen.

    Inside a measured domain the line holds at the size that was asked for.

    Attributes
    ----------
    protocol
        Numbers of :data:`planner.costs.protocols.PROTOCOLS` inside measured domains.
    """

    alpha: FloatArray
    beta: FloatArray
    algorithm: IntArray
    protocol: IntArray | None = None

    def time(self, size: FloatArray | float) -> FloatArray:
        """Return the times, s, of messages of ``size`` bytes; 0 for groups of one."""
        return np.asarray(self.alpha + self.beta * size)


def all_reduce(size: FloatArray | None, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    r"""Return the fastest all-reduce of ``size`` bytes per rank.

    Parameters
    ----------
    size : ndarray, shape (n,), or None
        Message sizes at which the algorithm is chosen, bytes. ``None`` prices bulk transfers whose size is
        still open: the rate of the algorithm with most bandwidth, the latency of the ring, which none
        exceeds, so that the line is monotone as a whole and an upper estimate.
    group : ndarray, shape (n,)
        Group sizes :math:`m`.
    members : ndarray, shape (n, levels)
        Members per touched domain :math:`k_\ell`.

    Notes
    -----
    :func:`ring`, :func:`tree`, :func:`hierarchical` or, in a domain whose switch reduces, :func:`nvls`.
    """
    options = [
        ring(group, members, fabric, 2.0),
        tree(group, members, fabric, 2.0),
        hierarchical(group, members, fabric, 2.0),
        nvls(group, members, fabric),
    ]
    return _measured("all_reduce", _fastest(options, size, group, fabric.ramp), size, group, members, fabric)


def reduce_scatter(size: FloatArray | None, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    """Return the fastest reduce-scatter (or all-gather) of ``size`` bytes in total per rank.

    Half the volume and the steps of the ring or hierarchical all-reduce; see :func:`all_reduce`.
    """
    return _half("reduce_scatter", size, group, members, fabric)


def all_gather(size: FloatArray | None, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    """Return the fastest all-gather of ``size`` bytes in total per rank; see :func:`reduce_scatter`."""
    return _half("all_gather", size, group, members, fabric)


def _half(
    operation: str, size: FloatArray | None, group: FloatArray, members: FloatArray, fabric: Fabric
) -> Affine:
    options = [ring(group, members, fabric, 1.0), None, hierarchical(group, members, fabric, 1.0)]
    return _measured(operation, _fastest(options, size, group, fabric.ramp), size, group, members, fabric)


def all_to_all(size: FloatArray, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    r"""Return the time for every rank to send ``size`` bytes spread evenly over the group.

    The share :math:`(m - k_{\ell-1}) / m` leaves the domains below level :math:`\ell` and crosses it; the
    slowest level counts. Messages to all peers start together: one latency, that of the outermost level.
    """
    inner = _inner(members)
    crossed = members > inner
    leaving = (group[:, None] - inner) / group[:, None]
    beta = np.max(np.where(crossed, leaving / fabric.rate, 0.0), axis=1)
    alpha = np.max(np.where(crossed, fabric.latency, 0.0), axis=1) + fabric.launch
    alone = group <= 1
    beta = _reachable(beta, group, members)
    line = Affine(
        np.where(alone, 0.0, alpha), np.where(alone, 0.0, beta), np.zeros(len(group), dtype=np.int64)
    )
    return _measured("alltoall", line, size, group, members, fabric)


def send(level: IntArray, fabric: Fabric, size: FloatArray | None = None) -> Affine:
    """Return the time of a message between two ranks whose lowest common domain is at ``level``.

    A level past the last means that nothing joins the two: infinitely slow. Inside a measured domain the
    line holds at ``size``, bytes; where that is open, at :data:`SEND`.
    """
    inverse = np.append(1.0 / fabric.rate, np.inf)
    latency = np.append(fabric.latency, 0.0)
    algorithm = np.zeros(len(level), dtype=np.int64)
    if fabric.inside is None:
        return Affine(latency[level] + fabric.launch, inverse[level], algorithm)
    pair, near = np.full(len(level), 2.0), level == 0
    first, slope = fabric.inside.bulk("send", pair, SEND)
    if size is not None:
        sizes = np.broadcast_to(np.asarray(size, dtype=float), pair.shape)
        measured = fabric.inside.seconds("send", sizes, pair)[0]
        slope = np.minimum(slope, measured / np.maximum(sizes, 1.0))
        first = measured - slope * sizes
    alpha = np.where(near, first, np.maximum(latency[level] + fabric.launch, first))
    return Affine(alpha, np.where(near, slope, np.maximum(inverse[level], slope)), algorithm)


def _inner(members: FloatArray) -> FloatArray:
    return np.concatenate([np.ones((len(members), 1)), members[:, :-1]], axis=1)


def _reachable(beta: FloatArray, group: FloatArray, members: FloatArray) -> FloatArray:
    """Make groups that no domain joins infinitely slow."""
    return np.where(members[:, -1] + 1e-9 < group, np.inf, beta)


def _width(members: FloatArray, fabric: Fabric) -> FloatArray:
    r"""Return the rate at which a chain through all members carries data, bytes/s.

    Every sub-domain at level :math:`\ell` is left by :math:`k_{\ell-1}` parallel chains.
    """
    inner = _inner(members)
    return np.asarray(np.min(np.where(members > inner, inner * fabric.rate, np.inf), axis=1))


def ring(group: FloatArray, members: FloatArray, fabric: Fabric, rounds: float) -> Line:
    r"""Return latency and time per byte of rings through all members.

    :math:`r \frac{m-1}{m} / \min_\ell k_{\ell-1} B_\ell` per byte and :math:`r (m - 1)` steps, of which
    :math:`r (m / k_{\ell-1} - m / k_\ell)` cross level :math:`\ell`; an all-reduce makes :math:`r = 2`
    rounds, a reduce-scatter or all-gather one [1]_.

    References
    ----------
    .. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in
       MPICH", IJHPCA, 2005.
    """
    steps = group[:, None] / _inner(members) - group[:, None] / members
    beta = rounds * (group - 1) / group / _width(members, fabric)
    alpha = rounds * np.sum(steps * fabric.latency, axis=1) + fabric.launch
    return alpha, _reachable(beta, group, members)


def tree(group: FloatArray, members: FloatArray, fabric: Fabric, rounds: float) -> Line:
    r"""Return latency and time per byte of a pair of binary trees over all members.

    Every byte crosses the bottleneck once per round, in :math:`r \log_2 (k_\ell / k_{\ell-1})` steps at level
    :math:`\ell` [1]_; the logarithm is not rounded up, which keeps the cost monotone.

    References
    ----------
    .. [1] P. Sanders, J. Speck, J. L. Traff, "Two-tree algorithms for full bandwidth broadcast, reduction
       and scan", Parallel Computing, 2009.
    """
    beta = rounds / _width(members, fabric)
    return _halving_latency(members, fabric, rounds), _reachable(beta, group, members)


def hierarchical(group: FloatArray, members: FloatArray, fabric: Fabric, rounds: float) -> Line:
    r"""Return latency and time per byte of phases inside the domains and across them.

    Reduce-scatter inwards, all-reduce of :math:`S / k` across, all-gather outwards: level :math:`\ell`
    carries :math:`r (1 / k_{\ell-1} - 1 / k_\ell)` of the message, by recursive halving and doubling [1]_ in
    :math:`r \log_2 (k_\ell / k_{\ell-1})` steps.

    References
    ----------
    .. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in
       MPICH", IJHPCA, 2005.
    """
    carried = 1.0 / _inner(members) - 1.0 / members
    beta = rounds * np.sum(carried / fabric.rate, axis=1)
    return _halving_latency(members, fabric, rounds), _reachable(beta, group, members)


def _halving_latency(members: FloatArray, fabric: Fabric, rounds: float) -> FloatArray:
    steps = np.log2(members / _inner(members))
    return np.asarray(rounds * np.sum(steps * fabric.latency, axis=1) + fabric.launch)


def nvls(group: FloatArray, members: FloatArray, fabric: Fabric) -> Line:
    r"""Return latency and time per byte where one switch that reduces joins the whole group.

    Each GPU sends and receives the message once, in two steps [1]_; infinitely slow elsewhere.

    References
    ----------
    .. [1] B. Klenk et al., "An In-Network Architecture for Accelerating Shared-Memory Multiprocessor
       Collectives", ISCA, 2020.
    """
    inside = (members[:, 0] + 1e-9 >= group) & fabric.reduces[0] & (group > 2)
    beta = np.where(inside, 1.0 / (fabric.rate[0] * fabric.nvls_efficiency), np.inf)
    return np.full(len(group), 2 * fabric.latency[0] + fabric.launch), beta


def _fastest(
    options: Sequence[Line | None], size: FloatArray | None, group: FloatArray, ramp: float = 0.0
) -> Affine:
    missing = np.full(len(group), np.inf)
    alphas = np.stack([missing if option is None else option[0] for option in options])
    betas = np.stack([missing if option is None else option[1] for option in options])
    reached = np.where(np.isfinite(betas), alphas, np.inf)
    finite = np.where(np.isfinite(betas), betas, 0.0)
    sizes = np.full(len(group), BULK) if size is None else np.maximum(size, 0.0)
    chunks = 2.0 * ramp * np.sqrt(np.where(np.isfinite(reached), reached, 0.0) * finite * sizes)
    if size is None:
        best = np.argmin(betas, axis=0)
        alpha = alphas[0] + chunks[0]
    else:
        best = np.argmin(reached + finite * sizes + chunks, axis=0)
        alpha = (alphas + chunks)[best, np.arange(len(group))]
    beta = betas[best, np.arange(len(group))]
    alone = group <= 1
    return Affine(np.where(alone, 0.0, alpha), np.where(alone, 0.0, beta), best.astype(np.int64))


def _measured(
    operation: str,
    line: Affine,
    size: FloatArray | None,
    group: FloatArray,
    members: FloatArray,
    fabric: Fabric,
) -> Affine:
    """Return a cost with groups inside one domain as measured there, and no other group below that."""
    if fabric.inside is None:
        return line
    within = members[:, 0] + 1e-9 >= group
    several = group > 1
    if size is None:
        first, slope = fabric.inside.bulk(operation, group, BULK)
        protocol = fabric.inside.seconds(operation, np.full(len(group), BULK), group)[1]
        alpha = np.where(within, first, np.maximum(line.alpha, first))
        beta = np.where(within, slope, np.maximum(line.beta, slope))
    else:
        sizes = np.broadcast_to(np.asarray(size, dtype=float), group.shape)
        measured, protocol = fabric.inside.seconds(operation, sizes, group)
        total = np.where(within, measured, np.maximum(line.time(sizes), measured))
        beta = np.where(np.isinf(total), np.inf, np.minimum(line.beta, total / np.maximum(sizes, 1.0)))
        alpha = np.where(np.isinf(total), line.alpha, total - np.where(np.isinf(beta), 0.0, beta) * sizes)
    switched = within & (protocol == PROTOCOLS.index("nvls")) & (operation == "all_reduce")
    algorithm = np.where(within, np.where(switched, ALGORITHMS.index("nvls"), 0), line.algorithm)
    return Affine(
        np.where(several, alpha, 0.0), np.where(several, beta, 0.0), algorithm.astype(np.int64), protocol
    )
