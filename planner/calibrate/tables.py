"""Tables of measurements that others publish: AIConfigurator's (Parquet or CSV), Vidur's (CSV)."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from planner.calibrate import table_collectives
from planner.calibrate.importers import OutputRefusedError
from planner.calibrate.importers.text import decoded
from planner.calibrate.samples import Kind, Sampled
from planner.calibrate.table_cells import MILLI, LeftOut, Row, dtype_of, optional, positive
from planner.errors import CalibrationError

Reader = Callable[[Row], Iterator[Sampled | LeftOut]]
ATTENTION = {"batch_size", "num_heads", "num_key_value_heads", "isl", "latency"}
HEAD_DIM = 128
"""Width of a head where a table of AIConfigurator does not state it, as its early versions did not."""


def is_table(path: Path) -> bool:
    """Whether a file is a table: Parquet, or text whose first line is a header of columns."""
    if path.suffix == ".parquet":
        return True
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return first.count(",") >= 3 and any(word in first for word in ("latency", "time_stats."))


def read_table(path: Path, warnings: list[str] | None = None) -> list[Sampled]:
    """Return what a table measured; rows that no coefficient rests on are counted in ``warnings``.

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
    reader = _reader(set(rows[0][1]))
    if reader is None:
        raise OutputRefusedError(
            str(path), 1, "columns of no table that is known: products, attention and collectives of "
            "AIConfigurator, layers, attention and collectives of Vidur",
        )  # fmt: skip
    found: dict[str, Sampled] = {}
    left: Counter[str] = Counter()
    for line, row in rows:
        try:
            for one in reader(row):
                if isinstance(one, LeftOut):
                    left[one.reason] += 1
                    continue
                before = found.get(one.item)
                seconds = one.seconds if before is None else [*before.seconds, *one.seconds]
                found[one.item] = one.model_copy(update={"seconds": seconds})
        except (KeyError, ValueError, TypeError) as error:
            raise OutputRefusedError(str(path), line, f"a damaged row: {_said(error)}") from error
    if warnings is not None:
        warnings += [f"{path.name}: {count} rows left out: {why}" for why, count in left.items()]
    return list(found.values())


def _said(error: Exception) -> str:
    return f"no column {error}" if isinstance(error, KeyError) else str(error)


def _reader(columns: set[str]) -> Reader | None:
    """Return what reads the rows of a table with such columns."""
    for wanted, reader in READERS:
        if wanted <= columns:
            return reader
    return None


def _csv(path: Path) -> Iterator[tuple[int, Row]]:
    text = decoded(path)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    if text and not text.endswith("\n"):
        raise OutputRefusedError(str(path), text.count("\n") + 1, "the last line is not complete")
    try:
        names = [name for name in reader.fieldnames or () if name]
        if len(set(names)) < len(names):
            raise OutputRefusedError(str(path), 1, "two columns have one name")
        for row in reader:
            if None in row or None in row.values():
                raise OutputRefusedError(str(path), reader.line_num, "as many fields as columns are due")
            yield reader.line_num, row
    except csv.Error as error:
        raise OutputRefusedError(str(path), reader.reader.line_num, f"no line of a table: {error}") from error


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


def _sampled(kind: Kind, names: Sequence[str], sizes: Sequence[float], dtype: str, seconds: float) -> Sampled:
    table = dict(zip(names, (float(size) for size in sizes), strict=True))
    shape = "x".join(f"{size:g}" for size in table.values())
    return Sampled(
        item=f"{kind} {dtype} {shape}", kind=kind, sizes=table, labels={"dtype": dtype}, seconds=[seconds]
    )


PREFILL = ("batch", "queries", "past", "heads", "kv_heads", "head_dim")
DECODE = ("batch", "keys", "heads", "kv_heads", "head_dim")


def _aic_gemm(row: Row) -> Iterator[Sampled | LeftOut]:
    sizes, seconds = [positive(row, name) for name in ("m", "n", "k")], MILLI * positive(row, "latency")
    dtype = dtype_of(row, "gemm_dtype")
    yield dtype if isinstance(dtype, LeftOut) else _sampled("gemm", ("m", "n", "k"), sizes, dtype, seconds)


