"""Outputs and tables of other tools as samples."""

from __future__ import annotations

import builtins
import csv
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.calibrate.fit import fit_samples
from planner.calibrate.imported import import_files
from planner.calibrate.importers import OutputRefusedError
from planner.calibrate.tables import read_table
from planner.costs import load_calibration
from planner.errors import CalibrationError, TopologyError
from tests.calibrate.test_importers import mutated

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
AIC_NCCL = """\
framework,version,device,op_name,kernel_source,nccl_dtype,num_gpus,message_size,latency
TRTLLM,2.27.3,NVIDIA H100 80GB HBM3,all_gather,NCCL,half,8,524288,0.021
TRTLLM,2.27.3,NVIDIA H100 80GB HBM3,alltoall,NCCL,int8,4,1048576,0.017
TRTLLM,2.27.3,NVIDIA H100 80GB HBM3,broadcast,NCCL,half,4,1048576,0.017
"""
AIC_ENGINE = """\
framework,version,op_name,kernel_source,allreduce_dtype,num_gpus,message_size,latency,implementation
TRTLLM,1.0.0,all_reduce,TRTLLM,bfloat16,8,4096,0.006,trtllm
VLLM,0.14,all_reduce,NCCL,bfloat16,8,4194304,0.06,vllm
"""
VIDUR_NETWORK = """\
,time_stats.all_reduce.min,time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,\
max_devices_per_node
0,0.03,0.04,0,4,1048576,all_reduce,4,8
1,0.30,0.40,0,4,1048576,all_reduce,2,8
"""
VIDUR_MESSAGES = """\
,time_stats.send_recv.median,rank,num_workers,size,collective,devices_per_node,max_devices_per_node
0,0.012,0,2,2048,send_recv,2,4
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


def test_collectives_of_tables_count_bytes_as_nccl_tests_does(tmp_path: Path) -> None:
    """AIConfigurator counts elements and ms: 524,288 halves are 1 MiB; other operations are said."""
    found = import_files(written(tmp_path, nccl=AIC_NCCL), "h100-sxm-80")
    (gather,), (exchange,) = (found.of("collective", operation=name) for name in ("all_gather", "alltoall"))
    assert gather.sizes == {"bytes": 1048576.0, "ranks": 8.0}
    assert exchange.sizes == {"bytes": 1048576.0, "ranks": 4.0}
    assert [gather.median, exchange.median] == pytest.approx([21e-6, 17e-6])
    assert found.warnings == ["nccl: 1 rows left out: operation 'broadcast'"]


def test_an_engines_own_all_reduce_is_no_sample_of_nccl(tmp_path: Path) -> None:
    """Custom kernels are left out and counted; rows that ran NCCL stay."""
    found = import_files(written(tmp_path, engine=AIC_ENGINE), "h100-sxm-80")
    assert [one.sizes["bytes"] for one in found.items] == [2.0 * 4194304]
    assert found.warnings == ["engine: 1 rows left out: an all-reduce of TRTLLM, not of NCCL"]


def test_collectives_of_vidur_within_a_node_count(tmp_path: Path) -> None:
    """Two ranks on each of two nodes tell the network, which is no figure of the device."""
    files = written(tmp_path, network=VIDUR_NETWORK, messages=VIDUR_MESSAGES)
    found = import_files(files, "a100-sxm-80")
    sizes = {one.labels["operation"]: one.sizes["bytes"] for one in found.items}
    assert sizes == {"all_reduce": 1048576.0, "send": 2048.0}
    assert [one.median for one in found.items] == pytest.approx([4e-5, 1.2e-5])
    assert found.warnings == ["network: 1 rows left out: ranks on several nodes"]


def test_rows_that_no_fit_describes_are_left_out_and_counted(tmp_path: Path) -> None:
    """Weights narrower than activations, caches narrower than queries, and windows are other kernels."""
    header = "batch_size,isl,num_heads,num_key_value_heads,head_dim,step,attn_dtype,kv_cache_dtype,"
    rows = ("bfloat16,bfloat16,0,0.1", "bfloat16,fp8,0,0.1", "bfloat16,bfloat16,128,0.1")
    text = header + "window_size,latency\n" + "".join(f"1,1024,32,8,128,0,{row}\n" for row in rows)
    products = AIC + "trtllm,int4_wo,64,4096,4096,0.01\n"
    found = import_files(written(tmp_path, attention=text, products=products), "h100-sxm-80")
    assert len(found.of("prefill")) == 1 and len(found.of("prefill")[0].seconds) == 1
    assert sorted(one.labels["dtype"] for one in found.of("gemm")) == ["bf16", "fp8"]
    assert [one.partition(": ")[2] for one in found.warnings] == [
        "1 rows left out: attention in bf16 over a cache of another type",
        "1 rows left out: attention in windows, or of beams",
        "1 rows left out: data type 'int4_wo'",
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (AIC + "trtllm,bfloat16,64,4096,4096,-1\n", 4, "latency"),
        (AIC + "trtllm,bfloat16,64,4096\n", 4, "columns"),
        (AIC + "trtllm,bfloat16,64,40", 4, "not complete"),
        (AIC + "trtllm,bfloat16,64,4096,4096,fast\n", 4, "fast"),
        (AIC + 'trtllm,"bfloat16"x,64,4096,4096,0.02\n', 4, "no line of a table"),
        (AIC.replace("framework", "latency"), 1, "two columns"),
        (AIC_NCCL + "TRTLLM,2.27.3,H100,all_gather,NCCL,half,8,nan,0.021\n", 5, "message_size"),
        (VIDUR_NETWORK.replace(",0.04,", ",,"), 2, "damaged row"),
        (VIDUR_NETWORK.replace("1048576,all_reduce,2", "1048576,send_recv,2"), 3, "no column"),
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


@given(st.sampled_from([AIC, VIDUR, LAYERS, AIC_NCCL, AIC_ENGINE, VIDUR_NETWORK]), st.integers(0, 10**9))
def test_damaged_tables_raise_nothing_but_refusals(text: str, seed: int) -> None:
    """Whatever happens to a table: samples with times above zero, or a refusal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(mutated(text.replace(",", " , ", 1), seed) + "\n", encoding="utf-8")
        try:
            found = read_table(path, [])
        except OutputRefusedError:
            return
    assert all(0.0 < second < math.inf for one in found for second in one.seconds)
    assert all(0.0 <= size < math.inf for one in found for size in one.sizes.values())


