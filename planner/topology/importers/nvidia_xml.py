"""``nvidia-smi -q -x``: product, memory, PCI Express link, memory modes and NVLink domain of every GPU."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from planner.topology.importers.nvidia_matrix import LONG_NUMBER
from planner.topology.importers.pci import bus_id, width
from planner.topology.importers.rates import is_known, same_product
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import GpuView, HostView, Remark
from planner.topology.importers.xml import XmlElement, parse

FORMAT = "nvidia-smi-xml"
MIB = 1024**2
LARGEST_MEMORY = 16 * 1024**4
"""More memory than any GPU has, bytes."""
_ADDRESSING = {"ats": "ats", "hmm": "hmm", "none": "none"}
_MIG = {"enabled": "enabled", "disabled": "disabled"}
_SWITCHES = {"enabled": True, "disabled": False}
_UNKNOWN = frozenset({"n/a", "", "[n/a]", "requested functionality has been deprecated", "unknown error"})
T = TypeVar("T")


def read_nvidia_xml(text: str, name: str) -> HostView:
    """Read the XML of ``nvidia-smi -q -x``; the GPUs are named in its order, as ``nvidia-smi`` counts them.

    Raises
    ------
    ImportRefusedError
        If it is no such XML, is cut, or names a GPU twice.
    """
    root = parse(text, name)
    if root.tag != "nvidia_smi_log":
        raise ImportRefusedError(name, root.line, f"<{root.tag}> is not the output of nvidia-smi -q -x")
    reader = _Reader(name)
    elements = list(root.all("gpu"))
    stated = root.find("attached_gpus")
    if stated is None:
        reader.note(root, "no <attached_gpus>; GPUs may be missing")
    elif stated.text.strip() != str(len(elements)):
        raise ImportRefusedError(
            name,
            stated.line,
            f"{stated.text.strip()[:20]!r} GPUs are attached but {len(elements)} are listed",
        )
    gpus = tuple(reader.gpu(index, element) for index, element in enumerate(elements))
    doubled = [one for one, count in Counter(gpu.bus_id for gpu in gpus).items() if count > 1]
    if doubled:
        raise ImportRefusedError(name, 0, f"the GPU {doubled[0]} is listed twice")
    driver = reader.value(root, "the file", _driver, "driver_version")
    reader.compare(gpus)
    return HostView(
        FORMAT, gpus, driver=driver,
        remarks=tuple(reader.remarks),
    )  # fmt: skip


class _Reader:
    """Reads GPUs and keeps what was doubtful."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.remarks: list[Remark] = []

    def note(self, element: XmlElement, text: str) -> None:
        self.remarks.append(Remark(element.line, text))

    def gpu(self, index: int, element: XmlElement) -> GpuView:
        """Return one GPU; what is missing or makes no sense stays unknown, with a remark."""
        label = f"GPU{index}"
        return GpuView(
            label,
            bus_id=self.address(element, label),
            product=self.product(element, label),
            memory=self.memory(element, label),
            addressing=self.value(element, label, _one_of(_ADDRESSING), "addressing_mode"),
            c2c=self.value(element, label, _one_of(_SWITCHES), "c2c_mode"),
            clique=self.clique(element, label),
            mig=self.value(element, label, _one_of(_MIG), "mig_mode", "current_mig"),
            pcie_generation=self.value(
                element, label, _generation, "pci", "pci_gpu_link_info", "pcie_gen", "max_link_gen"
            ),
            pcie_width=self.value(
                element, label, _lanes, "pci", "pci_gpu_link_info", "link_widths", "max_link_width"
            ),
        )

    def value(self, gpu: XmlElement, label: str, read: Callable[[str], T | None], *path: str) -> T | None:
        """Return what an element says, ``None`` where it says nothing or nonsense."""
        element = gpu.find(*path)
        if element is None:
            self.note(gpu, f"{label}: no <{path[-1]}>")
            return None
        parent = gpu.find(*path[:-1])
        if parent is not None and sum(1 for _ in parent.all(path[-1])) > 1:
            self.note(element, f"{label}: <{path[-1]}> is there twice; left unknown")
            return None
        words = element.text.strip()
        if words.lower() in _UNKNOWN:
            return None
        found = read(words)
        if found is None:
            self.note(element, f"{label}: <{path[-1]}> says {words[:40]!r}; left unknown")
        return found

    def product(self, element: XmlElement, label: str) -> str | None:
        """Return the product name, compared with the PCI identity."""
        name = self.value(element, label, _text, "product_name")
        identity = element.find("pci", "pci_device_id")
        match = re.fullmatch(r"([0-9A-F]{4})([0-9A-F]{4})", identity.text.strip() if identity else "")
        if (
            name
            and match
            and not same_product(name, pci := f"{match[2]}:{match[1]}".lower())
            and is_known(pci)
        ):
            self.note(element, f"{label} is called {name!r}, but {pci} is another product")
        return name

    def address(self, gpu: XmlElement, label: str) -> str:
        """Return the PCI address, which is stated twice."""
        outer = bus_id(gpu.get("id") or "")
        inner = self.value(gpu, label, bus_id, "pci", "pci_bus_id")
        if outer is None and inner is None:
            raise ImportRefusedError(self.name, gpu.line, f"{label} has no PCI address")
        if outer is not None and inner is not None and outer != inner:
            raise ImportRefusedError(self.name, gpu.line, f"{label} is at {outer} and at {inner}")
        if outer is None:
            self.note(gpu, f"{label}: the attribute 'id' is no PCI address; <pci_bus_id> says {inner}")
        return outer or inner or ""

    def memory(self, gpu: XmlElement, label: str) -> float | None:
        """Return the frame buffer in bytes, compared with the sum of its parts."""
        total = self.value(gpu, label, _mebibytes, "fb_memory_usage", "total")
        usage = gpu.find("fb_memory_usage")
        parts = (
            [] if usage is None else [_mebibytes(part.text) for part in usage.all("reserved", "used", "free")]
        )
        if total is not None and usage is not None and len(parts) == 3 and None not in parts:
            together = sum(part for part in parts if part is not None)
            if abs(together - total) > 0.02 * total:
                self.note(
                    usage,
                    f"{label}: {total / MIB:.0f} MiB in total, but its parts make {together / MIB:.0f} MiB",
                )
        return total

    def clique(self, gpu: XmlElement, label: str) -> str | None:
        """Return ``CLUSTER.CLIQUE``, once the fabric manager has made it."""
        if gpu.find("fabric") is None:
            return None
        cluster = self.value(gpu, label, _cluster, "fabric", "clusterUuid")
        number = self.value(gpu, label, _number, "fabric", "cliqueId")
        state = gpu.find("fabric", "state")
        if cluster is None or number is None:
            return None
        if state is not None and state.text.strip() != "Completed":
            self.note(state, f"{label}: the NVLink fabric is not ready, {state.text.strip()[:40]!r}")
        return f"{cluster}.{number}"

    def compare(self, gpus: tuple[GpuView, ...]) -> None:
        """Remark what differs between GPUs of one product."""
        facts: Mapping[str, Callable[[GpuView], object]] = {
            "memory": lambda gpu: gpu.memory,
            "addressing mode": lambda gpu: gpu.addressing,
            "C2C mode": lambda gpu: gpu.c2c,
            "MIG mode": lambda gpu: gpu.mig,
            "PCI Express link": lambda gpu: (gpu.pcie_generation, gpu.pcie_width),
            "NVLink clique": lambda gpu: gpu.clique,
        }
        if len({gpu.product for gpu in gpus}) > 1:
            self.remarks.append(Remark(0, "the GPUs are of different products"))
        for what, of in facts.items():
            for product in dict.fromkeys(gpu.product for gpu in gpus):
                if len({of(gpu) for gpu in gpus if gpu.product == product}) > 1:
                    self.remarks.append(Remark(0, f"{what} differs between GPUs of the product {product}"))


def _text(words: str) -> str | None:
    return None if len(words) > 200 or LONG_NUMBER.search(words) else words


def _one_of(known: Mapping[str, T]) -> Callable[[str], T | None]:
    return lambda words: known.get(words.lower())


def _generation(words: str) -> int | None:
    return int(words) if re.fullmatch(r"[1-7]", words) else None


def _lanes(words: str) -> int | None:
    return width(words)


def _cluster(words: str) -> str | None:
    return words if re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", words) else None


def _number(words: str) -> str | None:
    return words if re.fullmatch(r"[0-9]{1,9}", words) else None


def _driver(words: str) -> str | None:
    return words if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", words) else None


def _mebibytes(words: str) -> float | None:
    match = re.fullmatch(r"\s*([0-9]{1,9}) MiB\s*", words)
    size = float(match[1]) * MIB if match else None
    return size if size is not None and size < LARGEST_MEMORY else None
