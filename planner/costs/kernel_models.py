"""Physical models of single kernels: few named parameters, vectorised, the same for every device.

A model takes the parameters of one calibrated fit, a chip and the shape, and gives the time. What the chip
states (peak, memory rate, multiprocessors) is kept apart from what is fitted, so that a fit can be read on
another chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Parameters = Mapping[str, float]

ACTIVATION = 2.0
"""Bytes of an activation between kernels."""
TILES = ((64.0, 64.0), (128.0, 64.0), (64.0, 128.0), (128.0, 128.0), (128.0, 256.0), (256.0, 128.0))
"""Output tiles, rows by columns, that a library chooses from (NVIDIA CUTLASS, default threadblock shapes)."""
SPLITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Parts of the inner dimension that split-k works on at once."""
_HEIGHTS, _WIDTHS = np.asarray(TILES).T[:, :, None]
_AREAS = _HEIGHTS * _WIDTHS
_SMALLNESS = np.sqrt(128.0 * 256.0 / _AREAS) - 1.0
_SPLITS = np.asarray(SPLITS)[:, None]
_IS_SPLIT = np.where(_SPLITS > 1.0, 1.0, 0.0)
QUERY_TILE = 128.0
"""Queries of one thread block of a prefill kernel (T. Dao, "FlashAttention-2", 2023, section 3)."""
WIDEST_GROUP = 32.0
"""Query heads per key/value head up to which decoding shares what it reads (TensorRT-LLM, XQA kernels)."""
LEAST_PART = 128.0
"""Keys that a block of a shared kernel works on at least (TensorRT-LLM, XQA kernels)."""
WIDEST_HEAD = 256.0
"""Width up to which a head counts as plain; wider (latent) heads have kernels that share any group."""


@dataclass(frozen=True)
class Chip:
    """What the models need of a device at one data type.

    Attributes
    ----------
    peak
        Rate of products, FLOP/s.
    bandwidth
        Rate of device memory, bytes/s.
    multiprocessors
        Number of streaming multiprocessors.
    element
        Bytes of an element of the factors (of the key-value cache for attention).
    """

    peak: float
    bandwidth: float
    multiprocessors: float
    element: float


def gemm_seconds(
    fit: Parameters,
    chip: Chip,
    m: FloatArray,
    n: FloatArray,
    k: FloatArray,
    matrices: FloatArray | float = 1.0,
) -> FloatArray:
    r"""Return the time of a product, or of a grouped product of ``m`` rows in all with ``matrices``.

    Notes
    -----
    .. math:: t = t_0 + \tau k + t_{convert} + (t_{tiles}^p + t_{memory}^p)^{1/p}

    :math:`t_{tiles}` is the best over output tiles and split-k of waves times the time of one tile (wave and
    tile quantisation); :math:`t_{memory}` moves both factors and the result once; factors narrower than an
    activation are converted first. After S. Williams et al., "Roofline", CACM 2009, and NVIDIA, "Matrix
    Multiplication Background", wave quantisation.
    """
    memory = ((m + n * matrices) * k * chip.element + ACTIVATION * m * n) / (chip.bandwidth * fit["memory"])
    tiles = _tiles(fit, chip, m / matrices, n, k, matrices)
    seconds = fit["start"] + fit["inner_latency"] * k + _smooth_max(tiles, memory, fit["sharpness"])
    if chip.element < ACTIVATION:
        seconds = seconds + fit["convert"] * m * k * (ACTIVATION + chip.element) / chip.bandwidth
    return np.asarray(seconds)


def _tiles(
    fit: Parameters, chip: Chip, m: FloatArray, n: FloatArray, k: FloatArray, matrices: FloatArray | float
) -> FloatArray:
    """Return the time of the best choice of output tile and split, s; arrays are (tiles, splits, n)."""
    rate = chip.peak * fit["compute"] / chip.multiprocessors
    each = 2.0 * _AREAS * (1.0 + fit["small_tile"] * _SMALLNESS) / rate
    count = np.ceil(m / _HEIGHTS) * np.ceil(n / _WIDTHS) * matrices
    seconds = np.ceil(count[:, None] * (_SPLITS / chip.multiprocessors))
    seconds *= np.maximum(k / _SPLITS, 64.0) * each[:, None] + fit["tile_start"]
    partial = (4.0 / (chip.bandwidth * fit["partial_sums"])) * (_SPLITS * _IS_SPLIT) * (m * n * matrices)
    seconds += partial + _IS_SPLIT * fit["split_start"]
    return np.asarray(seconds.min(axis=(0, 1)))


