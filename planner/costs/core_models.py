"""Models of kernels on the cores of a host: no tiles, no waves; a roofline whose efficiency grows with size.

A fit for a core carries the parameter ``core_start`` where one for a GPU carries ``start``
(:mod:`planner.costs.kernel_models`); that is how the two are told apart.
"""

from __future__ import annotations

import numpy as np

from planner.costs.kernel_models import Chip, FloatArray, Parameters

SHARPNESS = 4.0
"""Power of the blend of compute and memory time: they overlap but for the ends."""


def is_core(fit: Parameters) -> bool:
    """Whether a fit is one of this module."""
    return "core_start" in fit


def core_seconds(kind: str, fit: Parameters, chip: Chip, shape: tuple[FloatArray, ...]) -> FloatArray:
    """Return the time of a kernel of a kind; shapes as in :func:`planner.costs.kernels.base_seconds`."""
    if kind in ("gemm", "grouped"):
        return core_gemm_seconds(fit, chip, *shape)
    if kind == "prefill":
        return core_prefill_seconds(fit, chip, *shape)
    return core_decode_seconds(fit, chip, *shape)


def core_gemm_seconds(
    fit: Parameters, chip: Chip, m: FloatArray, n: FloatArray, k: FloatArray,
    matrices: FloatArray | float = 1.0,
) -> FloatArray:  # fmt: skip
    r"""Return the time of a product, or of a grouped one of ``m`` rows in all.

    Notes
    -----
    .. math:: t = t_0 + (t_c^p + t_m^p)^{1/p}, \quad
              t_c = \frac{2 m n k}{\epsilon P} (1 + m_h / m) (1 + n_h / n) (1 + k_h / k)

    At :math:`m = m_h` half of the best rate is reached, which is Hockney's half-performance length
    (R. Hockney, C. Jesshope, "Parallel Computers", 1981); :math:`t_m` moves factors and result once. A single
    row is a product with a vector, for which libraries have a kernel of its own: bytes over a rate.
    """
    rows = m / matrices
    work = 2.0 * m * n * k / (chip.peak * fit["compute"])
    work = work * (1.0 + fit["half_rows"] / rows) * (1.0 + fit["half_columns"] / n)
    work = work * (1.0 + fit["half_inner"] / k)
    moved = ((m + n * matrices) * k + m * n) * chip.element
    many = _blend(work, moved / (chip.bandwidth * fit["memory"]))
    alone = moved / (chip.bandwidth * fit["vector"])
    return np.asarray(fit["core_start"] * matrices + np.where(rows <= 1.0, alone, many))


def core_prefill_seconds(
    fit: Parameters, chip: Chip, batch: FloatArray, queries: FloatArray, past: FloatArray,
    heads: FloatArray, kv_heads: FloatArray, head_dim: FloatArray,
) -> FloatArray:  # fmt: skip
    """Return the time of causal attention over ``past + queries`` keys; the rate as in the product."""
    seen = queries * (queries + 1.0) / 2.0 + queries * past
    work = 4.0 * batch * heads * head_dim * seen / (chip.peak * fit["compute"])
    work = work * (1.0 + fit["half_rows"] / queries)
    stored = 2.0 * batch * kv_heads * (past + queries) + 2.0 * batch * heads * queries
    moved = stored * head_dim * chip.element
    starts = batch * heads * fit["head_start"]
    return fit["core_start"] + starts + _blend(work, moved / (chip.bandwidth * fit["memory"]))


def core_decode_seconds(
    fit: Parameters, chip: Chip, batch: FloatArray, keys: FloatArray,
    heads: FloatArray, kv_heads: FloatArray, head_dim: FloatArray,
) -> FloatArray:  # fmt: skip
    """Return the time of attention of one query per sequence: keys and values once, work per query head."""
    work = 4.0 * batch * heads * keys * head_dim / (chip.peak * fit["compute"])
    moved = 2.0 * batch * kv_heads * keys * head_dim * chip.element
    starts = batch * heads * fit["head_start"]
    return fit["core_start"] + starts + _blend(work, moved / (chip.bandwidth * fit["memory"]))


def _blend(left: FloatArray, right: FloatArray) -> FloatArray:
    larger, smaller = np.maximum(left, right), np.minimum(left, right)
    return np.asarray(larger * (1.0 + (smaller / larger) ** SHARPNESS) ** (1.0 / SHARPNESS))
