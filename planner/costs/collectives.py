r"""Times of collectives over nested locality domains, as affine functions of the message size.

A group of :math:`m` ranks is described by how many of its members share each domain that it touches,
:math:`k_\ell` at level :math:`\ell` (:math:`k_{-1} = 1`, and :math:`k = m` where one domain holds all).
Each level has a rate per GPU :math:`B_\ell` and a latency :math:`\alpha_\ell`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration
from planner.topology import Hierarchy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ALGORITHMS = ("ring", "tree", "hierarchical", "nvls")


@dataclass(frozen=True)
class Fabric:
    """Rates and latencies of the levels, efficiencies applied.

    Attributes
    ----------
    rate : ndarray, shape (levels,)
        Payload rate per GPU that collectives reach, bytes/s.
    latency : ndarray, shape (levels,)
        Time of one step at each level, software included, s.
    reduces : ndarray of bool, shape (levels,)
        Whether the level's switch reduces in flight.
    """

    rate: FloatArray
    latency: FloatArray
    reduces: NDArray[np.bool_]
    nvls_efficiency: float
    assumed: NDArray[np.bool_]

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.rate)


def fabric(hierarchy: Hierarchy, calibration: Calibration) -> Fabric:
    """Return the fabric of a hierarchy under a calibration."""
    number = calibration.number
    efficiency = {"nvl": "nvlink_efficiency", "nvb": "nvlink_efficiency", "nvlink": "nvlink_efficiency",
                  "fabric": "network_efficiency", "leaf": "network_efficiency"}  # fmt: skip
    share = [number(efficiency.get(level.name, "pcie_efficiency")) for level in hierarchy.levels]
    return Fabric(
        np.asarray([level.rate for level in hierarchy.levels]) * np.asarray(share),
        np.asarray([level.latency for level in hierarchy.levels]) + number("collective_step_overhead"),
        np.asarray([level.in_switch_reduction for level in hierarchy.levels], dtype=np.bool_),
        number("nvls_efficiency") / number("nvlink_efficiency"),
        np.asarray([level.provenance == "assumed" for level in hierarchy.levels], dtype=np.bool_),
    )


@dataclass(frozen=True)
class Affine:
    """Times ``alpha + beta * size``: arrays of shape (n,), s and s/byte, and the algorithm chosen."""

    alpha: FloatArray
    beta: FloatArray
    algorithm: IntArray

    def time(self, size: FloatArray | float) -> FloatArray:
        """Return the times, s, of messages of ``size`` bytes; 0 for groups of one."""
        return self.alpha + self.beta * size


def all_reduce(size: FloatArray, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    r"""Return the fastest all-reduce of ``size`` bytes per rank.

    Parameters
    ----------
    size : ndarray, shape (n,)
        Message sizes at which the algorithm is chosen, bytes.
    group : ndarray, shape (n,)
        Group sizes :math:`m`.
    members : ndarray, shape (n, levels)
        Members per touched domain :math:`k_\ell`.

    Notes
    -----
    Ring: :math:`2 \frac{m-1}{m} S / \min_\ell k_{\ell-1} B_\ell` [1]_. Tree: the same volume, latency of
    :math:`2 \lceil\log_2\rceil` steps per level [2]_. Hierarchical: reduce-scatter inwards, all-reduce of
    :math:`S / k` across, all-gather outwards. NVLS: the switch reduces, each GPU sends and receives
    :math:`S` once [3]_.

    References
    ----------
    .. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in
       MPICH", IJHPCA, 2005.
    .. [2] P. Sanders, J. Speck, J. L. Traff, "Two-tree algorithms for full bandwidth broadcast, reduction
       and scan", Parallel Computing, 2009.
    .. [3] B. Klenk et al., "An In-Network Architecture for Accelerating Shared-Memory Multiprocessor
       Collectives", ISCA, 2020.
    """
    rounds = 2.0
    options = [
        _ring(group, members, fabric, rounds),
        _tree(group, members, fabric, rounds),
        _hierarchical(group, members, fabric, rounds),
        _nvls(group, members, fabric),
    ]
    return _fastest(options, size, group)


def reduce_scatter(size: FloatArray, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    """Return the fastest reduce-scatter (or all-gather) of ``size`` bytes in total per rank.

    Half the volume and the steps of the ring or hierarchical all-reduce; see :func:`all_reduce`.
    """
    options = [_ring(group, members, fabric, 1.0), None, _hierarchical(group, members, fabric, 1.0)]
    return _fastest(options, size, group)


all_gather = reduce_scatter


def all_to_all(size: FloatArray, group: FloatArray, members: FloatArray, fabric: Fabric) -> Affine:
    r"""Return the time for every rank to send ``size`` bytes spread evenly over the group.

    The share :math:`(k_\ell - k_{\ell-1}) / m` goes to peers at level :math:`\ell`; levels use different
    links, so the slowest counts. One latency per level that is crossed.
    """
    inner = _inner(members)
    share = (members - inner) / group[:, None]
    crossed = members > inner
    beta = np.max(share / fabric.rate, axis=1)
    alpha = np.sum(np.where(crossed, fabric.latency, 0.0), axis=1)
    return Affine(alpha, _reachable(beta, group, members), np.zeros(len(group), dtype=np.int64))


def send(level: IntArray, fabric: Fabric) -> Affine:
    """Return the time of a message between two ranks whose lowest common domain is at ``level``."""
    return Affine(fabric.latency[level], 1.0 / fabric.rate[level], np.zeros(len(level), dtype=np.int64))


def _inner(members: FloatArray) -> FloatArray:
    return np.concatenate([np.ones((len(members), 1)), members[:, :-1]], axis=1)


def _reachable(beta: FloatArray, group: FloatArray, members: FloatArray) -> FloatArray:
    """Make groups that no domain joins infinitely slow."""
    return np.where(members[:, -1] + 1e-9 < group, np.inf, beta)


def _ring(group: FloatArray, members: FloatArray, fabric: Fabric, rounds: float) -> tuple[FloatArray, FloatArray]:
    inner = _inner(members)
    crossed = members > inner
    width = np.min(np.where(crossed, inner * fabric.rate, np.inf), axis=1)
    beta = rounds * (group - 1) / group / width
    steps = group[:, None] / inner - group[:, None] / members
    alpha = rounds * np.sum(np.where(crossed, steps * fabric.latency, 0.0), axis=1)
    return alpha, _reachable(beta, group, members)


def _tree(group: FloatArray, members: FloatArray, fabric: Fabric, rounds: float) -> tuple[FloatArray, FloatArray]:
    inner = _inner(members)
    crossed = members > inner
    width = np.min(np.where(crossed, inner * fabric.rate, np.inf), axis=1)
    depth = np.ceil(np.log2(np.maximum(members / inner, 1.0)) - 1e-9)
    alpha = rounds * np.sum(np.where(crossed, depth * fabric.latency, 0.0), axis=1)
    return alpha, _reachable(rounds / width, group, members)


def _hierarchical(
    group: FloatArray, members: FloatArray, fabric: Fabric, rounds: float
) -> tuple[FloatArray, FloatArray]:
    inner = _inner(members)
    parts = members / inner
    beta = np.sum(rounds * (parts - 1) / parts / inner / fabric.rate, axis=1)
    alpha = np.sum(rounds * (parts - 1) * fabric.latency, axis=1)
    return alpha, _reachable(beta, group, members)


def _nvls(group: FloatArray, members: FloatArray, fabric: Fabric) -> tuple[FloatArray, FloatArray]:
    """One level that reduces in its switch holds the whole group."""
    inside = (members[:, 0] + 1e-9 >= group) & fabric.reduces[0] & (group > 2)
    beta = 1.0 / (fabric.rate[0] * fabric.nvls_efficiency)
    return np.full(len(group), 2 * fabric.latency[0]), np.where(inside, beta, np.inf)


def _fastest(
    options: list[tuple[FloatArray, FloatArray] | None], size: FloatArray, group: FloatArray
) -> Affine:
    missing = np.full(len(group), np.inf)
    alphas = np.stack([missing if option is None else option[0] for option in options])
    betas = np.stack([missing if option is None else option[1] for option in options])
    with np.errstate(invalid="ignore"):
        times = np.where(np.isfinite(betas), alphas + betas * np.maximum(size, 0.0), np.inf)
    best = np.argmin(times, axis=0)
    rows = np.arange(len(group))
    alone = group <= 1
    return Affine(
        np.where(alone, 0.0, alphas[best, rows]), np.where(alone, 0.0, betas[best, rows]), best.astype(np.int64)
    )
