"""The device that is measured, a core of a host or a GPU: its clock, its types, its names."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from planner.calibrate.torch_here import DeviceUnusableError, Torch, load_torch, reason_of, require_cuda
from planner.errors import TopologyError
from planner.topology import find_device

DeviceKind = Literal["cpu", "cuda"]
Work = Callable[[], object]
CORE = "cpu-core"
"""Name in the catalogue of one core of a host."""
FP8_FROM = (8, 9)
"""Compute capability from which products of 8-bit floats run (``torch._scaled_mm``)."""


@dataclass(frozen=True)
class Identity:
    """What a measurement belongs to; texts for people and for comparisons."""

    device: str
    product: str
    host: str
    driver: str
    versions: dict[str, str]


class Backend(Protocol):
    """A device under measurement.

    Attributes
    ----------
    kind
        ``cpu`` or ``cuda``.
    cold_bytes
        Bytes that have to pass before a buffer has left every cache.
    """

    torch: Torch
    kind: DeviceKind
    device: str
    cold_bytes: float
    dtypes: tuple[str, ...]

    def identity(self) -> Identity:
        """Return what is measured."""

    def timed(self, work: Work, loops: int) -> float:
        """Return the time of one of ``loops`` runs of ``work``, s."""

    def free_memory(self) -> float:
        """Return the bytes that a measurement may take."""


def backend_for(kind: DeviceKind, *, index: int = 0, model: str | None = None) -> Backend:
    """Return the backend of a kind of device; ``model`` names a GPU that the catalogue cannot tell.

    Raises
    ------
    TorchMissingError
        If torch is missing.
    DeviceUnusableError
        If there is no such device, or its driver does not fit.
    """
    torch = load_torch()
    if kind == "cpu":
        return HostCore(torch)
    require_cuda(torch)
    try:
        return Gpu(torch, index, model)
    except (RuntimeError, AssertionError, OSError) as error:
        raise DeviceUnusableError(f"GPU {index} cannot be used: {reason_of(error)}") from error


def dtype_of(torch: Torch, name: str) -> object:
    """Return torch's data type: ``bf16`` is ``torch.bfloat16``; ``tf32`` products take fp32 factors."""
    names = {
        "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "float8_e4m3fn",
    }  # fmt: skip
    return getattr(torch, names[name])


@dataclass
class HostCore:
    """One core of the host: a rank of a plan for ``cpu-2``.

    Times are those that this process was given a core: the turns of other programs do not count. What several
    processes do together is timed by the wall clock instead.
    """

    torch: Torch
    kind: DeviceKind = "cpu"
    device: str = "cpu"
    cold_bytes: float = 64e6
    dtypes: tuple[str, ...] = ("fp32",)

    def __post_init__(self) -> None:
        self.torch.set_num_threads(1)

    def identity(self) -> Identity:
        """Return the processor's model and the versions."""
        versions = {"torch": str(self.torch.__version__), "python": platform.python_version()}
        driver = f"{platform.system()} {platform.release()}"
        return Identity(CORE, processor(), socket.gethostname(), driver, versions)

    def timed(self, work: Work, loops: int) -> float:
        """Return the time of one run, s."""
        return core_time(work, loops)

    def free_memory(self) -> float:
        """Return half of what the kernel calls available, at most 2 GB."""
        return min(2e9, 0.5 * available_memory())


@dataclass
class Gpu:
    """A GPU that torch reaches; times are those of events on its stream.

    Products in fp8 are measured where it has them: from compute capability 8.9 on.
    """

    torch: Torch
    index: int = 0
    model: str | None = None
    kind: DeviceKind = "cuda"
    device: str = field(init=False)
    cold_bytes: float = field(init=False)
    dtypes: tuple[str, ...] = ("bf16", "fp16", "tf32")

    def __post_init__(self) -> None:
        self.device = f"cuda:{self.index}"
        self.torch.cuda.set_device(self.index)
        figures = self.torch.cuda.get_device_properties(self.index)
        self.cold_bytes = 3.0 * float(getattr(figures, "L2_cache_size", 64e6))
        if tuple(self.torch.cuda.get_device_capability(self.index)) >= FP8_FROM:
            self.dtypes = (*self.dtypes, "fp8")

    def identity(self) -> Identity:
        """Return the product's name and the versions of driver and libraries.

        Raises
        ------
        DeviceUnusableError
            If the catalogue has no such device.
        """
        torch = self.torch
        product = str(torch.cuda.get_device_properties(self.index).name)
        versions = {"torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
        if torch.distributed.is_available() and torch.distributed.is_nccl_available():
            versions["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
        try:
            name = find_device(self.model or product).name
        except TopologyError as error:
            raise DeviceUnusableError(
                f"{error}; name the device of the catalogue that it is with --model"
            ) from error
        return Identity(name, product, socket.gethostname(), driver_version(), versions)

    def timed(self, work: Work, loops: int) -> float:
        """Return the time of one run on the stream, s."""
        events = self.torch.cuda.Event
        first, last = events(enable_timing=True), events(enable_timing=True)
        first.record()
        for _ in range(loops):
            work()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) * 1e-3 / loops

    def free_memory(self) -> float:
        """Return half of what the device has free."""
        return 0.5 * float(self.torch.cuda.mem_get_info(self.index)[0])


def core_time(work: Work, loops: int) -> float:
    """Return the time that one of ``loops`` runs of ``work`` keeps a core busy, s."""
    start = time.process_time()
    for _ in range(loops):
        work()
    return (time.process_time() - start) / loops


def processor() -> str:
    """Return the model of the processor as Linux names it, else as Python does."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith(("model name", "Model", "uarch")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def available_memory() -> float:
    """Return the bytes of host memory that are free for use, 4 GB where nobody says."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return 1024.0 * float(line.split()[1])
    return 4e9


def driver_version() -> str:
    """Return the version of the kernel driver, empty where the kernel does not tell."""
    for line in _lines("/proc/driver/nvidia/version"):
        words = [word for word in line.split() if word[:1].isdigit() and "." in word]
        if words:
            return words[0]
    return ""


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
