"""What the truth about a dump says, worked out from the view that an importer gives of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.topology.importers.closest import closest_nics
from planner.topology.importers.hwloc_objects import bitmap
from planner.topology.importers.hwloc_view import HwlocView
from planner.topology.importers.ibnet import IbView
from planner.topology.importers.lists import numbers
from planner.topology.importers.lscpu import LscpuView
from planner.topology.importers.nvidia_nvlink import NvlinkView
from planner.topology.importers.nvidia_topo import P2P
from planner.topology.importers.pci import bus_id, generation_of_speed, width
from planner.topology.importers.pci_roles import AMD, NVIDIA
from planner.topology.importers.slurm import SlurmView
from planner.topology.importers.sysfs import SysfsView
from planner.topology.importers.topograph import TopographView
from planner.topology.importers.views import FabricView, GpuView, HostView

MIB = 1024.0**2
REFUSALS = ("nccl-graph",)
"""Kinds of truth that no topology can be read from."""
UNREAD = frozenset(
    {"kind", "note", "numa_note", "expect", "l1_l2_sizes", "cuda", "graphs", "patterns", "channels"}
)
"""Parts of a truth that no view keeps, or that are words for people."""
GPU_UNREAD = frozenset({"dev", "sm", "bar1_total", "fabric_state", "cluster"})
"""The same for the entries of a list of GPUs."""


@dataclass
class Comparison:
    """Differences between a truth and a view, and what could not be compared."""

    wrong: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def equal(self, key: str, expected: object, found: object) -> None:
        """Note a difference."""
        if expected != found:
            self.wrong.append(f"{key}: expected {_short(expected)}, found {_short(found)}")


def expects_refusal(truth: Mapping[str, Any]) -> bool:
    """Whether a truth asks for a typed refusal, or allows one."""
    asked = str(truth.get("expect", "")).lower()
    return truth.get("kind") in REFUSALS or "error" in asked or "refus" in asked


def demands_refusal(truth: Mapping[str, Any]) -> bool:
    """Whether nothing but a refusal will do."""
    return truth.get("kind") in REFUSALS


def compare(truth: Mapping[str, Any], view: HostView | FabricView) -> Comparison:
    """Compare everything that a truth says and a view knows."""
    done = Comparison()
    readers: dict[str, Callable[[Any], object]] = (
        _fabric(view) if isinstance(view, FabricView) else _host(view)
    )
    for key, expected in truth.items():
        if key in UNREAD:
            continue
        special = _SPECIAL.get(key)
        if special is not None and isinstance(view, HostView):
            special(done, expected, view, truth)
        elif key in readers:
            done.equal(key, _plain(expected), _plain(readers[key](expected)))
        elif isinstance(view, SysfsView) and re.fullmatch(r"clusters_of_[0-9]+", key):
            done.equal(key, expected, view.clusters)
        else:
            done.unchecked.append(key)
    for doubt in ("numa_note", "expect", "self_target_links_to_ignore", "asymmetric_links"):
        if truth.get(doubt) and not view.remarks:
            done.wrong.append(f"{doubt}: {_short(truth[doubt])}, but the view has no remark")
    return done


def _plain(value: object) -> object:
    """Return lists and tuples alike, in sorted order where they hold text or numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item) for item in value]
        return (
            sorted(items, key=repr) if all(isinstance(item, str | int | float) for item in items) else items
        )
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 120 else text[:117] + "..."


