"""Fit protocol curves and their residuals to measured collectives of one machine or engine.

Every series (an operation among a number of ranks) gets its own curve: the machine's, moved by small
deviations of the operation, of the number of ranks and of the series, each with a stated prior width
(hierarchical least squares, [1]_). What is left is carried over to other sizes by interpolation. The
calibration then holds one curve per kind of operation and the ratios of the series over it.

References
----------
.. [1] A. Gelman, J. Hill, "Data Analysis Using Regression and Multilevel/Hierarchical Models", 2006, ch. 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.protocols import NAMES, OPERATIONS, Message, ProtocolCurve, message, quickest

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

KINDS = ("ring", "alltoall", "send")
PRIOR = ProtocolCurve(
    start=5e-6, step=0.8e-6, ll128_start=0.2, ll_rate=0.05, ll128_rate=0.35, simple_start=9e-6,
    simple_step=0.8e-6, simple_rate=0.95, copy_share=0.25, ramp=0.05, nvls_rate=0.70, nvls_ramp=0.4,
    floor=1e-6,
)  # fmt: skip
"""Where a fit starts: of the order of NCCL's own tuning constants."""
WIDTH = dict(zip(NAMES, (1.0, 1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 0.4, 0.5, 0.1, 0.03, 0.03, 0.01), strict=True))
"""Prior widths of a machine's numbers, natural logarithms."""
OPERATION_WIDTH = dict(
    zip(NAMES, (0.5, 1.0, 0.5, 1.0, 0.5, 0.5, 1.0, 0.3, 0.2, 0.3, 0.01, 0.01, 0.01), strict=True)
)
SERIES_WIDTH = {"start": 0.4, "ll_rate": 1.0, "ll128_rate": 0.3, "simple_start": 0.4, "simple_rate": 0.5}
CONTENTION = 2.0
"""What PCIe boxes add to the width of the rates by number of ranks: shared roots and sockets."""
FLOOR_WIDTH = 2.0
"""Width of the floor where the host launches every collective by itself."""
NOISE = 0.25
"""Scatter of measured times about a curve, a ratio: protocol changes are sharper than the curve's."""
SHRINK = 0.7
"""Share of a residual that is carried over to the sizes beside it."""
GRID = tuple(float(2**power) for power in range(8, 31))


@dataclass(frozen=True)
class Samples:
    """Measured collectives of one machine; arrays of shape (n,).

    Attributes
    ----------
    operation
        Index into :data:`planner.costs.protocols.OPERATIONS`.
    size, group, seconds
        Bytes, ranks, s.
    rate
        Rate per GPU of the domain, bytes/s.
    link
        ``nvlink`` or ``pcie``.
    host
        Whether the host launches every collective by itself (eager mode of an engine).
    nvls
        Share of the rate that in-switch reduction is expected to reach; absent: that of :data:`PRIOR`.
    """

    operation: IntArray
    size: FloatArray
    group: FloatArray
    seconds: FloatArray
    rate: float
    link: str
    reduces: bool
    host: bool = False
    nvls: float | None = None

    def take(self, rows: IntArray) -> Samples:
        """Return some of the rows."""
        return Samples(
            self.operation[rows], self.size[rows], self.group[rows], self.seconds[rows],
            self.rate, self.link, self.reduces, self.host, self.nvls,
        )  # fmt: skip


def fit_surface(samples: Samples, source: str) -> CollectiveSurface:
    """Return the surface of a machine.

    Parameters
    ----------
    samples
        At least a handful of sizes of one operation.
    source
        What was measured, for the calibration.
    """
    fit = _Fit(samples)
    curves = {kind: _curve(fit.of_kind(place)) for place, kind in enumerate(KINDS) if kind in fit.kinds}
    plain = CollectiveSurface(link=samples.link, rate=samples.rate, source=source, curves=curves)
    groups = np.unique(samples.group)
    grid = [size for size in GRID if size <= 4 * samples.size.max()]
    ratios = {
        OPERATIONS[operation]: [
            _ratios(fit, plain, int(operation), float(group), np.asarray(grid)) for group in groups
        ]
        for operation in np.unique(samples.operation)
    }
    filled = plain.model_dump(exclude={"residual"}) | {
        "sizes": grid, "groups": [float(g) for g in groups], "ratios": ratios, "samples": len(samples.size),
    }  # fmt: skip
    surface = CollectiveSurface(**filled)
    error = float(np.mean(np.abs(predict(surface, samples) / samples.seconds - 1.0)))
    return CollectiveSurface(**filled, residual=round(error, 3))


