"""A machine or cluster as a tree of text: equal nodes and parts folded, every rate with its provenance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from planner import units
from planner.report import wording
from planner.report.names import TIMES, count, fold, stem
from planner.report.svg import clean
from planner.schema import BandwidthFigure, expand
from planner.topology import Link, Machine, MachineType, Node, Topology
from planner.topology.machine import pairs_of


def topology_text(topology: Topology) -> str:
    """Return the topology as a tree of text, equal nodes and parts folded, every rate with its provenance."""
    gpus = len(topology.gpus)
    lines = [f"{topology.name}: {count(len(topology.nodes), 'node')}, {count(gpus, 'GPU')}"]
    by_machine: dict[str, list[Node]] = defaultdict(list)
    for node in topology.nodes:
        by_machine[node.machine.name].append(node)
    branches: list[tuple[str, list[str]]] = []
    for nodes in by_machine.values():
        machine = nodes[0].machine
        names = fold([node.name for node in nodes])
        price = "" if machine.price is None else f", {units.show(machine.price, 'USD/h')} each"
        head = (
            f"{names}: {len(nodes)} {TIMES} {machine.name}" if len(nodes) > 1 else f"{names}: {machine.name}"
        )
        spec = next(spec for spec in topology.document.machines if spec.name == machine.name)
        branches.append((head + price, list(_machine_lines(machine, spec))))
    branches += _fabric_branch(topology)
    lines += _tree(branches)
    return clean("\n".join(lines))


def _tree(branches: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    for position, (head, below) in enumerate(branches):
        last = position == len(branches) - 1
        yield ("└─ " if last else "├─ ") + head
        for line in below:
            yield ("   " if last else "│  ") + line


def _machine_lines(machine: MachineType, spec: Machine) -> Iterator[str]:
    branches: list[tuple[str, list[str]]] = []
    for numa in machine.numa:
        cpu = f"{numa.cpu}, " if numa.cpu else ""
        vector = f", {numa.vector_bits}-bit vectors" if numa.vector_bits else ""
        head = (
            f"{numa.name}: {cpu}{numa.arch}, {numa.cores} cores{vector}, "
            f"{units.show(numa.memory.value, 'bytes')} at {_rate(numa.memory_bandwidth)}"
        )
        branches.append(
            (head, list(_tree([*_gpu_lines(machine, numa.name), *_nic_lines(machine, numa.name)])))
        )
    if machine.switches:
        kinds: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for switch in machine.switches:
            kinds[switch.kind, switch.in_switch_reduction].append(switch.name)
        for (kind, reduces), names in kinds.items():
            branches.append(
                (f"{fold(names)}: {wording.SWITCHES[kind]}" + (", reduces in flight" if reduces else ""), [])
            )
    links = list(_tree([(line, []) for line in _link_lines([*spec.links, *_meshes_as_links(spec)])]))
    if links:
        branches.append(("links", links))
    yield from _tree(branches)


def _gpu_lines(machine: MachineType, numa: str) -> Iterator[tuple[str, list[str]]]:
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for gpu in machine.gpus:
        if gpu.numa == numa:
            kinds[gpu.device, gpu.addressing].append(gpu.name)
    for (device, addressing), names in kinds.items():
        model = machine.devices[device]
        memory, rate = (
            units.show(model.memory.value, "bytes"),
            units.show(model.memory_bandwidth.value, "bytes/s"),
        )
        how = {"ats": ", coherent with the host (ATS)", "hmm": ", host pages by HMM"}.get(addressing, "")
        yield f"{fold(names)}: {device}, {memory} at {rate} ({model.memory_bandwidth.provenance}){how}", []


def _nic_lines(machine: MachineType, numa: str) -> Iterator[tuple[str, list[str]]]:
    kinds: dict[tuple[float, str], list[str]] = defaultdict(list)
    for nic in machine.nics:
        if nic.numa == numa:
            kinds[nic.bandwidth.value, nic.bandwidth.provenance].append(nic.name)
    for (rate, provenance), names in kinds.items():
        yield f"{fold(names)}: network port, {units.show(rate, 'bytes/s')} ({provenance})", []


def _fabric_branch(topology: Topology) -> Iterator[tuple[str, list[str]]]:
    fabric = topology.fabric
    if fabric is None:
        return
    if fabric.layout is not None:
        layout = fabric.layout
        wide = f", {layout.nodes_per_leaf} nodes per leaf" if layout.shape != "single-switch" else ""
        ratio = layout.oversubscription
        narrow = (
            ""
            if ratio is None or ratio.value <= 1
            else f", oversubscribed {ratio.value:g} to 1 ({ratio.provenance})"
        )
        reduces = ", reduces in flight" if layout.in_network_reduction else ""
        latency = f"{units.show(layout.hop_latency.value, 's')} per hop ({layout.hop_latency.provenance})"
        kind = wording.link_kind(layout.kind)
        yield f"fabric: {layout.shape}, {kind}{wide}{narrow}{reduces}, {latency}", []
    if topology.explicit_links:
        yield "fabric links", list(_tree([(line, []) for line in _link_lines(fabric.links)]))


def _meshes_as_links(spec: Machine) -> Iterator[Link]:
    for mesh in spec.meshes:
        names = [name for item in mesh.among for name in expand(item)]
        for index, left in enumerate(names):
            for right in names[index + 1 :]:
                yield Link(
                    between=(left, right), kind=mesh.kind, bandwidth=mesh.bandwidth, latency=mesh.latency,
                    coherent=mesh.coherent,
                )  # fmt: skip


def _link_lines(links: Sequence[Link]) -> Iterator[str]:
    """Yield one line per kind of channel, both directions together, ends folded."""
    folded: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    looks: dict[tuple[str, str, str], Link] = {}
    for link in links:
        for left, right in pairs_of(link):
            key = (stem(left), stem(right), link.model_copy(update={"between": ("", "")}).model_dump_json())
            folded[key].append((left, right))
            looks[key] = link
    for key, pairs in folded.items():
        lefts, rights = zip(*pairs, strict=True)
        many = f"{len(pairs)} {TIMES} " if len(pairs) > 1 else ""
        yield f"{many}{_ends(lefts, rights)}: {_figures(looks[key])}"


def _ends(lefts: Sequence[str], rights: Sequence[str]) -> str:
    every = {*lefts, *rights}
    if len(lefts) == len(every) * (len(every) - 1) // 2 > 1:
        return f"every pair of {fold(list(every))}"
    return f"{fold(lefts)} ↔ {fold(rights)}"


def _figures(link: Link) -> str:
    there, back, both = link.bandwidth, link.reverse_bandwidth, link.duplex
    if back is None or back == there:
        rate = f"{_rate(there)} each way"
    elif back.provenance == there.provenance:
        rate = f"{units.show(there.value, 'bytes/s')} there and {_rate(back)} back"
    else:
        rate = f"{_rate(there)} there, {_rate(back)} back"
    shared = "" if both is None else f", {_rate(both)} both together"
    latency = f"{units.show(link.latency.value, 's')} ({link.latency.provenance})"
    return f"{wording.link_kind(link.kind)}, {rate}{shared}, {latency}" + (
        ", coherent" if link.coherent else ""
    )


def _rate(figure: BandwidthFigure) -> str:
    return f"{units.show(figure.value, 'bytes/s')} ({figure.provenance})"
