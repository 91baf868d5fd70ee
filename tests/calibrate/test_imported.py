"""Outputs and tables of other tools as samples."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from planner.calibrate.fit import fit_samples
from planner.calibrate.imported import import_files
from planner.calibrate.importers import OutputRefusedError
from planner.costs import load_calibration
from planner.errors import CalibrationError, TopologyError

NCCL = """\
# nThread 1 nGpus 8 minBytes 1048576 maxBytes 4194304 step: 4(factor) warmup iters: 5 iters: 20
# size count type redop root time algbw busbw #wrong time algbw busbw #wrong
# (B) (elements) (us) (GB/s) (GB/s) (us) (GB/s) (GB/s)
 1048576 262144 float sum -1 50.00 20.97 36.70 0 50.00 20.97 36.70 0
 4194304 1048576 float sum -1 100.00 41.94 73.40 0 100.00 41.94 73.40 0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 55.05
"""
AIC = """\
framework,gemm_dtype,m,n,k,latency
trtllm,bfloat16,64,4096,4096,0.020
trtllm,fp8_block,64,4096,4096,0.014
"""
VIDUR = """\
n_embd,n_q_head,n_kv_head,num_tensor_parallel_workers,batch_size,prefill_chunk_size,kv_cache_size,is_prefill,\
time_stats.attn_prefill.median,time_stats.attn_decode.median
8192,64,8,4,1,512,0,True,0.25,
8192,64,8,4,16,0,1024,False,,0.08
"""
LAYERS = """\
n_head,n_kv_head,n_embd,n_expanded_embd,use_gated_mlp,num_tensor_parallel_workers,num_tokens,\
time_stats.attn_pre_proj.median,time_stats.mlp_down_proj.median
32,8,4096,14336,True,2,256,0.11,0.2
"""


def written(folder: Path, **texts: str) -> list[Path]:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def test_files_of_several_tools_join_in_one_document(tmp_path: Path) -> None:
    """Collectives by size and ranks, products by shape and data type, in s."""
    found = import_files(written(tmp_path, nccl=NCCL, aic=AIC), "h100-sxm-80")
    times = [one.median for one in found.of("collective", operation="all_reduce")]
    assert times == pytest.approx([5e-5, 1e-4])
    products = {one.labels["dtype"]: one.median for one in found.of("gemm")}
    assert products == pytest.approx({"bf16": 2e-5, "fp8": 1.4e-5})
    assert found.of("collective")[0].sizes == {"bytes": 1048576.0, "ranks": 8.0}


def test_tables_of_vidur_are_shapes_of_one_gpu(tmp_path: Path) -> None:
    """Heads and widths are divided by the tensor-parallel workers; times are in ms."""
    found = import_files(written(tmp_path, attention=VIDUR, layers=LAYERS), "a100-sxm-80")
    (prefill,), (decode,) = found.of("prefill"), found.of("decode")
    assert (prefill.median, prefill.sizes["heads"], prefill.sizes["kv_heads"]) == (2.5e-4, 16.0, 2.0)
    assert (decode.median, decode.sizes["keys"], decode.sizes["batch"]) == (8e-5, 1024.0, 16.0)
    shapes = {(one.sizes["m"], one.sizes["n"], one.sizes["k"]): one.median for one in found.of("gemm")}
    assert shapes == {
        (256.0, 3072.0, 4096.0): pytest.approx(1.1e-4),
        (256.0, 4096.0, 7168.0): pytest.approx(2e-4),
    }


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (AIC + "trtllm,bfloat16,64,4096,4096,-1\n", 4, "latency"),
        (AIC + "trtllm,bfloat16,64,4096\n", 4, "columns"),
        (AIC + "trtllm,bfloat16,64,40", 4, "not complete"),
        ("a,b,c,latency\n1,2,3,4\n", 1, "no table that is known"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    """Nothing is concluded from part of it."""
    with pytest.raises(OutputRefusedError, match=words) as caught:
        import_files(written(tmp_path, table=text), "h100-sxm-80")
    assert caught.value.line == line


def test_parquet_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is optional."""
    real = builtins.__import__

    def without(
        name: str, globals: Mapping[str, object] | None = None, locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (), level: int = 0,
    ) -> object:  # fmt: skip
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, globals, locals, fromlist or (), level)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(CalibrationError, match="pyarrow"):
        import_files([tmp_path / "t.parquet"], "h100-sxm-80")


def test_parquet_reads_as_its_csv(tmp_path: Path) -> None:
    """The same rows give the same samples."""
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    rows = [line.split(",") for line in AIC.splitlines()]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    parquet.write_table(
        arrow.table({name: list(values) for name, values in columns.items()}), tmp_path / "t.parquet"
    )
    ways = [
        import_files([path], "h100-sxm-80").items
        for path in (tmp_path / "t.parquet", *written(tmp_path, t=AIC))
    ]
    assert ways[0] == ways[1]


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    """With the nearest name."""
    with pytest.raises(TopologyError, match="h100"):
        import_files(written(tmp_path, aic=AIC), "h1000")


def test_a_rate_without_sizes_gives_a_rate_and_a_warning(tmp_path: Path) -> None:
    """gpu_copy prints one rate per path: the rate is taken, the start stays that of the base."""
    text = "cpu_to_gpu0_by_dma_under_numa0 26.2387\ngpu0_to_cpu_by_dma_under_numa0 25.8516\n"
    fit = fit_samples(import_files(written(tmp_path, log=text), "a100-sxm-80"), load_calibration())
    assert fit.calibration.number("pinned_copy_in") == pytest.approx(26.2387e9, rel=1e-3)
    assert "host_latency" not in fit.calibration.coefficients
    assert any("one size only" in warning for warning in fit.warnings)