def test_a_truncated_parquet_is_refused(tmp_path: Path) -> None:
    """Its columns are listed at the end, which is gone."""
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.table({"m": [1.0], "latency": [1.0]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OutputRefusedError, match="no readable Parquet"):
        import_files([path], "h100-sxm-80")


@pytest.mark.reference
def test_published_tables_in_their_own_layout_give_fits_that_hold(shared_data: Path, tmp_path: Path) -> None:
    """Collectives of an H100 node and its products, as Parquet in ms and elements: fitted within 20 %."""
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    nccl = [
        {"op_name": row["op"], "nccl_dtype": row["dtype"], "num_gpus": int(row["num_gpus"]),
         "message_size": int(row["message_bytes"]) // 2, "latency": float(row["latency_us"]) / 1e3}
        for row in rows_of(shared_data / "measured-comm" / "nccl_collectives.csv")
    ]  # fmt: skip
    gemm = [
        {"gemm_dtype": row["dtype"], **{name: int(row[name]) for name in "mnk"},
         "latency": float(row["latency_us"]) / 1e3}
        for row in rows_of(shared_data / "measured-compute" / "gemm.csv")[::4]
    ]  # fmt: skip
    for name, rows in (("nccl", nccl), ("gemm", gemm)):
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    found = import_files([tmp_path / "nccl.parquet", tmp_path / "gemm.parquet"], "h100-sxm-80")
    assert len(found.of("collective")) + len(found.of("gemm")) == len({str(row) for row in nccl + gemm}) > 100
    fitted = fit_samples(found, load_calibration()).calibration
    surface = fitted.collectives["h100-sxm-80"]
    assert surface.residual is not None and surface.residual < 0.2
    assert fitted.kernels["h100-sxm-80.gemm.bf16"].residual < 0.2


def rows_of(path: Path, system: str = "h100_sxm") -> list[dict[str, str]]:
    """Return the rows of one system."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["system"] == system]


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
