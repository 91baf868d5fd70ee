"""Hand-made machines for the tests of the reports."""

from __future__ import annotations

from collections.abc import Mapping

from planner.schema import BandwidthFigure, BytesFigure, FlopsFigure, LatencyFigure, PriceFigure, RatioFigure
from planner.topology import (
    Device,
    Fabric,
    FabricLayout,
    Gpu,
    Link,
    Machine,
    Mesh,
    Nic,
    NodeGroup,
    NumaDomain,
    Switch,
    Topology,
    TopologyDocument,
    resolve,
)

GB = 1e9
HOSTILE = '</script><script>alert("x")</script><!-- \'&\u202e\u0001é😀'
HOSTILE_PART = '<b onload="x">\'&\u202eé😀'


def rate(gigabytes: float, provenance: str = "vendor") -> BandwidthFigure:
    """Return a rate of some GB/s."""
    return BandwidthFigure.of(gigabytes * GB, provenance, "data sheet")  # type: ignore[arg-type]


def latency(seconds: float) -> LatencyFigure:
    """Return a latency."""
    return LatencyFigure.of(seconds, "assumed", "a guess")


def h100(name: str = "h100-sxm") -> Device:
    """Return a GPU model."""
    return Device(
        name=name,
        architecture="hopper",
        peak={"bf16": FlopsFigure.of(989e12, "vendor", "data sheet")},
        memory=BytesFigure.of(80 * 2**30, "vendor", "data sheet"),
        memory_bandwidth=rate(3350),
    )


def numa(
    name: str, arch: str = "x86-64", cores: int = 56, cpu: str | None = "Xeon Platinum 8480C"
) -> NumaDomain:
    """Return a NUMA domain."""
    return NumaDomain(
        name=name,
        arch=arch,
        cpu=cpu,
        cores=cores,
        core_speed=RatioFigure.of(1.0, "measured", "own run"),
        vector_bits=512,
        memory=BytesFigure.of(1.0e12, "vendor", "data sheet"),
        memory_bandwidth=rate(307),
    )


def link(
    left: str, right: str, kind: str, gigabytes: float, provenance: str = "vendor", *, coherent: bool = False
) -> Link:
    """Return a channel."""
    return Link(
        between=(left, right),
        kind=kind,  # type: ignore[arg-type]
        bandwidth=rate(gigabytes, provenance),
        latency=latency(5e-7),
        coherent=coherent,
    )


def dgx() -> Machine:
    """Return a machine of 2 sockets, 8 GPUs, 4 NVSwitches, 4 PCIe switches and 8 ports."""
    return Machine(
        name="dgx-h100",
        numa=[numa("numa[0-1]")],
        gpus=[Gpu(name=f"gpu[{4 * s}-{4 * s + 3}]", device="h100-sxm", numa=f"numa{s}") for s in (0, 1)],
        switches=[
            Switch(name="nvswitch[0-3]", kind="nvswitch", in_switch_reduction=True),
            Switch(name="plx[0-3]", kind="pcie"),
        ],
        nics=[Nic(name=f"nic{i}", numa=f"numa{i // 4}", bandwidth=rate(50), rail=i) for i in range(8)],
        links=[
            *(link("gpu[0-7]", f"nvswitch{i}", "nvlink", 112.5) for i in range(4)),
            link("gpu[0-7]", "plx[0-3]", "pcie", 55, "measured"),
            link("nic[0-7]", "plx[0-3]", "pcie", 55),
            link("plx[0-1]", "numa0", "pcie", 55, "measured"),
            link("plx[2-3]", "numa1", "pcie", 55, "measured"),
            link("numa0", "numa1", "socket", 62, "assumed", coherent=True),
        ],
        price=PriceFigure.of(98.32, "vendor", "price list"),
    )


def superchip(sockets: int = 4) -> Machine:
    """Return a machine of Grace Hopper superchips with direct NVLink between the GPUs."""
    last = sockets - 1
    return Machine(
        name="gh200-quad",
        numa=[numa(f"cpu[0-{last}]", "aarch64", 72, "Grace")],
        gpus=[Gpu(name=f"gpu[0-{last}]", device="h100-sxm", numa=f"cpu[0-{last}]", addressing="ats")],
        nics=[Nic(name=f"nic[0-{last}]", numa=f"cpu[0-{last}]", bandwidth=rate(25))],
        links=[
            link(f"cpu[0-{last}]", f"gpu[0-{last}]", "nvlink-c2c", 380, "measured", coherent=True),
            link(f"cpu[0-{last}]", f"nic[0-{last}]", "pcie", 55),
        ],
        meshes=[
            Mesh(among=[f"gpu[0-{last}]"], kind="nvlink", bandwidth=rate(150), latency=latency(7e-7)),
            Mesh(
                among=[f"cpu[0-{last}]"],
                kind="socket",
                bandwidth=rate(50),
                latency=latency(7e-7),
                coherent=True,
            ),
        ],
    )


def riscv_host() -> Machine:
    """Return a RISC-V host with two PCIe GPUs and no switch."""
    return Machine(
        name="riscv-pcie",
        numa=[numa("numa0", "riscv64", 64, None)],
        gpus=[Gpu(name="gpu[0-1]", device="h100-sxm", numa="numa0", addressing="hmm")],
        nics=[Nic(name="nic0", numa="numa0", bandwidth=rate(12.5, "assumed"))],
        links=[
            link("gpu[0-1]", "numa0", "pcie", 25, "assumed"),
            link("nic0", "numa0", "pcie", 12.5, "assumed"),
        ],
    )


def topology(
    machine: Machine | None = None,
    nodes: int = 1,
    *,
    pod: int = 32,
    shape: str = "rail-optimised",
    name: str = "test-cluster",
    node_name: str = "node-",
    more: Mapping[str, Machine] | None = None,
) -> Topology:
    """Return a cluster of equal nodes on a regular fabric, and ``more`` single nodes by name."""
    machine = machine or dgx()
    pattern = f"{node_name}[0-{nodes - 1}]" if nodes > 1 else node_name + "0"
    extra = dict(more or {})
    layout = FabricLayout(
        shape=shape,  # type: ignore[arg-type]
        nodes_per_leaf=pod,
        hop_latency=latency(6e-7),
        oversubscription=RatioFigure.of(2.0, "assumed", "a guess"),
    )
    fabric = Fabric(layout=layout) if nodes + len(extra) > 1 else None
    groups = [NodeGroup(name=pattern, machine=machine.name)]
    groups += [NodeGroup(name=key, machine=spec.name) for key, spec in extra.items()]
    machines = list({spec.name: spec for spec in (machine, *extra.values())}.values())
    document = TopologyDocument(
        name=name,
        machines=machines,
        nodes=groups,
        fabric=fabric,
        sources={"data sheet": "the vendor's data sheet, 2023"},
    )
    return resolve(document, {"h100-sxm": h100()})


def nvlink_domain(nodes: int = 4) -> Topology:
    """Return nodes of two GPUs whose NVLink switches are outside the nodes."""
    tray = superchip(2).model_copy(update={"meshes": [], "name": "tray"})
    document = TopologyDocument(
        name="rack",
        machines=[tray],
        nodes=[NodeGroup(name=f"tray-[0-{nodes - 1}]", machine="tray")],
        fabric=Fabric(
            switches=[Switch(name="nvs-[0-17]", kind="nvswitch", in_switch_reduction=True)],
            links=[link(f"tray-[0-{nodes - 1}]/gpu[0-1]", f"nvs-{s}", "nvlink", 50) for s in range(18)],
        ),
    )
    return resolve(document, {"h100-sxm": h100()})
