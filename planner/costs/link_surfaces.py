"""Measured collectives of one kind of machine: protocol curves and what measurements add to them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from pydantic import Field, model_validator

from planner.costs.protocols import FloatArray, IntArray, ProtocolCurve, message, quickest
from planner.schema import Record

Axis = tuple[FloatArray, FloatArray]


class CollectiveSurface(Record):
    """Collectives inside one domain of a device model, or of an engine's kernels on it.

    Attributes
    ----------
    link
        ``nvlink`` or ``pcie``.
    rate
        Rate per GPU of the domain that was measured, bytes/s.
    curves
        Protocol numbers for ``ring`` (all-reduce, all-gather, reduce-scatter), ``alltoall`` and ``send``.
    sizes, groups
        Grid of the ratios: message sizes, bytes, ascending; numbers of ranks, ascending.
    ratios
        By operation, measured over the curve's time, shape (groups, sizes); absent: 1.
    samples, residual
        Measurements behind it, and the mean relative error that is left.
    """

    link: str
    rate: float = Field(gt=0)
    source: str
    curves: dict[str, ProtocolCurve]
    sizes: list[float] = Field(default_factory=list)
    groups: list[float] = Field(default_factory=list)
    ratios: dict[str, list[list[float]]] = Field(default_factory=dict)
    samples: int | None = Field(default=None, ge=0)
    residual: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _ratios_cover_the_grid(self) -> CollectiveSurface:
        shape = (len(self.groups), len(self.sizes))
        for name, table in self.ratios.items():
            if np.shape(table) != shape:
                raise ValueError(f"ratios of {name!r} must be {shape[0]} lists of {shape[1]} numbers")
        if "ring" not in self.curves:
            raise ValueError("'curves' needs at least 'ring'")
        return self

    @cached_property
    def _logarithms(self) -> dict[str, FloatArray]:
        return {name: np.log(np.asarray(table)) for name, table in self.ratios.items()}

    @cached_property
    def _axes(self) -> tuple[Axis, Axis]:
        """Logarithms of groups and sizes, each with the numbers of its points."""
        groups, sizes = (
            (np.log(np.asarray(grid)), np.arange(len(grid), dtype=float))
            for grid in (self.groups, self.sizes)
        )
        return groups, sizes

    @cached_property
    def _values(self) -> dict[str, FloatArray]:
        return {name: curve.values[:, None] for name, curve in self.curves.items()}

    def seconds(
        self, operation: str, size: FloatArray, group: FloatArray, rate: float, *, reduces: bool
    ) -> tuple[FloatArray, IntArray]:
        """Return times, s, and protocols of collectives in a domain of links of ``rate`` bytes/s.

        On other links than the measured ones the ratio is that of the size that took as long on the wire.
        """
        batch = message(operation, size, group, rate, reduces=reduces)
        curve = self._values.get(operation, self._values["ring"])
        times, protocol = quickest(curve, batch)
        alike = batch.size * (self.rate / rate)
        return times * self._ratio(operation, alike, np.asarray(group, dtype=float)), protocol

    def _ratio(self, operation: str, size: FloatArray, group: FloatArray) -> FloatArray:
        """Return the ratio, linear in the logarithms of size and group, held constant outside the grid."""
        table = self._logarithms.get(operation)
        if table is None:
            return np.ones(np.broadcast_shapes(size.shape, group.shape))
        groups, sizes = self._axes
        row, above = _position(groups, group)
        column, right = _position(sizes, size)
        last_row, last_column = len(self.groups) - 1, len(self.sizes) - 1
        down, over = np.minimum(row + 1, last_row), np.minimum(column + 1, last_column)
        upper = table[row, column] * (1 - right) + table[row, over] * right
        lower = table[down, column] * (1 - right) + table[down, over] * right
        return np.asarray(np.exp(upper * (1 - above) + lower * above))


def _position(axis: Axis, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the cell of every value on a logarithmic grid and how far into it the value lies, 0 to 1."""
    place = np.interp(np.log(np.maximum(values, 1.0)), *axis)
    cell = place.astype(np.int64)
    return cell, place - cell
