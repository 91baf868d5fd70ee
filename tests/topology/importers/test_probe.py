"""The machine at hand, and made-up ones with a made-up GPU driver."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planner.topology.importers.document import described
from planner.topology.importers.nvml import read_nvml
from planner.topology.importers.probe import probe
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.resolve import catalogue
from tests.topology.importers.snapshots import riscv, with_pci, write_folder

LIVE = Path("/sys/devices/system/cpu")


class NvmlError(Exception):
    """What the library raises."""


class _Fabric(ctypes.Structure):
    _fields_ = (("clusterUuid", ctypes.c_uint8 * 16), ("cliqueId", ctypes.c_uint32), ("state", ctypes.c_uint))


def library(
    addresses: tuple[str, ...], *, links: int = 2, switch: bool = False, memory_node: int | None = None
) -> Any:
    """Return a library that knows GH200-like GPUs joined by NVLinks, or attached to a switch."""
    others = {handle: 1 - handle for handle in range(len(addresses))}

    def remote(handle: int, link: int) -> SimpleNamespace:
        return SimpleNamespace(busId=addresses[others[handle]].encode())

    def state(handle: int, link: int) -> int:
        if link >= 4:
            raise NvmlError
        return int(link < links)

    def fabric(handle: int, pointer: Any) -> int:
        pointer._obj.cliqueId, pointer._obj.state = 7, 3
        pointer._obj.clusterUuid[0] = 0xAB
        return 0

    def unsupported(handle: int) -> int:
        if memory_node is None:
            raise NvmlError
        return memory_node

    speed = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=26562))
    return SimpleNamespace(
        NVMLError=NvmlError,
        c_nvmlGpuFabricInfoV_t=_Fabric,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetCount=lambda: len(addresses),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetPciInfo=lambda handle: SimpleNamespace(busId=addresses[handle].encode()),
        nvmlDeviceGetName=lambda handle: "NVIDIA GH200 480GB",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=97871 * 2**20),
        nvmlDeviceGetNumaNodeId=unsupported,
        nvmlDeviceGetAddressingMode=lambda handle: 2,
        nvmlDeviceGetC2cModeInfoV=lambda handle: SimpleNamespace(isC2cEnabled=1),
        nvmlDeviceGetGpuFabricInfoV=fabric,
        nvmlDeviceGetMaxPcieLinkGeneration=lambda handle: 5,
        nvmlDeviceGetMaxPcieLinkWidth=lambda handle: 16,
        nvmlDeviceGetNvLinkState=state,
        nvmlDeviceGetNvLinkRemoteDeviceType=lambda handle, link: 2 if switch else 0,
        nvmlDeviceGetNvLinkRemotePciInfo=remote,
        nvmlDeviceGetFieldValues=lambda handle, fields: [speed],
    )


PAIR = ("00000000:01:00.0", "00000000:41:00.0")


@pytest.mark.skipif(not LIVE.is_dir(), reason="needs the kernel's /sys")
def test_the_machine_at_hand_is_described() -> None:
    """The probe agrees with the kernel on processors, and its view becomes a topology."""
    view = probe()
    assert view.processors == os.cpu_count() and view.arch == os.uname().machine
    cpus = [cpu for node in view.numa for cpu in node.cpus or ()]
    assert len(cpus) == len(set(cpus)) and (not view.numa or len(cpus) <= (os.cpu_count() or 0))
    if not view.gpus:
        document, _ = described(view, "here", catalogue())
        assert sum(len(machine.numa) for machine in document.machines) >= 1


def test_a_host_without_a_gpu_or_library(tmp_path: Path) -> None:
    """Without NVML, and without a GPU, the host is described all the same."""
    view = probe(write_folder(tmp_path, riscv()))
    assert view.format == "probe" and view.arch == "riscv64" and view.gpus == () and view.remarks == ()


def test_gpus_known_from_pci_only_are_remarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU without the library keeps its place, and what is missing is said."""
    monkeypatch.setattr("planner.topology.importers.probe._library", lambda: None)
    view = probe(write_folder(tmp_path, *with_pci()))
    assert view.gpus[0].product == "10de:2342" and any("nvidia-ml-py" in one.text for one in view.remarks)


def test_driver_and_kernel_are_joined_by_address(tmp_path: Path) -> None:
    """The driver tells product, memory and modes; the kernel tells the place."""
    view = probe(write_folder(tmp_path, *with_pci()), library(("00000000:01:00.0",), links=0, memory_node=2))
    gpu = view.gpus[0]
    assert (gpu.name, gpu.product, gpu.bus_id) == ("GPU0", "NVIDIA GH200 480GB", "0000:01:00.0")
    assert (gpu.numa, gpu.memory_numa, gpu.addressing, gpu.c2c) == (0, 2, "ats", True)
    assert gpu.clique == "ab000000-0000-0000-0000-000000000000.7" and gpu.memory == 97871 * 2.0**20
    assert view.driver == "580.1" and view.numa[2].device_memory and view.remarks == ()


def test_direct_links_are_counted_between_gpus() -> None:
    """Links of both ends make one count by pair, with their raw rate."""
    view = read_nvml(library(PAIR))
    assert view.gpu_links == {("GPU0", "GPU1"): 2} and view.link_rate == 26562e6 and view.switch_links == {}


def test_links_to_switches_are_counted_by_gpu() -> None:
    """Links into NVSwitches count at the GPU."""
    view = read_nvml(library(PAIR, links=4, switch=True))
    assert view.switch_links == {"GPU0": 4, "GPU1": 4} and view.gpu_links == {}


def test_an_old_library_leaves_the_rest_unknown() -> None:
    """Questions that a library does not know are unknown, not errors."""
    old = library(PAIR, links=0)
    newer = ("nvmlDeviceGetC2cModeInfoV", "nvmlDeviceGetAddressingMode", "nvmlDeviceGetNumaNodeId")
    for name in (*newer, "c_nvmlGpuFabricInfoV_t"):
        delattr(old, name)
    gpu = read_nvml(old).gpus[0]
    assert (gpu.c2c, gpu.addressing, gpu.clique, gpu.mig, gpu.memory_numa) == (None,) * 5


def test_a_driver_that_does_not_answer_is_said(tmp_path: Path) -> None:
    """Without a driver the GPUs are known from PCI, with a remark; without a GPU nothing is said."""

    def fail() -> None:
        raise NvmlError

    dead = SimpleNamespace(NVMLError=NvmlError, nvmlInit=fail)
    view = probe(write_folder(tmp_path / "gpu", *with_pci()), dead)
    assert len(view.gpus) == 1 and any("does not answer" in one.text for one in view.remarks)
    assert probe(write_folder(tmp_path / "cpu", riscv()), dead).remarks == ()


def test_gpus_that_only_one_side_knows_are_kept_and_remarked(tmp_path: Path) -> None:
    """A GPU outside /sys, and one that the driver does not know, are both said."""
    view = probe(write_folder(tmp_path, *with_pci()), library(("00000000:99:00.0",), links=0))
    assert [gpu.bus_id for gpu in view.gpus] == ["0000:99:00.0", "0000:01:00.0"] and len(view.remarks) == 2


def test_no_kernel_files_is_a_typed_error(tmp_path: Path) -> None:
    """A root without /sys is refused."""
    with pytest.raises(ImportRefusedError):
        probe(tmp_path)