def prefill_seconds(
    fit: Parameters, chip: Chip, batch: FloatArray, queries: FloatArray, past: FloatArray,
    heads: FloatArray, kv_heads: FloatArray, head_dim: FloatArray,
) -> FloatArray:  # fmt: skip
    r"""Return the time of causal attention over ``past + queries`` keys, with the preparation of its inputs.

    Notes
    -----
    Queries, keys and values are read, rotated and written; then blocks of 128 queries visit the keys before
    them. The blocks share the device, and none ends before the one with the most keys:
    :math:`(t_{all}^p + t_{longest}^p)^{1/p}`.
    """
    moved = batch * queries * (heads + 2.0 * kv_heads) * head_dim * 2.0 * ACTIVATION
    prepare = moved / (chip.bandwidth * fit["prepare"])
    rows, before = np.ceil(queries / QUERY_TILE), np.ceil(past / QUERY_TILE)
    rate = chip.peak * fit["compute"]
    tile = 4.0 * head_dim * QUERY_TILE * QUERY_TILE
    visits = batch * heads * (rows * (rows + 1.0) / 2.0 + rows * before)
    start = batch * heads * rows * fit["block_start"] / chip.multiprocessors
    longest = tile * (rows + before) * fit["longest"] * chip.multiprocessors / rate
    return np.asarray(
        fit["start"] + prepare + _smooth_max(tile * visits / rate + start, longest, fit["sharpness"])
    )


def unshared(
    fit: Parameters, chip: Chip, batch: FloatArray, keys: FloatArray,
    heads: FloatArray, kv_heads: FloatArray, head_dim: FloatArray,
) -> NDArray[np.bool_]:  # fmt: skip
    """Return where decoding runs one block per query head, each reading keys and values on its own.

    That is so for as many key/value heads as heads and for groups that no shared kernel is made for, and on
    some devices for work too little to fill the multiprocessors with a block for each key/value head and part
    of 128 keys (TensorRT-LLM, choice between its XQA and masked multi-head kernels).
    """
    group = heads / kv_heads
    blocks = batch * kv_heads * np.maximum(np.floor(keys / LEAST_PART), 1.0)
    few = blocks < fit["sharing_blocks"] * chip.multiprocessors
    return np.asarray(((group == 1.0) | (group > WIDEST_GROUP) | few) & (head_dim <= WIDEST_HEAD))


def decode_seconds(
    fit: Parameters, chip: Chip, batch: FloatArray, keys: FloatArray,
    heads: FloatArray, kv_heads: FloatArray, head_dim: FloatArray,
) -> FloatArray:  # fmt: skip
    """Return the time of attention of one query per sequence, with the preparation of its inputs.

    Notes
    -----
    Keys and values are read from memory once. Where a group shares what it reads, blocks come in waves, each
    a start and a walk along the keys of a block; few blocks split the keys. Elsewhere the slowest counts of
    reading again from the cache, starting a block for each head, and walking the keys of one block.
    """
    alone = unshared(fit, chip, batch, keys, heads, kv_heads, head_dim)
    group, wide = heads / kv_heads, head_dim / 128.0
    stored = batch * keys * head_dim * 2.0 * chip.element
    memory = stored * kv_heads / (chip.bandwidth * fit["memory"])
    slots = fit["blocks_per_processor"] * chip.multiprocessors
    blocks = np.maximum(batch * kv_heads, 1.0)
    parts = _parts(slots / blocks, keys, fit["part_keys"])
    each = fit["group_start"] + keys / parts * wide * fit["group_walk"]
    each = each * (1.0 + group * fit["group_slope"])
    shared = fit["group_base"] + _smooth_max(
        np.ceil(blocks * parts / slots) * each, memory, fit["group_sharpness"]
    )
    slots = fit["heads_per_processor"] * chip.multiprocessors
    blocks = np.maximum(batch * heads, 1.0)
    walk = keys / _parts(slots / blocks, keys, fit["part_keys"]) * wide * fit["head_walk"]
    again = stored * heads / (chip.bandwidth * fit["cache"])
    slowest = _smooth_max(blocks * fit["head_start"] / chip.multiprocessors, walk, fit["sharpness"])
    slowest = _smooth_max(slowest, np.maximum(again, memory), fit["sharpness"])
    return np.where(alone, fit["start"] + slowest, shared)


def _parts(spare: FloatArray, keys: FloatArray, least: float) -> FloatArray:
    """Return into how many blocks the keys of one head are split, ``spare`` being the room for them."""
    most = np.maximum(np.floor(keys / least), 1.0)
    return np.minimum(np.maximum(np.floor(spare), 1.0), most)


def _smooth_max(left: FloatArray, right: FloatArray, p: float) -> FloatArray:
    """Return the p-norm, near the larger value for a large p; scaled, so that no power underflows."""
    larger, smaller = np.maximum(left, right), np.minimum(left, right)
    return np.asarray(larger * (1.0 + (smaller / larger) ** p) ** (1.0 / p))
