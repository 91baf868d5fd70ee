"""A GPU that is not there: torch's own functions on the host, under the names that a CUDA device has.

Whatever a measurement asks of torch is done for real, so that a wrong argument fails; only the place of the
tensors, the clock of events, and what the CUDA driver and its runtime do are stood in for.
"""

# ruff: noqa: N802 -- the names are those of CUDA and of torch
from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

MAKERS = ("ones", "zeros", "empty", "rand")
LARGEST = 1 << 26
"""Elements of one tensor above which the fake device has no memory."""


class FakeTorch:
    """The module ``torch`` of a machine with GPUs.

    Attributes
    ----------
    asked
        Names of the functions of ``torch.cuda`` and of its runtime that were used.
    """

    def __init__(self, torch: Any, gpus: int = 2, product: str = "NVIDIA H200") -> None:
        self._torch, self.asked = torch, set[str]()
        self.version = SimpleNamespace(cuda="12.8", hip=None)
        self.cuda = FakeCuda(self, gpus, product)
        self.distributed = FakeDistributed()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._torch, name)
        return self._here(found) if name in MAKERS else found

    def _here(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*dims: Any, device: str = "cpu", **rest: Any) -> Any:
            sizes = dims[0] if dims and isinstance(dims[0], tuple) else dims
            if device.startswith("cuda") and np.prod([int(one) for one in sizes], dtype=float) > LARGEST:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")
            return make(*dims, **rest)

        return made

    def as_tensor(self, window: Any, *, device: str) -> Any:
        """Return memory at an address as a tensor, by the protocol that torch reads on a GPU."""
        assert device.startswith("cuda")
        about = window.__cuda_array_interface__
        assert (about["typestr"], about["data"][1]) == ("<f4", False)
        (count,) = about["shape"]
        held = (ctypes.c_float * count).from_address(about["data"][0])
        return self._torch.from_numpy(np.frombuffer(held, dtype=np.float32))


class FakeEvent:
    """An event whose clock is the host's; no two are at the same time."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at

    def elapsed_time(self, later: FakeEvent) -> float:
        return (later.at - self.at) * 1e3


class FakeCuda:
    """``torch.cuda`` of so many GPUs."""

    Event = FakeEvent

    def __init__(self, owner: FakeTorch, gpus: int, product: str) -> None:
        self._owner, self._gpus = owner, gpus
        self._figures = SimpleNamespace(name=product, L2_cache_size=100_000)
        self.nccl = SimpleNamespace(version=lambda: (2, 27, 3))

    def _note(self, name: str) -> None:
        self._owner.asked.add(name)

    def init(self) -> None:
        self._note("init")

    def device_count(self) -> int:
        return self._gpus

    def set_device(self, index: int) -> None:
        if index >= self._gpus:
            raise RuntimeError("CUDA error: invalid device ordinal")

    def get_device_properties(self, index: int) -> Any:
        return self._figures

    def get_device_capability(self, index: int) -> tuple[int, int]:
        return (9, 0)

    def mem_get_info(self, index: int) -> tuple[int, int]:
        return (1 << 30, 2 << 30)

    def synchronize(self) -> None:
        self._note("synchronize")

    def empty_cache(self) -> None:
        self._note("empty_cache")

    def current_stream(self) -> Any:
        return SimpleNamespace(cuda_stream=0, wait_stream=lambda other: self._note("wait_stream"))

    def Stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda other: self._note("wait_stream"))

    @contextmanager
    def stream(self, one: Any) -> Iterator[None]:
        self._note("stream")
        yield

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        assert index < self._gpus
        yield

    def CUDAGraph(self) -> Any:
        return SimpleNamespace(replay=lambda: self._note("replay"))

    @contextmanager
    def graph(self, one: Any) -> Iterator[None]:
        self._note("graph")
        yield

    def cudart(self) -> Any:
        def register(address: int, size: int, flags: int) -> int:
            self._note("cudaHostRegister")
            return 0

        return SimpleNamespace(
            cudaHostRegister=register, cudaHostUnregister=lambda address: self._note("cudaHostUnregister")
        )


class FakeDistributed:
    """``torch.distributed`` whose exchanges are over at once; ``done`` names them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def is_available(self) -> bool:
        return True

    def is_nccl_available(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Callable[..., None]:
        known = (
            "barrier", "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single",
            "send", "recv",
        )  # fmt: skip
        if name not in known:
            raise AttributeError(name)
        return lambda *tensors: self.done.append(name)


class FakeDriver:
    """``libcuda.so.1``: managed memory is the host's, the device shares the host's page tables or not."""

    def __init__(self, *, coherent: bool = True, managed: int = 0) -> None:
        self.held: dict[int, Any] = {}
        self.freed = self.fetched = 0
        self._coherent, self._managed = coherent, managed

    def cuDeviceGetAttribute(self, value: Any, number: int, device: int) -> int:
        value._obj.value = int(self._coherent)
        return 0

    def cuMemAllocManaged(self, address: Any, size: Any, flags: int) -> int:
        if self._managed:
            return self._managed
        memory = (ctypes.c_char * size.value)()
        address._obj.value = ctypes.addressof(memory)
        self.held[address._obj.value] = memory
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        del self.held[address.value]
        self.freed += 1
        return 0

    def cuMemPrefetchAsync(self, address: Any, size: Any, device: int, stream: Any) -> int:
        assert address.value in self.held
        self.fetched += 1
        return 0
