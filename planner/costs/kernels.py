"""Times of single kernels on one device: matrix products, attention, element-wise work, launches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.costs import kernel_models as models
from planner.costs.coefficients import Calibration, KernelFit, best_matmul, device_rates
from planner.costs.core_models import core_seconds, is_core
from planner.costs.kept import kept
from planner.costs.kernel_fits import Donor, blended, donors
from planner.costs.kernel_models import Chip
from planner.topology import Device

FloatArray = NDArray[np.float64]
Shape = tuple[FloatArray, ...]
Seconds = Callable[[Mapping[str, float], Chip, Shape], FloatArray]

BLOCK = 1024
"""Shapes priced at once, so that intermediate results stay in the host's cache."""


@dataclass(frozen=True)
class Kernels:
    """Kernel times of one device under one calibration; arguments broadcast, results are s.

    Attributes
    ----------
    launch, graph_launch
        Gap of one kernel when the host launches it, and inside a CUDA graph, s.
    """

    device: Device
    calibration: Calibration
    launch: float
    graph_launch: float
    _donors: dict[tuple[str, str, float | None], list[Donor]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def matmul(self, dtype: str) -> float:
        """Return the best rate of products, FLOP/s: an upper bound of what :meth:`gemm` reaches."""
        return best_matmul(self.device, dtype, self.calibration)

    def gemm(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str) -> FloatArray:
        """Return the time of a product of an (m, k) by a (k, n) matrix.

        Parameters
        ----------
        dtype
            Data type of both factors: fp32, tf32, bf16, fp16, fp8, fp4 or int8. Narrow types include the
            conversion of the (m, k) factor.
        """
        shape = _arrays(m, n, k)
        least = 2.0 * shape[0] * shape[1] * shape[2] / self.matmul(dtype)
        return np.maximum(self._time("gemm", dtype, shape), least)

    def grouped_gemm(
        self, m: ArrayLike, groups: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str
    ) -> FloatArray:
        """Return the time of ``groups`` products of (k, n) matrices that share ``m`` rows evenly.

        Groups without a row cost nothing: with fewer rows than groups, as many as there are rows are read.
        """
        rows, count, columns, inner = _arrays(m, groups, n, k)
        touched = np.minimum(np.maximum(rows, 1.0), np.maximum(count, 1.0))
        least = 2.0 * rows * columns * inner / self.matmul(dtype)
        return np.maximum(self._time("grouped", dtype, (rows, columns, inner, touched)), least)

    def prefill_attention(
        self, batch: ArrayLike, queries: ArrayLike, past: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike,
        head_dim: ArrayLike, dtype: str = "bf16",
    ) -> FloatArray:  # fmt: skip
        """Return the time of causal attention of ``queries`` new tokens after ``past`` stored ones.

        Parameters
        ----------
        batch
            Sequences.
        heads, kv_heads
            Query heads and key/value heads on this GPU.

        Notes
        -----
        Includes what runs around the core in an engine: rotary positions and writing the cache.
        """
        return self._time("prefill", dtype, _arrays(batch, queries, past, heads, kv_heads, head_dim))

    def decode_attention(
        self, batch: ArrayLike, keys: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike, head_dim: ArrayLike,
        kv_element: float = 2.0,
    ) -> FloatArray:  # fmt: skip
        """Return the time of attention of one new token per sequence over ``keys`` stored ones.

        Parameters
        ----------
        kv_element
            Bytes of an element in the key-value cache.
        """
        shape = _arrays(batch, keys, heads, kv_heads, head_dim)
        return self._time("decode", "bf16", shape, element=float(kv_element))

    def streaming(self, nbytes: ArrayLike) -> FloatArray:
        """Return the time of an element-wise kernel that moves ``nbytes`` in all, launch included."""
        rate = device_rates(self.device, "bf16", self.calibration).memory
        moved = np.asarray(nbytes, dtype=float)
        known = self.calibration.coefficients["memory_efficiency"]
        return np.asarray(self.graph_launch + moved / (rate * known.share(moved) if known.curve else rate))

    def _time(self, kind: str, dtype: str, shape: Shape, element: float | None = None) -> FloatArray:
        standing = self._standing("gemm" if kind == "grouped" else kind, dtype, element)
        outer = np.broadcast(*shape).shape
        table = np.empty((len(shape), *outer))
        for place, one in enumerate(shape):
            table[place] = one
        flat = table.reshape(len(shape), -1)
        found = np.empty(flat.shape[1])
        for start in range(0, found.size, BLOCK):
            block = tuple(flat[:, start : start + BLOCK])
            found[start : start + BLOCK] = blended(
                standing,
                lambda donor, block=block: fitted_seconds(kind, donor.fit, donor.chip, block),  # type: ignore[misc]
            )
        return found.reshape(outer)

    def _standing(self, kind: str, dtype: str, element: float | None) -> list[Donor]:
        key = (kind, dtype, element)
        if key not in self._donors:
            found = donors(self.device, kind, dtype, self.calibration)
            if element is not None:
                found = [Donor(one.fit, _with_element(one.chip, element), one.weight) for one in found]
            self._donors[key] = found
        return self._donors[key]


@kept
def kernels(device: Device, calibration: Calibration) -> Kernels:
    """Return the kernel times of a device under a calibration."""
    number = calibration.number
    return Kernels(device, calibration, number("kernel_overhead"), number("graph_kernel_overhead"))


def fitted_seconds(kind: str, fit: KernelFit, chip: Chip, shape: Shape) -> FloatArray:
    """Return what a fit gives for shapes of a kind, its surface included."""
    base = base_seconds(kind, fit.parameters, chip, shape)
    if fit.surface is None:
        return base
    return np.asarray(base * np.exp(fit.surface.at(features(kind, fit.parameters, chip, shape, base))))


def base_seconds(kind: str, parameters: Mapping[str, float], chip: Chip, shape: Shape) -> FloatArray:
    """Return what the physical model of a kind gives.

    Parameters
    ----------
    kind
        gemm (m, n, k), grouped (m, n, k, groups), prefill (batch, queries, past, heads, kv_heads, head_dim)
        or decode (batch, keys, heads, kv_heads, head_dim).
    """
    if is_core(parameters):
        return core_seconds(kind, parameters, chip, shape)
    if kind in ("gemm", "grouped"):
        return models.gemm_seconds(parameters, chip, *shape)
    if kind == "prefill":
        return models.prefill_seconds(parameters, chip, *shape)
    return models.decode_seconds(parameters, chip, *shape)


def features(
    kind: str, parameters: Mapping[str, float], chip: Chip, shape: Shape, base: FloatArray
) -> FloatArray:
    """Return the features of a surface, shape (n, d): binary logarithms of the shape and of the time."""
    if kind == "grouped":
        rows, columns, inner, groups = shape
        parts: Shape = (rows / groups, columns, inner)
    elif kind == "prefill":
        parts = (shape[0], shape[1], shape[3], shape[4])
    elif kind == "decode":
        parts = shape[:4]
    else:
        parts = shape
    count = len(parts)
    table = np.empty((count + (2 if kind == "decode" else 1), len(base)))
    for row, part in zip(table[:count], parts, strict=True):
        row[...] = part
    np.log2(np.maximum(table[:count], 1.0), out=table[:count])
    if kind == "decode":
        table[count] = models.unshared(parameters, chip, *shape)
    np.log2(base, out=table[-1])
    return table.T


def _with_element(chip: Chip, element: float) -> Chip:
    return Chip(chip.peak, chip.bandwidth, chip.multiprocessors, element)


def _arrays(*values: ArrayLike) -> Shape:
    return tuple(np.asarray(value, dtype=float) for value in values)