def predict(surface: CollectiveSurface, samples: Samples) -> FloatArray:
    """Return the times of a surface at measured points, s."""
    times = np.full(len(samples.size), np.nan)
    for operation in np.unique(samples.operation):
        rows = samples.operation == operation
        name = OPERATIONS[operation]
        times[rows] = surface.seconds(
            name, samples.size[rows], samples.group[rows], samples.rate, reduces=samples.reduces
        )[0]
    return times


def _ratios(
    fit: _Fit, plain: CollectiveSurface, operation: int, group: float, sizes: FloatArray
) -> list[float]:
    """Return the time of a series over the machine's curve, at the sizes of the grid.

    Times of a series never fall with size. A series that was not measured is as its neighbours are.
    """
    name = OPERATIONS[operation]
    ranks = np.full(len(sizes), group)
    own = np.maximum.accumulate(fit.series(operation, group, sizes))
    base = plain.seconds(name, sizes, ranks, plain.rate, reduces=fit.samples.reduces)[0]
    return [float(f"{value:.4g}") for value in own / base]


def _curve(logarithms: FloatArray) -> ProtocolCurve:
    return ProtocolCurve(**{n: float(f"{np.exp(v):.4g}") for n, v in zip(NAMES, logarithms, strict=True)})


def _together(data: Samples) -> Message:
    """Return all rows as one batch."""
    parts = [message(name, data.size, data.group, data.rate, reduces=data.reduces) for name in OPERATIONS]

    def pick(field: str) -> Any:
        return np.stack([getattr(part, field) for part in parts])[data.operation, np.arange(len(data.size))]

    return Message(*(pick(field) for field in ("size", "traffic", "steps", "rate", "reduces")))


