"""Copies between host and device and between devices, by size, mode, direction and NUMA domain."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from planner.calibrate.run.backend import Backend
from planner.calibrate.run.items import Bench, Item, Run, UnavailableError
from planner.calibrate.torch_here import Torch

SIZES = tuple(1 << power for power in range(12, 27, 2))
GPU_SIZES = tuple(1 << power for power in range(12, 31, 2))
CHUNKS = (1 << 20, 1 << 22, 1 << 24)
BULK = 1 << 26
LARGE = 1 << 28
WAYS = ("in", "out")
NODES = Path("/sys/devices/system/node")


def copy_items(backend: Backend) -> Iterator[Item]:
    """Yield all copies of a device; on a host's core those within main memory stand for them."""
    if backend.kind == "cpu":
        for way, size in itertools.product(WAYS, SIZES):
            yield copy_item(size, way, "pinned-copy")
        for domain in numa_domains():
            yield Item(
                f"memcpy {domain}", "copy", {"bytes": float(BULK)}, {"mode": "memcpy", "numa": domain},
                partial(_memcpy, domain),
            )  # fmt: skip
    else:
        yield from _gpu_items()
        yield from peer_items(backend)


def _gpu_items() -> Iterator[Item]:
    modes = ("pinned-copy", "pageable-copy")
    for way, mode, size in itertools.product((*WAYS, "both"), modes, GPU_SIZES):
        yield copy_item(size, way, mode)
    for chunk, way in itertools.product(CHUNKS, WAYS):
        yield Item(
            f"copy chunked {way} {chunk}", "copy", {"bytes": float(LARGE), "chunk": float(chunk)},
            {"mode": "chunked", "way": way}, partial(_chunked, chunk, way),
        )  # fmt: skip
    domains = numa_domains()
    for domain, way in itertools.product(domains if len(domains) > 1 else (), WAYS):
        yield Item(
            f"copy {domain} {way}", "copy", {"bytes": float(LARGE)},
            {"mode": "pinned-numa", "way": way, "numa": domain}, partial(_copy_near, domain, way),
        )  # fmt: skip


def copy_item(size: float, way: str, mode: str) -> Item:
    """Return a copy of so many bytes: ``in`` to the device, ``out`` of it, or ``both`` at once."""
    return Item(
        f"copy {mode} {way} {size:g}", "copy", {"bytes": float(size)}, {"mode": mode, "way": way},
        partial(_copy, int(size), way, mode),
    )  # fmt: skip


def _copy(size: int, way: str, mode: str, bench: Bench) -> Run:
    torch = bench.torch
    if bench.backend.kind == "cpu":
        source = bench.rotating((max(size // 4, 1),), torch.float32)
        target = torch.zeros(max(size // 4, 1))
        return bench.looped(lambda: target.copy_(source()))
    pinned = mode == "pinned-copy"
    host, device = _pair(torch, size, bench.backend.device, pinned=pinned)
    if way != "both":
        ends = (device, host) if way == "in" else (host, device)
        return bench.looped(lambda: ends[0].copy_(ends[1], non_blocking=pinned))
    other, second = _pair(torch, size, bench.backend.device, pinned=pinned)
    aside = torch.cuda.Stream()

    def both() -> None:
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            other.copy_(second, non_blocking=pinned)
        device.copy_(host, non_blocking=pinned)
        torch.cuda.current_stream().wait_stream(aside)

    return bench.looped(both)


def _pair(torch: Torch, size: int, device: str, *, pinned: bool) -> tuple[Torch, Torch]:
    host = torch.ones(size, dtype=torch.uint8)
    return (host.pin_memory() if pinned else host), torch.ones(size, dtype=torch.uint8, device=device)


def _chunked(chunk: int, way: str, bench: Bench) -> Run:
    torch = bench.torch
    host, device = _pair(torch, LARGE, bench.backend.device, pinned=True)
    target, source = (device, host) if way == "in" else (host, device)
    parts = list(zip(target.split(chunk), source.split(chunk), strict=True))

    def work() -> None:
        for into, part in parts:
            into.copy_(part, non_blocking=True)

    return bench.looped(work)


def _memcpy(domain: str, bench: Bench) -> Run:
    torch = bench.torch
    with near(domain):
        source, target = torch.ones(BULK // 4), torch.zeros(BULK // 4)

    def run(loops: int) -> float:
        with near(domain):
            return bench.backend.timed(lambda: target.copy_(source), loops)

    return run


class _Registered:
    """Memory of a NUMA domain, pinned where it lies: a pinned block that torch reuses may lie elsewhere."""

    def __init__(self, torch: Torch, domain: str, size: int) -> None:
        with near(domain):
            self._memory = np.ones(size, dtype=np.uint8)  # first touched by this thread
        self.tensor = torch.from_numpy(self._memory)
        self._runtime, address = torch.cuda.cudart(), self.tensor.data_ptr()
        code = int(self._runtime.cudaHostRegister(address, size, 0))
        if code:
            raise UnavailableError(f"memory of {domain} cannot be pinned: cudaHostRegister gives {code}")
        self._address = address

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._runtime.cudaHostUnregister(self._address)


def _copy_near(domain: str, way: str, bench: Bench) -> Run:
    host = _Registered(bench.torch, domain, LARGE)
    device = bench.torch.ones(LARGE, dtype=bench.torch.uint8, device=bench.backend.device)

    def copy() -> None:
        target, source = (device, host.tensor) if way == "in" else (host.tensor, device)
        target.copy_(source, non_blocking=True)

    return bench.looped(copy)


def peer_items(backend: Backend) -> Iterator[Item]:
    """Yield copies between every ordered pair of GPUs of this process's node."""
    count = int(backend.torch.cuda.device_count())
    if count < 2:
        yield Item("peer copies", "peer", {}, {}, partial(_refuse, "there is one GPU only"))
    for source in range(count):
        for target in range(count):
            for size in GPU_SIZES[2::3] if source != target else ():
                yield Item(
                    f"peer {source}-{target} {size}", "peer", {"bytes": float(size)},
                    {"from": str(source), "to": str(target)}, partial(_peer, source, target, size),
                )  # fmt: skip


def _peer(source: int, target: int, size: int, bench: Bench) -> Run:
    torch = bench.torch
    left = torch.ones(size, dtype=torch.uint8, device=f"cuda:{source}")
    right = torch.ones(size, dtype=torch.uint8, device=f"cuda:{target}")

    def run(loops: int) -> float:
        with torch.cuda.device(source):
            return bench.backend.timed(lambda: right.copy_(left, non_blocking=True), loops)

    return run


def _refuse(reason: str, bench: Bench) -> Run:
    raise UnavailableError(reason)


def numa_domains() -> list[str]:
    """Return the NUMA domains that have cores this process may use, ``node0`` where Linux names none."""
    found = [path.name for path in sorted(NODES.glob("node[0-9]*")) if cores_of(path.name)]
    return found or ["node0"]


def cores_of(domain: str) -> set[int]:
    """Return the cores of a NUMA domain that this process may use."""
    try:
        text = (NODES / domain / "cpulist").read_text(encoding="ascii").strip()
    except OSError:
        return set()
    cores: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        cores.update(range(int(low), int(high or low) + 1) if low else ())
    return cores & os.sched_getaffinity(0)


@contextmanager
def near(domain: str) -> Iterator[None]:
    """Run the block on the cores of a NUMA domain, where Linux then puts the memory that it touches first."""
    before, wanted = os.sched_getaffinity(0), cores_of(domain)
    if wanted:
        os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
