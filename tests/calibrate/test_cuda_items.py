"""Everything that is measured on a GPU, with the calls that it makes: torch is real, the GPU is not."""

from __future__ import annotations

import ctypes
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from planner.calibrate.fit import fit_samples
from planner.calibrate.run import catalogue, compute, copies, unified
from planner.calibrate.run.backend import Backend, Gpu, backend_for
from planner.calibrate.run.catalogue import all_items, calibrate
from planner.calibrate.run.orders import collective
from planner.calibrate.run.runner import Rules
from planner.calibrate.run.team import Member, Order
from planner.calibrate.samples import Samples, load_samples
from planner.calibrate.torch_here import DeviceUnusableError
from planner.costs import load_calibration
from planner.costs.protocols import OPERATIONS
from planner.errors import CalibrationError
from tests.calibrate.fake_cuda import LARGEST, FakeDriver, FakeTorch

torch = pytest.importorskip("torch", reason="measuring needs torch; make test installs it")
pytestmark = pytest.mark.filterwarnings("default")  # those of torch are not ours

SMALL: dict[Any, dict[str, Any]] = {
    compute: {
        "GPU_ROWS": (1, 16, 32), "GPU_WEIGHTS": ((64, 64), (128, 64), (64, 32), (32, 128)),
        "LAYERS": {"cuda": ((64, 128),)}, "TOKENS": {"cuda": (1, 16)},
        "HEADS": {"cuda": ((8, 2, 16), (4, 4, 16))}, "PROMPTS": {"cuda": (16, 32, 64)},
        "CACHES": {"cuda": (32, 64)}, "BATCHES": {"cuda": (1, 2)}, "STREAMS": {"cuda": (1 << 10, 1 << 12)},
    },
    copies: {
        "GPU_SIZES": tuple(1 << p for p in range(12, 19)), "LARGE": 1 << 18, "CHUNKS": (1 << 14, 1 << 16),
    },
    unified: {"SIZES": (1 << 16, 1 << 18)},
}  # fmt: skip


class TwoRanks:
    """A team of two that never leaves this process."""

    size = 2

    def __init__(self, backend: Backend, size: int) -> None:
        self.members = [Member(backend, rank, size) for rank in range(size)]

    def call(self, order: Order) -> list[float]:
        return [collective(one, order) for one in self.members]

    def close(self) -> None:
        """Nobody was started."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Put small sizes, two NUMA domains and a fake driver in place."""
    for module, values in SMALL.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(copies, "numa_domains", lambda: ["node0", "node1"])
    monkeypatch.setattr(copies, "cores_of", lambda domain: set())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(catalogue, "open_team", TwoRanks)
    monkeypatch.setattr("planner.calibrate.run.collectives.GPU_SIZES", (1 << 12, 1 << 16, 1 << 20))
    monkeypatch.setattr("planner.calibrate.run.runner.FEWEST", 2)
    monkeypatch.setattr("planner.calibrate.run.runner.MOST", 2)
    monkeypatch.setattr("planner.calibrate.run.runner.ROUNDS", 1)
    monkeypatch.setitem(__import__("planner.calibrate.run.runner", fromlist=["x"]).LEAST_TIME, "cuda", 1e-6)
    fake = FakeDriver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    return fake


def gpu(fake: FakeTorch) -> Gpu:
    return Gpu(fake, 0)


def measured(fake: FakeTorch, path: Path | None = None, *, only: tuple[str, ...] | None = None) -> Samples:
    return calibrate(gpu(fake), Rules(60.0, path=path), only=only)


LISTED: dict[tuple[str, ...], int] = {
    ("gemm", "bf16"): 12, ("gemm", "fp16"): 12, ("gemm", "tf32"): 12, ("gemm", "fp8"): 12,
    ("prefill", "bf16"): 6, ("decode", "bf16"): 8, ("stream", "add"): 2, ("stream", "layer"): 2,
    ("launch", "eager"): 1, ("launch", "graph"): 1,
    **{("copy", mode, way): 7 for mode in ("pinned-copy", "pageable-copy") for way in ("in", "out", "both")},
    **{("copy", "chunked", way): 2 for way in ("in", "out")},
    **{("copy", "pinned-numa", way, domain): 1 for way in ("in", "out") for domain in ("node0", "node1")},
    **{("managed", mode): 2 for mode in ("fault", "prefetch", "ping-pong")}, ("coherent", "stream"): 2,
    ("peer", "0", "1"): 2, ("peer", "1", "0"): 2,
    **{("collective", name): 3 for name in OPERATIONS},
    ("stage", "jpeg"): 3, ("stage", "text"): 3,
}  # fmt: skip
"""What the documentation lists, by kind and labels, with the sizes above."""
LABELS = ("dtype", "op", "mode", "way", "numa", "from", "to", "operation", "stage")


def named(kind: str, labels: Any) -> tuple[str, ...]:
    skip = ("dtype",) if kind == "stream" else ()
    return (kind, *(labels[name] for name in LABELS if name in labels and name not in skip))


