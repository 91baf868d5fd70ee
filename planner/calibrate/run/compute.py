"""Kernels of one device: products, attention, element-wise work, launches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

from planner.calibrate.run.backend import Backend, dtype_of
from planner.calibrate.run.items import Bench, Item, Run
from planner.costs.blocks import ELEMENT_BYTES, STREAM_WIDTH

CORE_ROWS = (1, 2, 4, 16, 64, 128, 256)
CORE_WEIGHTS = ((576, 576), (960, 576), (3072, 576), (576, 1536), (2048, 384), (384, 1024), (16384, 576))
"""Outputs by inner width: layers of models that a core runs in milliseconds."""
GPU_ROWS = (1, 4, 16, 64, 256, 1024, 4096, 8192)
GPU_WEIGHTS = ((4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (1024, 8192), (8192, 28672))
MOST_CORE_FLOPS = 1.2e9
"""Largest product on a core, FLOP: some tens of milliseconds."""
HEADS = {"cpu": ((9, 3, 64), (6, 6, 64)), "cuda": ((32, 8, 128), (8, 1, 128), (64, 8, 128))}
PROMPTS = {"cpu": (16, 32, 64, 128, 192, 256), "cuda": (128, 512, 2048, 8192)}
CACHES = {"cpu": (32, 128, 512, 2048), "cuda": (128, 1024, 4096, 16384)}
BATCHES = {"cpu": (1, 4), "cuda": (1, 8, 64)}
STREAMS = {
    "cpu": (1 << 22, 1 << 23, 3 << 22, 1 << 24),
    "cuda": tuple(1 << power for power in range(24, 29)),
}
"""Elements of vectors that are added: far more than caches hold."""
LAYERS = {"cpu": ((576, 1536), (384, 1024)), "cuda": ((4096, 14336), (8192, 28672))}
"""Hidden and inner width of layers whose element-wise work is measured."""
TOKENS = {"cpu": (1, 8, 64, 256), "cuda": (1, 16, 256, 2048, 8192)}
GRAPH_KERNELS = 50


def kernel_items(backend: Backend) -> Iterator[Item]:
    """Yield all items of this module for a device."""
    for dtype in backend.dtypes:
        yield from gemm_items(backend, dtype)
    yield from attention_items(backend)
    for count in STREAMS[backend.kind]:
        yield stream_item(float(count), backend.dtypes[0])
    for (hidden, ffn), tokens in itertools.product(LAYERS[backend.kind], TOKENS[backend.kind]):
        yield layer_item(tokens, hidden, ffn, backend.dtypes[0])
    yield Item("launch eager", "launch", {}, {"mode": "eager"}, _launch)
    if backend.kind == "cuda":
        yield Item("launch graph", "launch", {}, {"mode": "graph"}, _graph_launch)


def gemm_items(backend: Backend, dtype: str) -> Iterator[Item]:
    """Yield products over rows and weights."""
    cpu = backend.kind == "cpu"
    rows, weights = (CORE_ROWS, CORE_WEIGHTS) if cpu else (GPU_ROWS, GPU_WEIGHTS)
    for m, (n, k) in itertools.product(rows, weights):
        if not cpu or 2.0 * m * n * k <= MOST_CORE_FLOPS:
            yield gemm_item(m, n, k, dtype)


def gemm_item(m: int, n: int, k: int, dtype: str) -> Item:
    """Return the product of an (m, k) by a (k, n) matrix, the weights cold."""
    return Item(
        f"gemm {dtype} {m}x{n}x{k}", "gemm", {"m": m, "n": n, "k": k}, {"dtype": dtype},
        partial(_gemm, m, n, k, dtype),
    )  # fmt: skip


def _gemm(m: int, n: int, k: int, dtype: str, bench: Bench) -> Run:
    torch = bench.torch
    kind = dtype_of(torch, dtype)
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    factor = torch.rand(m, k, device=bench.backend.device).to(kind)
    weights = bench.rotating((n, k), kind)
    if dtype == "fp8":
        one, product = torch.ones((), device=bench.backend.device), torch._scaled_mm  # noqa: SLF001 no other yet
        return bench.looped(
            lambda: product(factor, weights().t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        )
    linear = torch.nn.functional.linear
    return bench.looped(lambda: linear(factor, weights()))


def attention_items(backend: Backend) -> Iterator[Item]:
    """Yield causal prefill and decode over lengths, batches and head groups."""
    dtype = backend.dtypes[0]
    kind = backend.kind
    for (heads, kv_heads, width), queries in itertools.product(HEADS[kind], PROMPTS[kind]):
        yield prefill_item(1, queries, heads, kv_heads, width, dtype)
    for (heads, kv_heads, width), keys, batch in itertools.product(HEADS[kind], CACHES[kind], BATCHES[kind]):
        yield decode_item(batch, keys, heads, kv_heads, width, dtype)


def prefill_item(batch: int, queries: int, heads: int, kv_heads: int, width: int, dtype: str) -> Item:
    """Return causal attention of whole prompts."""
    sizes: dict[str, float] = {
        "batch": batch,
        "queries": queries,
        "past": 0,
        "heads": heads,
        "kv_heads": kv_heads,
    }
    return Item(
        f"prefill {dtype} {batch}x{queries} heads {heads}/{kv_heads}x{width}", "prefill",
        sizes | {"head_dim": width}, {"dtype": dtype},
        partial(_attention, batch, queries, queries, (heads, kv_heads, width), dtype),
    )  # fmt: skip


def decode_item(batch: int, keys: int, heads: int, kv_heads: int, width: int, dtype: str) -> Item:
    """Return attention of one query per sequence over a cold cache."""
    sizes: dict[str, float] = {
        "batch": batch,
        "keys": keys,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": width,
    }
    return Item(
        f"decode {dtype} {batch}x{keys} heads {heads}/{kv_heads}x{width}", "decode", sizes, {"dtype": dtype},
        partial(_attention, batch, 1, keys, (heads, kv_heads, width), dtype),
    )  # fmt: skip


def _attention(
    batch: int, queries: int, keys: int, shape: tuple[int, int, int], dtype: str, bench: Bench
) -> Run:
    torch = bench.torch
    heads, kv_heads, width = shape
    kind = dtype_of(torch, dtype)
    query = torch.rand(batch, heads, queries, width, device=bench.backend.device).to(kind)
    stored = bench.rotating((batch, kv_heads, keys, width), kind)
    attend = torch.nn.functional.scaled_dot_product_attention
    causal, grouped = queries == keys and keys > 1, heads != kv_heads
    return bench.looped(lambda: attend(query, stored(), stored(), is_causal=causal, enable_gqa=grouped))


def stream_item(count: float, dtype: str) -> Item:
    """Return a sum of two vectors of so many elements into a third."""
    width = 4 if dtype == "fp32" else 2
    return Item(
        f"stream {dtype} {count:g}", "stream", {"bytes": 3.0 * width * count},
        {"dtype": dtype, "op": "add"}, partial(_stream, int(count), dtype),
    )  # fmt: skip


def layer_item(tokens: int, hidden: int, ffn: int, dtype: str) -> Item:
    """Return the element-wise work of a layer with a gated MLP: norms, sums, activation function.

    Its bytes are those that :mod:`planner.costs.blocks` counts, whatever the libraries really move.
    """
    moved = ELEMENT_BYTES * tokens * (STREAM_WIDTH * hidden + 3.0 * ffn)
    return Item(
        f"layer {dtype} {tokens}x{hidden}x{ffn}", "stream", {"bytes": moved}, {"dtype": dtype, "op": "layer"},
        partial(_layer, tokens, hidden, ffn, dtype),
    )  # fmt: skip


def _layer(tokens: int, hidden: int, ffn: int, dtype: str, bench: Bench) -> Run:
    torch = bench.torch
    kind, functional = dtype_of(torch, dtype), torch.nn.functional
    streams, inner = bench.rotating((tokens, hidden), kind), bench.rotating((tokens, 2 * ffn), kind)
    weight = torch.ones(hidden, device=bench.backend.device, dtype=kind)

    def work() -> None:
        for _ in range(2):
            stream = streams()
            functional.rms_norm(stream, (hidden,), weight)
            stream + streams()
        gate, linear = inner().chunk(2, dim=-1)
        functional.silu(gate) * linear

    return bench.looped(work)


def _stream(count: int, dtype: str, bench: Bench) -> Run:
    torch = bench.torch
    kind = dtype_of(torch, dtype)
    pairs = bench.rotating((2, count), kind)
    out = torch.empty(count, device=bench.backend.device, dtype=kind)
    return bench.looped(lambda: torch.add(*pairs(), out=out))


def _tiny(bench: Bench) -> tuple[object, object]:
    torch = bench.torch
    return torch.ones(16, device=bench.backend.device), torch.empty(16, device=bench.backend.device)


def _launch(bench: Bench) -> Run:
    torch = bench.torch
    left, out = _tiny(bench)
    return bench.looped(lambda: torch.add(left, left, out=out))


def _graph_launch(bench: Bench) -> Run:
    torch = bench.torch
    left, out = _tiny(bench)
    torch.add(left, left, out=out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_KERNELS):
            torch.add(left, left, out=out)
    return lambda loops: bench.backend.timed(graph.replay, loops) / GRAPH_KERNELS