def _aic_attention(row: Row) -> Iterator[Sampled | LeftOut]:
    """Rows with a ``step`` above 0 decode over ``isl + step`` keys, the others are prompts of ``isl``."""
    batch, isl, heads = (positive(row, name) for name in ("batch_size", "isl", "num_heads"))
    kv_heads = optional(row, "num_key_value_heads", 0.0) or heads
    width, step = optional(row, "head_dim", 0.0) or HEAD_DIM, optional(row, "step", 0.0)
    seconds = MILLI * positive(row, "latency")
    dtype = dtype_of(row, "attn_dtype", "bfloat16")
    cache = dtype_of(row, "kv_cache_dtype", str(row.get("attn_dtype") or "bfloat16"))
    if isinstance(dtype, LeftOut):
        yield dtype
    elif dtype != cache:
        yield LeftOut(f"attention in {dtype} over a cache of another type")
    elif optional(row, "window_size", 0.0) or optional(row, "beam_width", 1.0) > 1.0:
        yield LeftOut("attention in windows, or of beams")
    elif step > 0.0 or "generation" in str(row.get("op_name", "")):
        yield _sampled("decode", DECODE, (batch, isl + step, heads, kv_heads, width), dtype, seconds)
    else:
        yield _sampled("prefill", PREFILL, (batch, isl, 0.0, heads, kv_heads, width), dtype, seconds)


def _vidur_heads(row: Row, heads: str) -> tuple[float, float, float]:
    ranks, total = optional(row, "num_tensor_parallel_workers", 0.0) or 1.0, positive(row, heads)
    return total / ranks, max(positive(row, "n_kv_head") / ranks, 1.0), positive(row, "n_embd") / total


def _vidur_attention(row: Row) -> Iterator[Sampled | LeftOut]:
    heads, kv_heads, width = _vidur_heads(row, "n_q_head")
    batch, cached = positive(row, "batch_size"), optional(row, "kv_cache_size", 0.0)
    if str(row["is_prefill"]) == "True":
        seconds = MILLI * positive(row, "time_stats.attn_prefill.median")
        queries = positive(row, "prefill_chunk_size")
        yield _sampled("prefill", PREFILL, (batch, queries, cached, heads, kv_heads, width), "fp16", seconds)
    elif cached > 0.0:
        seconds = MILLI * positive(row, "time_stats.attn_decode.median")
        yield _sampled("decode", DECODE, (batch, cached, heads, kv_heads, width), "fp16", seconds)
    else:
        yield LeftOut("a decode step over an empty cache")


def _vidur_products(row: Row) -> Iterator[Sampled | LeftOut]:
    """Products of a layer; Vidur profiles in half precision."""
    heads, kv_heads, width = _vidur_heads(row, "n_head")
    ranks = optional(row, "num_tensor_parallel_workers", 0.0) or 1.0
    tokens, hidden = positive(row, "num_tokens"), positive(row, "n_embd")
    inner = optional(row, "n_expanded_embd", 0.0) / ranks
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
            yield _sampled("gemm", ("m", "n", "k"), (tokens, n, k), "fp16", MILLI * positive(row, column))


READERS: tuple[tuple[set[str], Reader], ...] = (
    ({"m", "n", "k", "latency", "gemm_dtype"}, _aic_gemm),
    (ATTENTION, _aic_attention),
    (table_collectives.AIC_NCCL, table_collectives.aic_nccl),
    (table_collectives.AIC_ALL_REDUCE, table_collectives.aic_all_reduce),
    ({"is_prefill", "kv_cache_size", "prefill_chunk_size", "n_q_head"}, _vidur_attention),
    ({"num_tokens", "n_embd", "time_stats.attn_pre_proj.median"}, _vidur_products),
    (table_collectives.VIDUR, table_collectives.vidur_collectives),
)
"""What reads a table, by the columns that tell it."""
