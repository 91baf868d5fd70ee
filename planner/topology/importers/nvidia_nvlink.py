"""``nvidia-smi nvlink -s``: the state and rate of every NVLink port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from planner.topology.importers.nvidia_matrix import LONG_NUMBER, lines_of
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import GpuView, HostView, Remark

NVLINK = "nvidia-smi-nvlink"
FASTEST = 1e12
"""More than any one link carries, bytes/s."""
_GPU = re.compile(r"GPU\s+([0-9]{1,4}):\s*(.*?)\s*(?:\(UUID:.*)?")
_LINK = re.compile(r"Link\s+([0-9]{1,4}):\s*(?:<?(inactive)>?|([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*GB/s)")


@dataclass(frozen=True)
class NvlinkView(HostView):
    """GPUs with the number of their active links, wherever these lead.

    Attributes
    ----------
    active_links
        Number of active links by GPU.
    """

    active_links: Mapping[str, int] = field(default_factory=dict)


def read_nvidia_nvlink(text: str, name: str) -> NvlinkView:
    """Read the output of ``nvidia-smi nvlink -s``; ``link_rate`` is the raw rate that it states, bytes/s.

    Raises
    ------
    ImportRefusedError
        If the text names no GPU, or one twice, or holds a line that is neither a GPU nor a link.
    """
    products: dict[str, str] = {}
    ports: dict[str, dict[int, float | None]] = {}
    current = ""
    for number, line in enumerate(lines_of(text), 1):
        words = line.strip()
        if gpu := _GPU.fullmatch(words):
            current = f"GPU{int(gpu[1])}"
            if current in ports:
                raise ImportRefusedError(name, number, f"{current} is named twice")
            products[current], ports[current] = gpu[2], {}
        elif (link := _LINK.fullmatch(words)) and current:
            if int(link[1]) in ports[current]:
                raise ImportRefusedError(name, number, f"link {link[1]} of {current} is named twice")
            ports[current][int(link[1])] = None if link[2] else _rate(float(link[3]), number, name)
        elif words and "nvidia-smi" not in words:
            raise ImportRefusedError(name, number, f"neither a GPU nor a link: {words[:60]!r}")
    if not ports:
        raise ImportRefusedError(name, 0, "no line 'GPU 0: ...'")
    view = _view(products, ports)
    if text.endswith("\n"):
        return view
    note = Remark(0, "the last line has no end; the text may be cut")
    return replace(view, remarks=(*view.remarks, note))


def _rate(value: float, line: int, name: str) -> float:
    if not 0 < value * 1e9 < FASTEST:
        raise ImportRefusedError(name, line, f"no link runs at {value:g} GB/s")
    return value * 1e9


def _view(products: Mapping[str, str], ports: Mapping[str, Mapping[int, float | None]]) -> NvlinkView:
    remarks: list[Remark] = []
    rates = {rate for links in ports.values() for rate in links.values() if rate is not None}
    if len(rates) > 1:
        shown = ", ".join(f"{rate / 1e9:g}" for rate in sorted(rates))
        remarks.append(Remark(0, f"links run at different rates ({shown} GB/s); the slowest is taken"))
    if len(set(products.values())) > 1:
        remarks.append(Remark(0, "the GPUs are of different products"))
    if any(LONG_NUMBER.search(product) for product in products.values()):
        remarks.append(Remark(0, "a product has an unlikely name"))
    active = {gpu: sum(rate is not None for rate in links.values()) for gpu, links in ports.items()}
    if len(set(active.values())) > 1:
        counts = ", ".join(f"{gpu} {count}" for gpu, count in active.items())
        remarks.append(Remark(0, f"the GPUs have different numbers of active links: {counts}"))
    for gpu, links in ports.items():
        gaps = set(range(max(links, default=-1) + 1)) - set(links)
        if gaps or not links:
            remarks.append(Remark(0, f"{gpu}: no line for {f'link {min(gaps)}' if gaps else 'any link'}"))
    return NvlinkView(
        NVLINK,
        tuple(GpuView(gpu, product=product or None) for gpu, product in products.items()),
        link_kind="nvlink" if rates else None,
        link_rate=min(rates, default=None),
        remarks=tuple(remarks),
        active_links=active,
    )
