"""All matrix products of an engine's step as few arrays, one set for each data type."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner.costs.products import Product, attention_products, expert_products, head_product, mlp_products
from planner.workload import Transformer

if TYPE_CHECKING:
    from planner.costs.engine import EngineDegrees, Precisions

FloatArray = NDArray[np.float64]
ROUTED = "experts"
"""How names of the products of routed experts begin."""


@dataclass(frozen=True)
class TokenProducts:
    """Products of one data type for one token: arrays of shape (products, n).

    The first is that of the output head if ``head``; those from ``routed`` on are of routed experts.
    """

    dtype: str
    rows: FloatArray
    n: FloatArray
    k: FloatArray
    count: FloatArray
    head: bool
    routed: int

    @classmethod
    def of(cls, dtype: str, products: list[tuple[float, Product]], shape: tuple[int, ...]) -> TokenProducts:
        """Return products, each with how many layers have it, as arrays over configurations of ``shape``."""
        table = np.empty((4, len(products), *shape))
        for place, (count, one) in enumerate(products):
            table[0, place], table[1, place], table[2, place] = one.m, one.n, one.k
            table[3, place] = count
        names = [one.name for _, one in products]
        routed = sum(not name.startswith(ROUTED) for name in names)
        return cls(dtype, table[0], table[1], table[2], table[3], names[0] == "head", routed)

    def over(self, dimensions: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return columns, inner widths and layers, so that they broadcast over steps of so many axes."""
        middle = (1,) * (dimensions + 1 - self.n.ndim)
        n, k, count = (one.reshape(len(one), *middle, *one.shape[1:]) for one in (self.n, self.k, self.count))
        return n, k, count

    def placed(
        self, tokens: FloatArray, heads: FloatArray, touched: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return rows and groups of a step, shape (products, ...)."""
        middle = (1,) * (tokens.ndim + 1 - self.rows.ndim)
        rows = self.rows.reshape(len(self.rows), *middle, *self.rows.shape[1:]) * tokens
        groups = np.ones_like(rows)
        groups[self.routed :] = touched
        if self.head:
            rows[0] = heads
        return rows, groups


def products_of_token(
    model: Transformer, degrees: EngineDegrees, precisions: Precisions
) -> list[TokenProducts]:
    """Return the products of all layers for one token, by data type."""
    tp, one = degrees.tp, np.ones(())
    dense, routed = float(model.dense_layers), float(model.layers - model.dense_layers)
    found = [(1.0, head_product(model, one, tp))]
    found += [(float(model.layers), product) for product in attention_products(model, one, tp)]
    if dense:
        found += [(dense, product) for product in mlp_products(model, one, tp)]
    if model.experts is not None:
        common = [one for one in expert_products(model, one, tp, 1.0) if not one.name.startswith(ROUTED)]
        found += [(routed, product) for product in [*common, *_routed(model, degrees)]]
    by_type: dict[str, list[tuple[float, Product]]] = defaultdict(list)
    for count, product in found:
        by_type[_dtype(product.name, precisions)].append((count, product))
    return [TokenProducts.of(dtype, products, tp.shape) for dtype, products in by_type.items()]


def _dtype(name: str, precisions: Precisions) -> str:
    if name.startswith(ROUTED):
        return "fp4" if precisions.experts == "int4" else precisions.experts
    return {"router": "bf16", "head": precisions.head}.get(name, precisions.weights)


def _routed(model: Transformer, degrees: EngineDegrees) -> list[Product]:
    """Return the two products of the routed experts that a GPU holds, in a layer."""
    assert model.experts is not None
    rows, ffn = degrees.adp * model.experts.top_k / degrees.ep, model.experts.ffn / degrees.moe_tp
    hidden, one = np.asarray(float(model.hidden)), np.ones(())
    return [
        Product(f"{ROUTED}_up", rows, (model.mlp_matrices - 1) * ffn, hidden, one, one),
        Product(f"{ROUTED}_down", rows, hidden, ffn, one, one),
    ]