class _Fit:
    """Curves of all series of one machine, fitted together."""

    def __init__(self, samples: Samples) -> None:
        from scipy.optimize import least_squares

        self.samples = samples
        expected = {} if samples.nvls is None else {"nvls_rate": samples.nvls}
        self.prior = np.log(PRIOR.model_copy(update=expected).values)
        if samples.host:
            self.prior[-1] = np.log(np.median(samples.seconds[samples.size <= 65536.0]))
        kind = np.maximum(samples.operation - 2, 0)
        self.kinds = [KINDS[place] for place in np.unique(kind)]
        self._groups = np.unique(samples.group)
        self._columns = np.asarray([NAMES.index(name) for name in SERIES_WIDTH])
        self._widths = self._prior_widths()
        self._batch = _together(samples)
        self._measured = np.log(samples.seconds)
        self._active = np.flatnonzero(self._in_use())
        solved = least_squares(
            self._residuals, np.zeros(len(self._active)), method="lm", max_nfev=4000, ftol=1e-4
        )
        self.vector = self._expanded(solved.x)

    def _in_use(self) -> BoolArray:
        """Return which deviations any measured row depends on."""
        data, width, own = self.samples, len(NAMES), len(self._columns)
        kinds = np.isin(range(1, len(KINDS)), np.maximum(data.operation - 2, 0))
        operations = np.isin([1, 2], data.operation)
        place = np.searchsorted(self._groups, data.group)
        series = np.zeros((len(OPERATIONS), len(self._groups)), dtype=np.bool_)
        series[data.operation, place] = True
        parts = [np.ones(width, dtype=np.bool_), np.repeat(kinds, width), np.repeat(operations, own)]
        return np.concatenate(
            [*parts, np.ones(len(self._groups) * own, dtype=np.bool_), np.repeat(series, own)]
        )

    def _expanded(self, scaled: FloatArray) -> FloatArray:
        vector = np.zeros(len(self._widths))
        vector[self._active] = scaled
        return vector * self._widths

    def _prior_widths(self) -> FloatArray:
        machine = dict(WIDTH)
        if self.samples.host:
            machine["floor"] = FLOOR_WIDTH
        own = np.asarray(list(SERIES_WIDTH.values()))
        rates = np.asarray([name.endswith("rate") for name in SERIES_WIDTH])
        shared = 0.7 * own + np.where(rates & (self.samples.link == "pcie"), CONTENTION, 0.0)
        each = 0.7 * own * (1.5 if self.samples.link == "pcie" else 1.0)
        ranks = len(self._groups)
        return np.concatenate(
            [
                list(machine.values()),
                np.tile(list(OPERATION_WIDTH.values()), 2),
                np.tile(own, 2),
                np.tile(shared, ranks),
                np.tile(each, ranks * len(OPERATIONS)),
            ]
        )

    def of_kind(self, kind: int, vector: FloatArray | None = None) -> FloatArray:
        """Return the logarithms of the machine's numbers for a kind of operation, shape (13,)."""
        vector = self.vector if vector is None else vector
        width = len(NAMES)
        base = self.prior + vector[:width]
        return base if kind == 0 else base + vector[kind * width : (kind + 1) * width]

    def numbers(self, vector: FloatArray, operation: IntArray, group: FloatArray) -> FloatArray:
        """Return the logarithms of the numbers of every row, shape (13, n)."""
        width, own, ranks = len(NAMES), len(self._columns), len(self._groups)
        table = np.stack([self.of_kind(kind, vector) for kind in range(3)])[np.maximum(operation - 2, 0)]
        rest = vector[3 * width :]
        by_operation = np.concatenate(
            [np.zeros((1, own)), rest[: 2 * own].reshape(2, own), np.zeros((2, own))]
        )
        rest = rest[2 * own :]
        by_group = rest[: ranks * own].reshape(ranks, own)
        by_series = rest[ranks * own :].reshape(len(OPERATIONS), ranks, own)
        place = np.searchsorted(self._groups, group)
        table[:, self._columns] += by_operation[operation] + by_group[place] + by_series[operation, place]
        return table.T

    def _residuals(self, scaled: FloatArray) -> FloatArray:
        """Return errors of the logarithms, large ones damped (pseudo-Huber), and the deviations."""
        data = self.samples
        numbers = self.numbers(self._expanded(scaled), data.operation, data.group)
        error = (np.log(quickest(np.exp(numbers), self._batch)[0]) - self._measured) / NOISE
        damped = np.sign(error) * np.sqrt(8.0 * (np.sqrt(1.0 + error**2 / 4.0) - 1.0))
        return np.concatenate([damped, scaled])

    def series(self, operation: int, group: float, sizes: FloatArray) -> FloatArray:
        """Return the times of one series at any sizes: its curve, and its residuals in part."""
        data = self.samples
        mine = np.flatnonzero((data.operation == operation) & (data.group == group))
        everywhere = np.concatenate([data.size[mine], sizes])
        ranks = np.full(len(everywhere), group)
        codes = np.full(len(everywhere), operation)
        batch = message(OPERATIONS[operation], everywhere, ranks, data.rate, reduces=data.reduces)
        numbers = self.numbers(self.vector, codes, ranks)
        curve = quickest(np.exp(numbers), batch)[0]
        if not len(mine):
            return curve
        left = np.log(data.seconds[mine] / curve[: len(mine)])
        order = np.argsort(data.size[mine])
        at = np.log(data.size[mine])[order]
        carried = np.interp(np.log(sizes), at, np.clip(left[order], -0.5, 0.5))
        return np.asarray(curve[len(mine) :] * np.exp(SHRINK * carried))