def test_everything_listed_is_measured_on_a_gpu_and_fitted(driver: FakeDriver, tmp_path: Path) -> None:
    """Each kind of measurement runs, stores its samples, and gives the coefficients that rest on it."""
    fake = FakeTorch(torch)
    found = measured(fake, tmp_path / "s.yaml")
    assert [(one.item, one.reason) for one in found.skipped] == []
    assert found.complete and load_samples(tmp_path / "s.yaml") == found
    assert Counter(named(one.kind, one.labels) for one in found.items) == LISTED
    assert (found.device, found.product, found.versions["nccl"]) == ("h200-sxm", "NVIDIA H200", "2.27.3")
    few = [one for one in found.items if one.labels.get("dtype") not in ("fp16", "tf32")]
    fitted = fit_samples(found.model_copy(update={"items": few}), load_calibration()).calibration
    assert {
        "pinned_copy_in", "pinned_copy_out", "host_latency", "pageable_ratio", "copy_chunk", "managed_fault",
        "coherent_access_efficiency", "memory_efficiency", "kernel_overhead", "graph_kernel_overhead",
    } <= set(fitted.coefficients)  # fmt: skip
    assert {f"h200-sxm.{name}" for name in ("gemm.fp8", "gemm.bf16", "prefill.bf16", "decode.bf16")} <= set(
        fitted.kernels
    )
    assert fitted.collectives["h200-sxm"].link == "nvlink"


def test_the_calls_that_a_gpu_needs_are_made(driver: FakeDriver) -> None:
    """Graphs are captured and replayed, streams joined, memory pinned by domain and given back."""
    fake = FakeTorch(torch)
    measured(fake, only=("launch", "copy", "managed", "coherent", "collective"))
    gc.collect()
    assert fake.asked >= {
        "graph", "replay", "wait_stream", "stream", "synchronize", "cudaHostRegister", "cudaHostUnregister",
    }  # fmt: skip
    assert set(fake.distributed.done) == {
        "barrier", "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single",
        "send", "recv",
    }  # fmt: skip
    assert driver.freed == 6 and driver.held == {}
    assert driver.fetched >= 2


def test_what_a_machine_lacks_is_left_out_with_its_reason(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One GPU, no shared page tables, no managed memory, an old driver without a call: the rest counts."""
    lacking = FakeDriver(coherent=False, managed=801)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: lacking)
    kinds = ("peer", "managed", "coherent", "collective", "launch")
    found = measured(FakeTorch(torch, gpus=1), only=kinds)
    assert {one.item for one in found.items} == {"launch eager", "launch graph"}
    reasons = {one.item.split()[0]: one.reason for one in found.skipped}
    assert reasons == {
        "peer": "there is one GPU only", "collectives": "there is one rank only",
        "managed": "cuMemAllocManaged of the CUDA driver failed with code 801",
        "coherent": "the device does not share the host's page tables (no coherent access)",
    }  # fmt: skip
    monkeypatch.delattr(FakeDriver, "cuMemAllocManaged")
    old = measured(FakeTorch(torch, gpus=1), only=("managed",))
    assert {one.reason for one in old.skipped} == {"the CUDA driver has no cuMemAllocManaged"}

    def absent(name: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    none = measured(FakeTorch(torch, gpus=1), only=("coherent",))
    assert all("cannot be loaded" in one.reason for one in none.skipped)


def test_memory_that_runs_out_on_the_device_costs_only_its_item(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The item is named with the reason, caches are emptied, all others are stored."""
    monkeypatch.setattr(compute, "STREAMS", {"cuda": (1 << 10, LARGEST, 1 << 12)})
    fake = FakeTorch(torch)
    found = measured(fake, tmp_path / "s.yaml", only=("stream",))
    assert [one.item for one in found.skipped] == [f"stream bf16 {LARGEST:g}"]
    assert found.skipped[0].reason.startswith("out of memory: CUDA out of memory")
    assert "empty_cache" in fake.asked
    assert len(load_samples(tmp_path / "s.yaml").items) == 4


def test_an_interrupt_on_a_gpu_keeps_what_was_measured(driver: FakeDriver, tmp_path: Path) -> None:
    """The file holds the items before it, and the run can be resumed to its end."""
    fake, path, asked = FakeTorch(torch), tmp_path / "s.yaml", []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 10

    first = calibrate(gpu(fake), Rules(60.0, stopped, path=path), only=("gemm",))
    assert 0 < len(first.items) < 48 and not first.complete
    assert load_samples(path) == first
    second = calibrate(gpu(fake), Rules(60.0, path=path), resume=True, only=("gemm",))
    assert second.complete and len(second.items) == 48


def test_a_gpu_that_cannot_be_used_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that no GPU has, and a product that the catalogue does not know."""
    monkeypatch.setattr("planner.calibrate.run.backend.load_torch", lambda: FakeTorch(torch))
    with pytest.raises(DeviceUnusableError, match="GPU 7 cannot be used: CUDA error: invalid device ordinal"):
        backend_for("cuda", index=7)
    monkeypatch.setattr(
        "planner.calibrate.run.backend.load_torch", lambda: FakeTorch(torch, product="ACME 9000")
    )
    with pytest.raises(DeviceUnusableError, match="--model"):
        backend_for("cuda").identity()
    assert backend_for("cuda", model="h100-sxm-80").identity().device == "h100-sxm-80"


def test_samples_of_nothing_but_failures_say_why(driver: FakeDriver) -> None:
    """The commonest reason is named where there is nothing to fit."""
    fake = FakeTorch(torch, gpus=1)
    with pytest.raises(CalibrationError, match="there is one GPU only"):
        fit_samples(measured(fake, only=("peer",)), load_calibration())


def test_items_have_names_of_their_own(driver: FakeDriver) -> None:
    """A run goes on by name, so no two items share one."""
    names = [item.name for item in all_items(gpu(FakeTorch(torch)), 2)]
    assert len(names) == len(set(names))
