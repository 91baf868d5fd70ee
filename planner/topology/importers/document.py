"""From what a dump says to a ``topology/1`` document: its connectivity, with rates from the data files.

A dump gives connectivity, the data files give vendor rates, and what neither knows is assumed and says so.
No link is free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import TopologyError
from planner.schema import BandwidthFigure, LatencyFigure, compress
from planner.topology.importers.figures import (
    DUMP,
    pcie_rate,
    scaled,
    socket_rate,
    sources_of,
)
from planner.topology.importers.gpu_fabric import gpu_fabric
from planner.topology.importers.hosts import domain_name, domains, homes
from planner.topology.importers.nccl_xml import families
from planner.topology.importers.nvidia_topo import P2P
from planner.topology.importers.pcie_tree import PcieTree, pcie_tree
from planner.topology.importers.rates import GpuFacts, device_of, facts_of, link_rates
from planner.topology.importers.views import GpuView, HostView
from planner.topology.models import (
    Addressing,
    Device,
    Gpu,
    Link,
    Machine,
    Mesh,
    Nic,
    NumaDomain,
    Switch,
    TopologyDocument,
)
from planner.topology.resolve import catalogue, resolve

MEMORY_TOLERANCE = 0.12
"""By how much the memory that a GPU reports may differ from that of its device: what the driver keeps."""
_GPU = re.compile(r"GPU[0-9]{1,4}")


@dataclass(frozen=True)
class _Parts:
    """Names and facts of the devices of a view, by their names there."""

    view: HostView
    names: Mapping[str, str]
    devices: Mapping[str, str]
    facts: Mapping[str, GpuFacts | None]
    homes: Mapping[str, int]
    c2c: Mapping[str, bool]
    tree: PcieTree

    def home(self, name: str) -> str:
        """Return the NUMA domain next to a device."""
        return domain_name(self.homes[name])


def as_topology(
    view: HostView, name: str, devices: Mapping[str, Device], device: str | None = None
) -> TopologyDocument:
    """Return the document of one host, as :func:`described` does, without the notes."""
    return described(view, name, devices, device)[0]


def described(
    view: HostView, name: str, devices: Mapping[str, Device], device: str | None = None
) -> tuple[TopologyDocument, tuple[str, ...]]:
    """Return the document of one host, and a sentence for each thing that is taken on trust.

    Parameters
    ----------
    name
        Name of the document and of its machine.
    devices
        Device models by name.
    device
        Model of the GPUs whose product the dump does not tell.

    Raises
    ------
    TopologyError
        If a GPU is of no known model, or the dump does not tell enough of the connections.
    """
    if view.unknown_functions and not view.gpus:
        raise TopologyError(
            f"{len(view.unknown_functions)} PCI functions are of unknown role and none is known to be a GPU; "
            "merge the dump with nvidia-smi -q -x or hwloc of the same machine"
        )
    if view.format == P2P:
        raise TopologyError(
            "states of peer access tell of no link; import nvidia-smi topo -m of the same machine"
        )
    notes: list[str] = []
    if all(_GPU.fullmatch(gpu.name) for gpu in view.gpus):
        view = replace(view, gpus=tuple(sorted(view.gpus, key=lambda gpu: int(gpu.name[3:]))))
    if len(view.gpus) > 1 and not (view.bridges or view.path_classes):
        notes.append(
            "The dump tells nothing of the PCI tree: every GPU is taken to have a root port of its own."
        )
    parts = _parts(view, devices, device, notes)
    c2c = any(parts.c2c.values())
    numa = domains(view, c2c=c2c, notes=notes)
    fabric = gpu_fabric(view, parts.names, parts.facts, notes)
    machine = Machine(
        name=name,
        numa=numa,
        gpus=_gpus(parts, notes),
        switches=[
            *fabric.switches,
            *(Switch(name=names, kind="pcie") for names in compress(parts.tree.switches)),
        ],
        nics=_nics(parts, notes),
        links=[*fabric.links, *_c2c_links(parts), *_pcie_links(parts)],
        meshes=[*fabric.meshes, *_sockets(view, numa, c2c=c2c)],
    )
    known = {DUMP: f"{view.format}, as imported", **link_rates().sources}
    used = set(sources_of(machine))
    own = [devices[one] for one in sorted(set(parts.devices.values())) if one not in catalogue()]
    document = TopologyDocument(
        name=name,
        description=" ".join([f"Imported from {view.format}.", *notes]),
        sources={key: text for key, text in known.items() if key in used},
        devices=own,
        machines=[machine],
    )
    resolve(document)
    return document, tuple(notes)


def _parts(view: HostView, devices: Mapping[str, Device], fallback: str | None, notes: list[str]) -> _Parts:
    models = {gpu.name: _model(gpu, devices, fallback) for gpu in view.gpus}
    facts = {name: facts_of(model) for name, model in models.items()}
    tree = pcie_tree(view)
    return _Parts(
        view, _names(view, tree), models, facts, homes(view, notes),
        {gpu.name: has_c2c(gpu, facts[gpu.name]) for gpu in view.gpus}, tree,
    )  # fmt: skip


def _model(gpu: GpuView, devices: Mapping[str, Device], fallback: str | None) -> str:
    if fallback is not None and fallback not in devices:
        device_of(fallback, devices)
        raise TopologyError(f"unknown device {fallback!r}")
    if gpu.product is None and fallback is None:
        raise TopologyError(
            f"{gpu.name}: the dump does not name the product; merge it with nvidia-smi -q -x, "
            "or name the device with --device"
        )
    model = fallback or ""
    if gpu.product is not None:
        try:
            model = device_of(gpu.product, devices)
        except TopologyError:
            if fallback is None:
                raise
    size = devices[model].memory.value
    if gpu.memory is not None and abs(gpu.memory - size) > MEMORY_TOLERANCE * size:
        raise TopologyError(
            f"{gpu.name} reports {gpu.memory / 2**30:.1f} GiB, but {model} has {size / 2**30:.1f} GiB; "
            "describe the device under 'devices'"
        )
    return model


def has_c2c(gpu: GpuView, facts: GpuFacts | None) -> bool:
    """Whether a GPU has a coherent chip-to-chip link to its host.

    The driver's word counts; where it is silent, the device decides, or that its memory is a NUMA node.
    """
    if gpu.c2c is not None:
        return gpu.c2c
    if facts is not None:
        return facts.c2c
    return gpu.memory_numa is not None


def legal_addressing(gpu: GpuView, *, c2c: bool) -> Addressing:
    """Return the memory mode that a GPU may be used in.

    ``ats`` takes the driver's word, or an enabled chip-to-chip link where the driver is silent; without
    either nothing but explicit copies is certain.
    """
    if gpu.addressing == "ats" or (gpu.addressing is None and c2c and gpu.c2c is not None):
        return "ats"
    if gpu.addressing == "hmm":
        return "hmm"
    return "ats" if gpu.addressing is None and gpu.memory_numa is not None else "none"


def _names(view: HostView, tree: PcieTree) -> dict[str, str]:
    """Return the name of every device in the document: GPUs by number, adapters as they are called."""
    taken = {*tree.switches, "nvswitch"}
    names: dict[str, str] = {}
    lower = [gpu.name.lower() for gpu in view.gpus]
    plain = all(_GPU.fullmatch(gpu.name) for gpu in view.gpus) and len(set(lower)) == len(lower)
    for index, gpu in enumerate(view.gpus):
        names[gpu.name] = lower[index] if plain else f"gpu{index}"
    taken.update(names.values())
    for nic in view.nics:
        wanted = re.sub(r"[^A-Za-z0-9._:-]", "-", nic.name)
        wanted = f"nic-{wanted}" if re.fullmatch(r"(gpu|numa|nvswitch)[0-9]*", wanted) else wanted
        while wanted in taken:
            wanted += "-nic"
        names[nic.name] = wanted
        taken.add(wanted)
    return names


def _gpus(parts: _Parts, notes: list[str]) -> list[Gpu]:
    groups: dict[tuple[str, str, Addressing], list[str]] = {}
    silent = False
    for gpu in parts.view.gpus:
        mode = legal_addressing(gpu, c2c=parts.c2c[gpu.name])
        silent = silent or (gpu.addressing is None and mode == "none")
        key = (parts.devices[gpu.name], parts.home(gpu.name), mode)
        groups.setdefault(key, []).append(parts.names[gpu.name])
    if silent:
        notes.append("The memory mode of the GPUs is unknown: only explicit copies are planned.")
    if any(gpu.mig == "enabled" for gpu in parts.view.gpus):
        notes.append("MIG is enabled on the machine; whole GPUs are described.")
    return [
        Gpu(name=pattern, device=model, numa=home, addressing=mode)
        for (model, home, mode), members in groups.items()
        for pattern in compress(members)
    ]


def _nics(parts: _Parts, notes: list[str]) -> list[Nic]:
    nics = []
    silent = []
    for nic in parts.view.nics:
        rate = link_rates().links.port
        if nic.speeds:
            rate = BandwidthFigure.of(sum(nic.speeds), "vendor", DUMP)
        else:
            silent.append(nic.name)
        nics.append(Nic(name=parts.names[nic.name], numa=parts.home(nic.name), bandwidth=rate))
    if silent:
        notes.append(f"The rates of {len(silent)} network port(s) are unknown; the slowest is taken.")
    return nics


def _c2c_links(parts: _Parts) -> list[Link]:
    """Return the coherent links to the host; GPUs of one host chip share its rate."""
    rates = link_rates()
    linked = [gpu.name for gpu in parts.view.gpus if parts.c2c[gpu.name]]
    links = []
    for home in dict.fromkeys(parts.home(name) for name in linked):
        members = [parts.names[name] for name in linked if parts.home(name) == home]
        rate = scaled(rates.links.c2c, 1 / len(members), certain=len(members) == 1)
        links += [
            Link(
                between=(home, pattern), kind="nvlink-c2c", bandwidth=rate,
                latency=rates.latencies.c2c, coherent=True,
            )
            for pattern in compress(members)
        ]  # fmt: skip
    return links


def _pcie_links(parts: _Parts) -> list[Link]:
    """Return the PCI Express links of devices and switches; a switch is as fast as its fastest device."""
    rates, tree, own = link_rates(), parts.tree, _device_rates(parts)
    both = rates.latencies.root.value + rates.latencies.device.value
    direct = LatencyFigure.of(both, "assumed", rates.latencies.root.source)
    pairs: dict[tuple[BandwidthFigure, LatencyFigure], list[tuple[str, str]]] = {}
    for name, rate in own.items():
        upper = tree.above.get(name)
        key = (rate, rates.latencies.device if upper else direct)
        pairs.setdefault(key, []).append((parts.names[name], upper or parts.home(name)))
    for switch in tree.switches:
        leaves = tree.below(switch)
        fastest = max((own[leaf] for leaf in leaves if leaf in own), key=lambda rate: rate.value)
        upper = tree.above.get(switch)
        key = (
            scaled(fastest, 1.0, certain=False),
            rates.latencies.device if upper else rates.latencies.root,
        )
        pairs.setdefault(key, []).append((switch, upper or parts.home(leaves[0])))
    return [
        Link(between=ends, kind="pcie", bandwidth=rate, latency=latency)
        for (rate, latency), group in pairs.items()
        for ends in folded(group)
    ]


def folded(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return ranges of ends that pair up to exactly the given pairs, in their order."""
    runs: list[list[tuple[str, str]]] = []
    for pair in pairs:
        grown = [*runs[-1], pair] if runs else [pair]
        left, right = ([ends[side] for ends in grown] for side in (0, 1))
        single = len(compress(left)) == 1 and (len(set(right)) == 1 or len(compress(right)) == 1)
        if runs and single:
            runs[-1] = grown
        else:
            runs.append([pair])
    return [
        (compress([a for a, _ in run])[0], compress(list(dict.fromkeys(b for _, b in run)))[0])
        for run in runs
    ]


def _device_rates(parts: _Parts) -> dict[str, BandwidthFigure]:
    """Return the PCI Express rate of every device that has such a link.

    A GPU with a chip-to-chip link has one only where it shares a switch with other devices.
    """
    gpus = parts.view.gpus
    rates = {
        gpu.name: pcie_rate(gpu, parts.facts[gpu.name])
        for gpu in gpus
        if not parts.c2c[gpu.name] or gpu.name in parts.tree.above
    }
    plain = [pcie_rate(gpu, parts.facts[gpu.name]) for gpu in gpus] or [pcie_rate(GpuView(""), None)]
    fastest = scaled(max(plain, key=lambda rate: rate.value), 1.0, certain=False)
    return {**rates, **{nic.name: fastest for nic in parts.view.nics}}


def _sockets(view: HostView, numa: Sequence[NumaDomain], *, c2c: bool) -> list[Mesh]:
    if len(numa) < 2:
        return []
    rate = socket_rate(view, families(view).get("model"), c2c=c2c)
    return [
        Mesh(
            among=compress([domain.name for domain in numa]), kind="socket", bandwidth=rate,
            latency=link_rates().latencies.socket, coherent=c2c,
        )
    ]  # fmt: skip