def _host(view: HostView) -> dict[str, Callable[[Any], object]]:
    """Return how to find the facts of one host."""
    common: dict[str, Callable[[Any], object]] = {
        "numa_nodes": lambda _: len(view.numa),
        "numa_ids": lambda _: [str(node.number) for node in view.numa],
        "vendor": lambda _: [str(view.vendor)],
        "driver": lambda _: view.driver,
        "nics": lambda _: len(view.nics),
        "nic_pci_devices": lambda _: len(view.nics),
        "net_ports": lambda _: sum(nic.ports or 0 for nic in view.nics),
        "packages": lambda _: view.packages or 0,
        "cores": lambda _: view.cores or 0,
        "pus": lambda _: view.processors or 0,
        "link_pairs": lambda _: {
            " <-> ".join(sorted(_bus(view, end) for end in pair)): count
            for pair, count in view.gpu_links.items()
        },
        "links_to_switch": lambda _: {_bus(view, gpu): count for gpu, count in view.switch_links.items()},
        "nvlink_pairs": lambda _: {"-".join(_by_number(pair)): n for pair, n in view.gpu_links.items()},
        "gpu_pair_classes": lambda _: Counter(
            kind for ends, kind in view.path_classes.items() if all(end.startswith("GPU") for end in ends)
        ),
        "nvlinks_per_gpu_direct_sum": lambda _: {
            gpu.name: sum(n for pair, n in view.gpu_links.items() if gpu.name in pair) for gpu in view.gpus
        },
        "asymmetric_links": lambda expected: expected,
        "self_target_links_to_ignore": lambda expected: expected,
    }
    common["arch"] = lambda expected: [str(view.arch)] if isinstance(expected, list) else view.arch
    if isinstance(view, HwlocView):
        common |= _hwloc(view)
    if isinstance(view, SysfsView | LscpuView):
        common["isa"] = lambda _: view.isa
    if isinstance(view, SysfsView):
        common["clusters"] = lambda _: view.clusters
    if isinstance(view, NvlinkView):
        common["links_per_gpu"] = lambda expected: _all_same(view.active_links.values(), expected)
        common["gb_per_s_per_link"] = lambda _: None if view.link_rate is None else view.link_rate / 1e9
    if view.format == P2P:
        common["all_pairs"] = lambda expected: _all_same(view.path_classes.values(), expected)
    return common


def _all_same(values: Iterable[object], expected: object) -> object:
    found = set(values)
    return expected if found == {expected} else sorted(map(str, found))


def _bus(view: HostView, name: str) -> str:
    return next((gpu.bus_id for gpu in view.gpus if gpu.name == name and gpu.bus_id), name)


def _by_number(pair: tuple[str, str]) -> list[str]:
    return sorted(pair, key=lambda name: int(re.sub(r"\D", "", name) or 0))


def _hwloc(view: HwlocView) -> dict[str, Callable[[Any], object]]:
    makers = (NVIDIA, AMD)
    return {
        "format_version": lambda expected: _version(view.version, expected),
        "compute_gpus": lambda _: len(view.gpus),
        "display_only": lambda _: [one for one in view.displays if view.functions[one].vendor in makers],
        "nic_pci_devices": lambda _: sum(one.class_code >> 8 == 2 for one in view.functions.values()),
        "nvswitches": lambda _: len(view.nvswitches),
        "distances": lambda expected: _distances(view, expected),
        "memattrs": lambda _: [{"name": one.name, "n": len(one.values)} for one in view.memory_attributes],
    }


def _version(found: str, expected: object) -> object:
    """Return the version; exports of hwloc 1 do not write theirs."""
    return expected if found == "1" and str(expected)[:1] in ("1", "N", "") else found