def pooled(surfaces: list[CollectiveSurface], link: str, source: str) -> CollectiveSurface:
    """Return what machines of one kind of link have in common: geometric means of curves and ratios.

    A number of ranks counts where a machine was measured with it.
    """
    kinds = sorted({kind for one in surfaces for kind in one.curves})
    curves = {
        kind: _curve(np.mean([np.log(s.curves[kind].values) for s in surfaces if kind in s.curves], axis=0))
        for kind in kinds
    }
    sizes = min((one.sizes for one in surfaces), key=len)
    groups = sorted({group for one in surfaces for group in one.groups})
    names = sorted({name for one in surfaces for name in one.ratios})
    rate = float(np.exp(np.mean([np.log(one.rate) for one in surfaces])))
    ratios = {name: [_mean_row(surfaces, name, group, sizes, rate) for group in groups] for name in names}
    count = sum(one.samples or 0 for one in surfaces)
    return CollectiveSurface(
        link=link, rate=rate, source=source, curves=curves, sizes=sizes, groups=groups, ratios=ratios,
        samples=count,
    )  # fmt: skip


def _row(
    surface: CollectiveSurface, name: str, group: float, sizes: list[float], rate: float
) -> FloatArray | None:
    """Return logarithms of ratios at sizes that take as long on the surface's links as on ``rate``."""
    if name not in surface.ratios or group not in surface.groups:
        return None
    row = np.log(surface.ratios[name][surface.groups.index(group)])
    at = np.log(np.asarray(sizes) * surface.rate / rate)
    return np.asarray(np.interp(at, np.log(surface.sizes), row))


def _mean_row(
    surfaces: list[CollectiveSurface], name: str, group: float, sizes: list[float], rate: float
) -> list[float]:
    rows = [row for one in surfaces if (row := _row(one, name, group, sizes, rate)) is not None]
    mean = np.mean(rows, axis=0) if rows else np.zeros(len(sizes))
    return [float(f"{value:.4g}") for value in np.exp(mean)]


def filled(surface: CollectiveSurface, common: CollectiveSurface) -> CollectiveSurface:
    """Return the surface with numbers of ranks that only other machines were measured with.

    Its own largest group's ratios, moved as the ratios of the common surface move between the two groups.
    """
    more = [group for group in common.groups if group > max(surface.groups)]
    ratios = {name: [list(row) for row in table] for name, table in surface.ratios.items()}
    for name, table in ratios.items():
        near = _row(common, name, surface.groups[-1], surface.sizes, surface.rate)
        last = np.log(table[-1])
        for group in more:
            far = _row(common, name, group, surface.sizes, surface.rate)
            moved = last if near is None or far is None else last + far - near
            table.append([float(f"{value:.4g}") for value in np.exp(moved)])
    return CollectiveSurface(
        **(
            surface.model_dump(exclude={"groups", "ratios"})
            | {"groups": [*surface.groups, *more], "ratios": ratios}
        )
    )


CONTENDED = {2.0: 1.0, 4.0: 1.3, 8.0: 1.8}
"""Assumed loss of large collectives on a PCIe box nobody measured, by ranks: shared roots, a socket crossing.
Boxes differ by ten times here; time is held low, as a box without contention reaches 1.0 at any size."""


def uncontended(surface: CollectiveSurface | None, rate: float) -> CollectiveSurface:
    """Return what a PCIe box is taken for that nobody measured.

    The pairs of a measured box, where there is one, for every number of ranks, times :data:`CONTENDED`.
    """
    sizes = [65536.0, float(1 << 22)]
    pairs = None if surface is None else surface
    curves = {"ring": PRIOR.model_copy(update={"simple_rate": 0.85})} if pairs is None else pairs.curves
    names = OPERATIONS if pairs is None else tuple(pairs.ratios)
    grid = sizes if pairs is None else pairs.sizes
    share = np.clip(np.interp(np.log(grid), np.log(sizes), [0.0, 1.0]), 0.0, 1.0)
    ratios = {}
    for name in names:
        row = np.zeros(len(grid)) if pairs is None else np.log(pairs.ratios[name][0])
        ratios[name] = [
            [float(f"{value:.4g}") for value in np.exp(row + share * np.log(loss))]
            for loss in CONTENDED.values()
        ]
    return CollectiveSurface(
        link="pcie", rate=rate, source="assumed: pairs as measured, mild contention beyond",
        curves=curves, sizes=list(grid), groups=list(CONTENDED), ratios=ratios,
    )  # fmt: skip
