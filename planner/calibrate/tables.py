"""Tables of measured kernels that others publish: AIConfigurator's (Parquet or CSV), Vidur's (CSV)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.calibrate.importers import OutputRefusedError
from planner.calibrate.importers.text import decoded
from planner.calibrate.samples import Kind, Sampled
from planner.errors import CalibrationError

Row = Mapping[str, Any]
MILLI = 1e-3
ATTENTION = {"batch_size", "num_heads", "num_key_value_heads", "isl", "latency"}
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "fp8_block": "fp8", "nvfp4": "fp4", "int8_wo": "int8"}
"""AIConfigurator's names of data types where they differ from ours."""
HEAD_DIM = 128
"""Width of a head where a table of AIConfigurator does not state it, as its early versions did not."""


def is_table(path: Path) -> bool:
    """Whether a file is a table: Parquet, or text whose first line is a header of columns."""
    if path.suffix == ".parquet":
        return True
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return first.count(",") >= 3 and any(word in first for word in ("latency", "time_stats."))


def read_table(path: Path) -> list[Sampled]:
    """Return the kernels of a table.

    Raises
    ------
    OutputRefusedError
        If its columns are of no table that is known, or a row is damaged: with its line.
    CalibrationError
        If a Parquet file cannot be read for want of pyarrow.
    """
    rows = list(_parquet(path) if path.suffix == ".parquet" else _csv(path))
    if not rows:
        raise OutputRefusedError(str(path), 0, "the table has no rows")
    columns = set(rows[0][1])
    reader = _reader(columns)
    if reader is None:
        raise OutputRefusedError(
            str(path), 1, "columns of no table that is known: AIConfigurator's gemm and attention, Vidur's"
        )
    found: dict[str, Sampled] = {}
    for line, row in rows:
        try:
            for one in reader(row):
                before = found.get(one.item)
                seconds = one.seconds if before is None else [*before.seconds, *one.seconds]
                found[one.item] = one.model_copy(update={"seconds": seconds})
        except (KeyError, ValueError, TypeError) as error:
            raise OutputRefusedError(str(path), line, f"a damaged row: {error}") from error
    return list(found.values())


def _reader(columns: set[str]) -> Callable[[Row], Iterator[Sampled]] | None:
    if {"m", "n", "k", "latency", "gemm_dtype"} <= columns:
        return _aic_gemm
    if columns >= ATTENTION:
        return _aic_attention
    if {"is_prefill", "kv_cache_size", "prefill_chunk_size", "n_q_head"} <= columns:
        return _vidur_attention
    if {"num_tokens", "n_embd", "time_stats.attn_pre_proj.median"} <= columns:
        return _vidur_products
    return None


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    text = decoded(path)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    if text and not text.endswith("\n"):
        raise OutputRefusedError(str(path), text.count("\n") + 1, "the last line is not complete")
    for row in reader:
        if None in row or None in row.values():
            raise OutputRefusedError(str(path), reader.line_num, "as many fields as columns are due")
        yield reader.line_num, row


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise CalibrationError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise OutputRefusedError(str(path), 0, f"no readable Parquet: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)


def _positive(row: Row, name: str) -> float:
    value = float(row[name])
    if not math.isfinite(value) or value <= 0.0:
        raise ValueError(f"{name} is {row[name]!r}")
    return value


def _sampled(kind: Kind, names: Sequence[str], sizes: Sequence[float], dtype: str, seconds: float) -> Sampled:
    table = dict(zip(names, (float(size) for size in sizes), strict=True))
    shape = "x".join(f"{size:g}" for size in table.values())
    return Sampled(
        item=f"{kind} {dtype} {shape}", kind=kind, sizes=table, labels={"dtype": dtype}, seconds=[seconds]
    )


PREFILL = ("batch", "queries", "past", "heads", "kv_heads", "head_dim")
DECODE = ("batch", "keys", "heads", "kv_heads", "head_dim")


def _aic_gemm(row: Row) -> Iterator[Sampled]:
    dtype = DTYPES.get(str(row["gemm_dtype"]), str(row["gemm_dtype"]))
    sizes = [_positive(row, name) for name in ("m", "n", "k")]
    yield _sampled("gemm", ("m", "n", "k"), sizes, dtype, MILLI * _positive(row, "latency"))


def _aic_attention(row: Row) -> Iterator[Sampled]:
    """Rows with a ``step`` above 0 decode over ``isl + step`` keys, the others are prompts of ``isl``."""
    dtype = str(row.get("attn_dtype", "bfloat16"))
    dtype = DTYPES.get(dtype, dtype)
    batch, isl, heads = (_positive(row, name) for name in ("batch_size", "isl", "num_heads"))
    kv_heads = float(row["num_key_value_heads"]) or heads
    width, step = float(row.get("head_dim") or HEAD_DIM), float(row.get("step") or 0.0)
    seconds = MILLI * _positive(row, "latency")
    if step > 0.0 or "generation" in str(row.get("op_name", "")):
        yield _sampled("decode", DECODE, (batch, isl + step, heads, kv_heads, width), dtype, seconds)
    else:
        yield _sampled("prefill", PREFILL, (batch, isl, 0.0, heads, kv_heads, width), dtype, seconds)


def _vidur_heads(row: Row, heads: str) -> tuple[float, float, float]:
    ranks, total = float(row.get("num_tensor_parallel_workers") or 1.0), _positive(row, heads)
    return total / ranks, max(_positive(row, "n_kv_head") / ranks, 1.0), _positive(row, "n_embd") / total


def _vidur_attention(row: Row) -> Iterator[Sampled]:
    heads, kv_heads, width = _vidur_heads(row, "n_q_head")
    batch, cached = _positive(row, "batch_size"), float(row["kv_cache_size"])
    if str(row["is_prefill"]) == "True":
        seconds = MILLI * _positive(row, "time_stats.attn_prefill.median")
        queries = _positive(row, "prefill_chunk_size")
        yield _sampled("prefill", PREFILL, (batch, queries, cached, heads, kv_heads, width), "fp16", seconds)
    elif cached > 0.0:
        seconds = MILLI * _positive(row, "time_stats.attn_decode.median")
        yield _sampled("decode", DECODE, (batch, cached, heads, kv_heads, width), "fp16", seconds)


def _vidur_products(row: Row) -> Iterator[Sampled]:
    """Products of a layer; Vidur profiles in half precision."""
    heads, kv_heads, width = _vidur_heads(row, "n_head")
    ranks = float(row.get("num_tensor_parallel_workers") or 1.0)
    tokens, hidden = _positive(row, "num_tokens"), _positive(row, "n_embd")
    inner = float(row.get("n_expanded_embd") or 0.0) / ranks
    gated = 2.0 if str(row.get("use_gated_mlp", "True")) == "True" else 1.0
    shapes = {
        "attn_pre_proj": ((heads + 2.0 * kv_heads) * width, hidden),
        "attn_post_proj": (hidden, heads * width),
        "mlp_up_proj": (gated * inner, hidden),
        "mlp_down_proj": (hidden, inner),
    }
    for name, (n, k) in shapes.items():
        column = f"time_stats.{name}.median"
        if row.get(column) and n > 0.0 and k > 0.0:
            yield _sampled("gemm", ("m", "n", "k"), (tokens, n, k), "fp16", MILLI * _positive(row, column))
