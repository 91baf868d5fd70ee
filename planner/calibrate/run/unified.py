"""Managed and coherent memory of a GPU, through the CUDA driver's interface; nothing of the card is set."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from functools import partial

from planner.calibrate.run.backend import Backend
from planner.calibrate.run.items import Bench, Item, Run, UnavailableError
from planner.calibrate.torch_here import Torch

SIZES = tuple(1 << power for power in range(20, 30, 3))
PAGEABLE_ACCESS = 88
"""CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS (CUDA driver API, enumeration CUdevice_attribute)."""
HOST_PAGE_TABLES = 100
"""CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES."""
ATTACH_GLOBAL = 1
"""CU_MEM_ATTACH_GLOBAL."""


def unified_items(backend: Backend) -> Iterator[Item]:
    """Yield migration by faults, by prefetch and in turns, and loads in place, by size."""
    if backend.kind != "cuda":
        return
    for size in SIZES:
        for mode in ("fault", "prefetch", "ping-pong"):
            yield Item(
                f"managed {mode} {size}", "managed", {"bytes": float(size)}, {"mode": mode},
                partial(_managed, size, mode),
            )  # fmt: skip
        yield Item(
            f"coherent {size}", "coherent", {"bytes": float(size)}, {"mode": "stream"},
            partial(_coherent, size),
        )  # fmt: skip


class Driver:
    """The few calls of the CUDA driver that torch has no name for."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise UnavailableError(f"the CUDA driver's library cannot be loaded: {error}") from error

    def attribute(self, number: int, device: int) -> int:
        """Return an attribute of a device."""
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def managed(self, size: int) -> int:
        """Return the address of managed memory."""
        address = ctypes.c_uint64()
        self._call("cuMemAllocManaged", ctypes.byref(address), ctypes.c_size_t(size), ATTACH_GLOBAL)
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def prefetch(self, address: int, size: int, device: int, stream: int) -> None:
        """Ask for the pages to be brought to a device."""
        self._call(
            "cuMemPrefetchAsync", ctypes.c_uint64(address), ctypes.c_size_t(size), device,
            ctypes.c_void_p(stream),
        )  # fmt: skip

    def _call(self, name: str, *arguments: object) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise UnavailableError(f"the CUDA driver has no {name}") from error
        code = function(*arguments)
        if code:
            raise UnavailableError(f"{name} of the CUDA driver failed with code {code}")


class _Window:
    """Memory at an address, as torch accepts it without a copy."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size // 4,), "typestr": "<f4", "data": (address, False), "version": 3,
        }  # fmt: skip


class _Managed:
    """A managed buffer that goes back to the driver with its owner."""

    def __init__(self, driver: Driver, size: int, torch: Torch, device: str) -> None:
        self._driver, self._size = driver, size
        self._address = driver.managed(size)
        self.tensor = torch.as_tensor(_Window(self._address, size), device=device)

    def touch(self) -> None:
        """Write all of it from the host, which brings its pages there."""
        ctypes.memset(self._address, 1, self._size)

    def bring(self, device: int, stream: int) -> None:
        """Prefetch all of it."""
        self._driver.prefetch(self._address, self._size, device, stream)

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._driver.free(self._address)


def _managed(size: int, mode: str, bench: Bench) -> Run:
    torch, index = bench.torch, int(bench.backend.device.split(":")[1])
    total = torch.zeros((), device=bench.backend.device)  # from here on the driver has a context
    buffer = _Managed(Driver(), size, torch, bench.backend.device)

    def use() -> None:
        if mode == "prefetch":
            buffer.bring(index, int(torch.cuda.current_stream().cuda_stream))
        torch.sum(buffer.tensor, dim=0, out=total)

    def run(loops: int) -> float:
        spent = 0.0
        for _ in range(loops):
            torch.cuda.synchronize()
            start = time.perf_counter()
            buffer.touch()
            touched = time.perf_counter()
            use()
            torch.cuda.synchronize()
            spent += time.perf_counter() - (start if mode == "ping-pong" else touched)
        return spent / loops

    return run


def _coherent(size: int, bench: Bench) -> Run:
    torch, driver = bench.torch, Driver()
    index = int(bench.backend.device.split(":")[1])
    if not driver.attribute(HOST_PAGE_TABLES, index):
        raise UnavailableError("the device does not share the host's page tables (no coherent access)")
    host = torch.ones(size // 4).pin_memory()
    window = torch.as_tensor(_Window(host.data_ptr(), size), device=bench.backend.device)
    total = torch.zeros((), device=bench.backend.device)
    return bench.looped(lambda: (host, torch.sum(window, dim=0, out=total)))