def _hwloc_numa(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    nodes = {node.number: node for node in view.numa}
    done.equal("numa", sorted(entry["os_index"] for entry in expected), sorted(nodes))
    subtypes = view.subtypes if isinstance(view, HwlocView) else {}
    for entry in expected:
        node = nodes.get(entry["os_index"])
        if node is not None:
            key = f"numa {node.number}"
            done.equal(f"{key} memory", float(entry["local_memory"] or 0), node.memory or 0.0)
            done.equal(f"{key} subtype", entry["subtype"], subtypes.get(node.number))
            if entry["subtype"] == "GPUMemory":
                done.equal(f"{key} memory of a GPU", expected=True, found=node.device_memory)


def _hwloc_gpus(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    if not isinstance(view, HwlocView) or not isinstance(expected, list):
        done.equal("gpus", expected, len(view.gpus))
        return
    done.equal("gpus", sorted(entry["busid"] for entry in expected), sorted(str(g.bus_id) for g in view.gpus))
    for entry in expected:
        one = view.functions.get(str(bus_id(entry["busid"])))
        if one is None:
            continue
        facts: dict[str, tuple[object, object]] = {
            "nodeset": (bitmap(entry["nodeset"] or "0x0"), sum(1 << node for node in one.nodes)),
            "pci_type": (entry["pci_type"], f"{one.class_code:04x} [{one.vendor:04x}:{one.device:04x}]"),
            "os": (sorted(entry["os"]), sorted(one.devices)),
            "link": (float(entry["link"] or 0), round((one.link or 0.0) / 1e9, 6)),
        }
        for key, (said, found) in facts.items():
            done.equal(f"{one.address} {key}", said, found)


def _distances(view: HwlocView, expected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the matrices with those of their fields that the truth gives."""
    found = []
    for place, matrix in enumerate(view.distances):
        values = sorted({value for row in matrix.values for value in row})
        facts = {
            "name": matrix.name,
            "type": matrix.type,
            "nbobjs": len(matrix.objects),
            "distinct_values": values,
            "objects": list(matrix.objects),
            "matrix": [list(row) for row in matrix.values],
        }
        asked = expected[place].keys() if place < len(expected) else facts.keys()
        found.append({key: facts.get(key) for key in asked})
    return [] if view.version == "1" and not expected else found  # truths leave the form of hwloc 1 out


def _same_as_gpus(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    by_bus = {gpu.bus_id: gpu for gpu in view.gpus}
    listed = [bus_id(str(entry.get("busid") or entry.get("id"))) for entry in expected]
    done.equal("gpu_list", sorted(map(str, listed)), sorted(map(str, by_bus)))
    for address, entry in zip(listed, expected, strict=True):
        gpu = by_bus.get(address)
        if gpu is None:
            continue
        for key, said in entry.items():
            fact = _GPU_FACTS.get(key)
            if fact is not None:
                done.equal(f"{address} {key}", *fact(said, gpu, entry))
            elif key not in GPU_UNREAD:
                done.unchecked.append(f"gpu_list.{key}")


def _known(said: object) -> str | None:
    return None if said in (None, "N/A", "") else str(said)


def _mapped(said: object, values: Mapping[str, object]) -> object:
    text = _known(said)
    return None if text is None else values.get(text.lower(), text)


def _clique(said: object, gpu: GpuView, entry: Mapping[str, Any]) -> tuple[object, object]:
    expected = None if _known(said) is None else f"{entry['cluster']}.{said}"
    return expected, gpu.clique


def _mebibytes(said: object, gpu: GpuView, entry: Mapping[str, Any]) -> tuple[object, object]:
    text = _known(said)
    return None if text is None else float(text.split()[0]) * MIB, gpu.memory


_GPU_FACTS: dict[str, Callable[[Any, GpuView, Mapping[str, Any]], tuple[object, object]]] = {
    "busid": lambda said, gpu, _: (bus_id(said), gpu.bus_id),
    "id": lambda said, gpu, _: (bus_id(said), gpu.bus_id),
    "numaid": lambda said, gpu, _: (None if said == "-1" else int(said), gpu.numa),
    "link": lambda said, gpu, _: (
        (generation_of_speed(said[0]), width(said[1])),
        (gpu.pcie_generation, gpu.pcie_width),
    ),
    "name": lambda said, gpu, _: (said, gpu.product),
    "mig": lambda said, gpu, _: (_mapped(said, {"enabled": "enabled", "disabled": "disabled"}), gpu.mig),
    "fb_total": _mebibytes,
    "pcie_max_gen": lambda said, gpu, _: (int(said) if _known(said) else None, gpu.pcie_generation),
    "pcie_width": lambda said, gpu, _: (width(_known(said)), gpu.pcie_width),
    "clique": _clique,
    "addressing": lambda said, gpu, _: (
        _mapped(said, {"ats": "ats", "hmm": "hmm", "none": "none"}),
        gpu.addressing,
    ),
    "c2c": lambda said, gpu, _: (_mapped(said, {"enabled": True, "disabled": False}), gpu.c2c),
}


def _closest(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    near = closest_nics(view)
    names = {nic.name: {nic.name, nic.bus_id} for nic in view.nics}
    gpus = {key: gpu.name for gpu in view.gpus for key in (gpu.name, gpu.bus_id)}
    for gpu, said in expected.items():
        found = near.get(gpus.get(gpu, ""))
        if found is None:
            done.wrong.append(f"closest_nic {gpu}: nothing found")
            continue
        same = len(found.nics) == len(said["nics"]) and all(
            any(one in names[nic] for nic in found.nics) for one in said["nics"]
        )
        if not same:
            done.wrong.append(
                f"closest_nic {gpu}: expected {_short(said['nics'])}, found {_short(found.nics)}"
            )
        if "class" in said:
            done.equal(f"closest_nic {gpu} class", said["class"], found.path_class)
        if "shared_bridges" in said:
            done.equal(f"closest_nic {gpu} bridges", said["shared_bridges"], found.shared_bridges)
            done.equal(f"closest_nic {gpu} same_numa", said["same_numa"], found.same_numa)


def _row_tail(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    """Compare the affinity columns: processors, NUMA nodes (the host's first), node of GPU memory."""
    gpus, nodes = {gpu.name: gpu for gpu in view.gpus}, {node.number: node for node in view.numa}
    for name, said in expected.items():
        gpu = gpus.get(name)
        cells = [numbers(cell) for cell in said]
        if gpu is None or any(cell is None and text != "N/A" for cell, text in zip(cells, said, strict=True)):
            continue  # words behind a row without columns
        home = None if gpu.numa is None else nodes.get(gpu.numa)
        cpus, near, memory = [*cells, None, None, None][:3]
        done.equal(f"{name} processors", cpus, None if home is None else home.cpus)
        if near is not None:
            done.equal(f"{name} NUMA node", near[0], gpu.numa)
        done.equal(f"{name} memory node", None if memory is None else memory[0], gpu.memory_numa)


def _link_kind(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    if truth.get("link_pairs") or truth.get("links_to_switch"):
        done.equal("link_kind", sorted(expected), [view.link_kind])


def _c2c(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    done.equal("c2c", sorted(expected), sorted(gpu.bus_id or "" for gpu in view.gpus if gpu.c2c))


def _node_cpus(done: Comparison, expected: Any, view: HostView, truth: Mapping[str, Any]) -> None:
    done.equal("node_cpus nodes", sorted(map(int, expected)), sorted(node.number for node in view.numa))
    for node in view.numa:
        said = expected.get(str(node.number))
        done.equal(f"node_cpus {node.number}", () if said == "" else numbers(str(said)), node.cpus)


_SPECIAL: dict[str, Callable[[Comparison, Any, HostView, Mapping[str, Any]], None]] = {
    "gpu_list": _same_as_gpus,
    "gpus": _hwloc_gpus,
    "numa": _hwloc_numa,
    "closest_nic": _closest,
    "row_tail": _row_tail,
    "link_kind": _link_kind,
    "c2c": _c2c,
    "node_cpus": _node_cpus,
}


def _fabric(view: FabricView) -> dict[str, Callable[[Any], object]]:
    """Return how to find the facts of one fabric."""
    found: dict[str, Callable[[Any], object]] = {
        "switches": lambda _: len(view.switches),
        "nodes": lambda _: len(view.nodes),
        "blocks": lambda _: len(view.blocks),
        "links": lambda _: len(view.links),
    }
    if isinstance(view, IbView):
        switches, aggregation = set(view.switches), set(view.aggregation)
        found |= {
            "channel_adapters": lambda _: len(view.adapters) + len(view.aggregation),
            "port_lines_by_rate": lambda _: view.port_rates,
            "aggregation_node_port_lines": lambda _: sum(
                bool({*link[:2]} & aggregation) for link in view.links
            ),
            "switch_switch_links": lambda _: sum({*link[:2]} <= switches for link in view.links),
        }
    if isinstance(view, SlurmView):
        found |= {
            "roots": lambda _: [one for one in view.switches if one not in view.parents],
            "levels": lambda _: _levels(view),
            "leaf_switches": lambda _: len(
                {view.parents[node] for node in view.nodes if node in view.parents}
            ),
            "block_sizes": lambda _: list(view.block_sizes) or None,
            "undefined_switch_references": lambda _: view.undefined,
            "topologies": lambda _: view.topologies,
        }
    if isinstance(view, TopographView):
        found |= {
            "blocks": lambda _: len(view.groups),
            "switch_entries": lambda _: len(view.described),
            "top": lambda _: view.top,
        }
    return found


def _levels(view: FabricView) -> int:
    """Return the switches on the longest way from a root down."""
    deepest = 0
    for switch in view.switches:
        depth, above = 1, view.parents.get(switch)
        while above is not None:
            depth, above = depth + 1, view.parents.get(above)
        deepest = max(deepest, depth)
    return deepest
