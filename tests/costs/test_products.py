"""Shapes of the products of a layer against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.products import Product, attention_products, expert_products, head_product, mlp_products
from planner.workload.models import Experts, LatentAttention, Transformer

DENSE = Transformer(
    name="dense", layers=4, hidden=1024, ffn=4096, heads=16, kv_heads=4, head_dim=64, vocab=32000
)
LATENT = DENSE.model_copy(
    update={"latent": LatentAttention(q_rank=384, kv_rank=128, nope_dim=64, rope_dim=32, value_dim=64)}
)
MOE = DENSE.model_copy(update={"experts": Experts(num_experts=16, top_k=2, ffn=512, shared_ffn=256)})


def flops(products: list[Product]) -> float:
    return float(sum(product.flops for product in products))


@given(st.integers(1, 10_000))
@pytest.mark.parametrize("model", [DENSE, LATENT], ids=["grouped-query", "latent"])
def test_an_undivided_block_does_two_operations_per_parameter_and_token(
    model: Transformer, tokens: int
) -> None:
    """Products of attention and of the MLP sum to 2 x parameters x tokens."""
    assert flops(attention_products(model, tokens, 1)) == 2.0 * model.attention_parameters * tokens
    assert flops(mlp_products(model, tokens, 1)) == 2.0 * model.dense_mlp_parameters * tokens


@pytest.mark.parametrize("tp", [2, 4])
def test_tensor_parallel_ranks_share_the_work(tp: int) -> None:
    """With as many key/value heads as ranks or more, every rank does its share of the operations."""
    assert flops(attention_products(DENSE, 64, tp)) * tp == 2.0 * DENSE.attention_parameters * 64
    assert flops(mlp_products(DENSE, 64, tp)) * tp == 2.0 * DENSE.dense_mlp_parameters * 64
    assert float(head_product(DENSE, 64, tp).flops) * tp == 2.0 * DENSE.head_parameters * 64


def test_more_ranks_than_key_value_heads_repeat_them() -> None:
    """On 8 ranks each of 4 key/value heads is made twice: 2 query heads and 2 more widths on every rank."""
    qkv = attention_products(DENSE, 1, 8)[0]
    assert float(qkv.n) == (2 + 2) * DENSE.head_dim


def test_latent_compression_is_not_divided() -> None:
    """Every rank compresses for itself, and what follows is divided."""
    whole, half = attention_products(LATENT, 1, 1), attention_products(LATENT, 1, 2)
    assert float(half[0].n) == float(whole[0].n)
    assert float(half[1].n) == float(whole[1].n) / 2


def test_experts_do_two_operations_per_active_parameter() -> None:
    """Router, shared and routed experts: 2 x active parameters x tokens, all but the router divided."""
    active = MOE.shared_mlp_parameters + 2 * MOE.expert_parameters
    assert flops(expert_products(MOE, 100, 1, 1)) == 2.0 * active * 100
    router = 2.0 * MOE.hidden * 16 * 100
    assert flops(expert_products(MOE, 100, 4, 4)) == pytest.approx(router + (2.0 * active * 100 - router) / 4)


def test_splitting_each_expert_keeps_the_operations_and_the_weights() -> None:
    """Four experts whole on a rank, or all sixteen in quarters: the same work and the same elements."""
    whole, split = expert_products(MOE, 64, 4, 4), expert_products(MOE, 64, 4, 1, expert_tp=4)
    assert flops(whole) == flops(split)
    assert sum(float(one.elements) for one in whole) == sum(float(one.elements) for one in split)


def test_degrees_broadcast() -> None:
    """Arrays of tokens and degrees give arrays of shapes."""
    products = mlp_products(DENSE, np.asarray([1.0, 2.0]), np.asarray([1.0, 2.0]))
    assert products[0].flops.tolist() == [2.0 * 1024 * 8192, 2.0 * 2 * 1024 * 4096]
