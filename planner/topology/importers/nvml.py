"""What NVIDIA's management library (NVML, by nvidia-ml-py) says about the GPUs at hand."""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Mapping
from typing import Any

from planner.topology.importers.pci import bus_id
from planner.topology.importers.views import GpuView, HostView, Remark

FORMAT = "nvml"
_MOST_LINKS = 36
_ADDRESSING = {0: "none", 1: "hmm", 2: "ats"}
"""NVML_DEVICE_ADDRESSING_MODE_NONE, _HMM, _ATS."""
_COMPLETED = 3  # NVML_GPU_FABRIC_STATE_COMPLETED
_GPU, _SWITCH = 0, 2  # NVML_NVLINK_DEVICE_TYPE_GPU, _SWITCH
_LINK_SPEED = 90  # NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON


def read_nvml(library: Any) -> HostView:
    """Read the GPUs of the machine at hand; what a driver does not support stays unknown.

    Parameters
    ----------
    library
        The module ``pynvml``.
    """
    driver = _Driver(library)
    if not driver.start():
        return HostView(
            FORMAT, remarks=(Remark(0, "the NVIDIA driver does not answer; its GPUs are unknown"),)
        )
    try:
        return driver.view()
    finally:
        library.nvmlShutdown()


class _Driver:
    """Asks one question at a time; an unknown or unsupported one is answered with None."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.remarks: list[Remark] = []

    def start(self) -> bool:
        """Return whether the driver can be talked to."""
        try:
            self.library.nvmlInit()
        except self.library.NVMLError:
            return False
        return True

    def ask(self, question: str, *arguments: Any) -> Any:
        """Return an answer of the library."""
        function = getattr(self.library, question, None)  # older releases lack the newer questions
        if function is None:
            return None
        try:
            return function(*arguments)
        except self.library.NVMLError:
            return None

    def view(self) -> HostView:
        """Return the GPUs with their links."""
        handles = {}
        for index in range(self.ask("nvmlDeviceGetCount") or 0):
            handle = self.ask("nvmlDeviceGetHandleByIndex", index)
            if handle is None:
                self.remarks.append(Remark(0, f"GPU{index} does not answer"))
            else:
                handles[f"GPU{index}"] = handle
        gpus = [self._gpu(name, handle) for name, handle in handles.items()]
        names = {gpu.bus_id: gpu.name for gpu in gpus if gpu.bus_id}
        ends = {name: self._links(handle) for name, handle in handles.items()}
        pairs, switches = self._count(ends, names)
        rates = {rate for handle in handles.values() if (rate := self._rate(handle))}
        return HostView(
            FORMAT,
            tuple(gpus),
            gpu_links=pairs,
            link_kind="nvlink" if pairs or switches else None,
            link_rate=rates.pop() if len(rates) == 1 and (pairs or switches) else None,
            switch_links=switches,
            driver=_text(self.ask("nvmlSystemGetDriverVersion")),
            remarks=tuple(self.remarks),
        )

    def _gpu(self, name: str, handle: Any) -> GpuView:
        pci, memory = self.ask("nvmlDeviceGetPciInfo", handle), self.ask("nvmlDeviceGetMemoryInfo", handle)
        c2c, mig = self.ask("nvmlDeviceGetC2cModeInfoV", handle), self.ask("nvmlDeviceGetMigMode", handle)
        node = self.ask("nvmlDeviceGetNumaNodeId", handle)
        return GpuView(
            name,
            None if pci is None else bus_id(_text(pci.busId) or ""),
            _text(self.ask("nvmlDeviceGetName", handle)),
            None if memory is None else float(memory.total),
            memory_numa=node if isinstance(node, int) and node >= 0 else None,
            addressing=_ADDRESSING.get(self.ask("nvmlDeviceGetAddressingMode", handle)),
            c2c=None if c2c is None else bool(c2c.isC2cEnabled),
            clique=self._clique(handle),
            mig=None if mig is None else ("enabled" if mig[0] else "disabled"),
            pcie_generation=self.ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
            pcie_width=self.ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        )

    def _clique(self, handle: Any) -> str | None:
        kind = getattr(self.library, "c_nvmlGpuFabricInfoV_t", None)
        if kind is None:
            return None
        info = kind()
        answer = self.ask("nvmlDeviceGetGpuFabricInfoV", handle, ctypes.byref(info))
        if answer is None or info.state != _COMPLETED:
            return None
        return f"{uuid.UUID(bytes=bytes(info.clusterUuid))}.{info.cliqueId}"

    def _links(self, handle: Any) -> list[str]:
        """Return where the active links lead: a PCI address, or ``switch``."""
        ends = []
        for link in range(_MOST_LINKS):
            if self.ask("nvmlDeviceGetNvLinkState", handle, link) != 1:
                continue
            kind = self.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
            remote = self.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
            address = None if remote is None else bus_id(_text(remote.busId) or "")
            if kind == _SWITCH:
                ends.append("switch")
            elif kind == _GPU and address is not None:
                ends.append(address)
            else:
                self.remarks.append(Remark(0, f"NVLink {link} leads to a device of unknown kind; left out"))
        return ends

    def _rate(self, handle: Any) -> float | None:
        values = self.ask("nvmlDeviceGetFieldValues", handle, [_LINK_SPEED])
        if not values or values[0].nvmlReturn != 0:
            return None
        return float(values[0].value.uiVal) * 1e6 or None

    def _count(
        self, ends: Mapping[str, list[str]], names: Mapping[str, str]
    ) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
        pairs: dict[tuple[str, str], int] = {}
        for name, leads in ends.items():
            for address in dict.fromkeys(leads):
                other = names.get(address)
                if address == "switch" or other == name:
                    continue
                if other is None:
                    self.remarks.append(
                        Remark(0, f"NVLink of {name} leads to {address}, which is not visible")
                    )
                    continue
                pair, count = (min(name, other), max(name, other)), leads.count(address)
                if pairs.setdefault(pair, count) != count:
                    text = f"{pair[0]} and {pair[1]} count their links as {pairs[pair]} and {count}"
                    self.remarks.append(Remark(0, f"{text}; the smaller is taken"))
                    pairs[pair] = min(count, pairs[pair])
        return pairs, {name: leads.count("switch") for name, leads in ends.items() if "switch" in leads}


def _text(value: Any) -> str | None:
    """Return text that older releases of the library give as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None
