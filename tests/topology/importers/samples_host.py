"""Small dumps of made-up hosts and fabrics, as other programs would write them."""

from __future__ import annotations

import json


def _processor(number: int, node: int, core: int, gp: int) -> str:
    mask = f'cpuset="0x{1 << number:08x}" nodeset="0x{1 << node:08x}"'
    return (
        f'<object type="Core" os_index="{core}" {mask} gp_index="{gp}">\n'
        f'<object type="PU" os_index="{number}" {mask} gp_index="{gp + 100}"/>\n</object>\n'
    )


def _gpu(address: str, number: int, gp: int, bridge: str) -> str:
    return f"""<object type="Bridge" gp_index="{gp}" bridge_type="0-1" depth="0">
<object type="Bridge" gp_index="{gp + 1}" bridge_type="1-1" pci_busid="{bridge}" \
pci_type="0604 [8086:2030] [0:0] 07">
<object type="PCIDev" gp_index="{gp + 2}" pci_busid="{address}" pci_type="0302 [10de:1db5] [10de:1249] a1" \
pci_link_speed="15.753846">
<object type="OSDev" gp_index="{gp + 3}" name="cuda{number}" subtype="CUDA" osdev_type="5">
<info name="GPUModel" value="Tesla V100-SXM2-32GB"/>
<info name="CUDAGlobalMemorySize" value="33292288"/>
</object>
<object type="OSDev" gp_index="{gp + 4}" name="nvml{number}" osdev_type="1">
<info name="GPUModel" value="Tesla V100-SXM2-32GB"/>
</object>
</object>
</object>
</object>
"""


def hwloc(*, version: str = ' version="2.0"', extra: str = "", distances: str | None = None) -> str:
    """Return an export of two sockets with two cores and a V100 each, joined by two NVLinks."""
    links = """<distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">
<indexes length="4">0 1 </indexes>
<u64values length="12">10 21 21 10 </u64values>
</distances2>
<distances2 type="OSDev" nbobjs="2" kind="25" name="NVLinkBandwidth" indexing="gp">
<indexes length="8">504 604 </indexes>
<u64values length="28">1000000 50000 50000 1000000 </u64values>
</distances2>
"""
    sockets = ""
    for node in range(2):
        mask = f'cpuset="0x{3 << 2 * node:08x}" nodeset="0x{1 << node:08x}"'
        sockets += f'<object type="Package" os_index="{node}" {mask} gp_index="{10 + node}">\n'
        sockets += (
            '<info name="CPUVendor" value="GenuineIntel"/>\n<info name="CPUModel" value="Xeon Gold 0000"/>\n'
        )
        memory = f'gp_index="{20 + node}" local_memory="68719476736"'
        sockets += f'<object type="NUMANode" os_index="{node}" {mask} {memory}/>\n'
        sockets += _processor(2 * node, node, 0, 30 + 2 * node) + _processor(
            2 * node + 1, node, 1, 31 + 2 * node
        )
        sockets += _gpu(f"0000:{node + 1}8:00.0", node, 500 + 100 * node, f"0000:{node + 1}7:00.0")
        sockets += extra if node == 1 else ""
        sockets += "</object>\n"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology{version}>
<object type="Machine" os_index="0" cpuset="0x0000000f" nodeset="0x00000003" gp_index="1">
<info name="Architecture" value="x86_64"/>
{sockets}</object>
{links if distances is None else distances}</topology>
"""


VGA = """<object type="PCIDev" gp_index="700" pci_busid="0000:03:00.0" \
pci_type="0300 [1002:515e] [0014:0019] 02"/>
<object type="PCIDev" gp_index="701" pci_busid="0000:04:00.0" pci_type="0207 [15b3:101b] [15b3:0006] 00">
<object type="OSDev" gp_index="702" name="ib0" osdev_type="2"/>
<object type="OSDev" gp_index="703" name="mlx5_0" osdev_type="3"><info name="Port1State" value="4"/></object>
</object>
"""
"""A console chip and an InfiniBand adapter."""

OLD_HWLOC = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc.dtd">
<topology>
<object type="Machine" os_index="0" cpuset="0x0000000f" nodeset="0x80000000,,,,,,,0x00000101">
<info name="Architecture" value="ppc64le"/>
<distances nbobjs="3" relative_depth="2" latency_base="10.000000">
<latency value="1.000000"/><latency value="4.000000"/><latency value="8.000000"/>
<latency value="4.000000"/><latency value="1.000000"/><latency value="8.000000"/>
<latency value="8.000000"/><latency value="8.000000"/><latency value="1.000000"/>
</distances>
<object type="Group" cpuset="0x0000000f" nodeset="0x00000101">
<object type="NUMANode" os_index="0" cpuset="0x00000003" nodeset="0x00000001" local_memory="137438953472">
<object type="Socket" os_index="0" cpuset="0x00000003" nodeset="0x00000001">
<object type="Core" os_index="0" cpuset="0x00000003" nodeset="0x00000001">
<object type="PU" os_index="0" cpuset="0x00000001" nodeset="0x00000001"/>
<object type="PU" os_index="1" cpuset="0x00000002" nodeset="0x00000001"/>
</object>
</object>
</object>
<object type="NUMANode" os_index="8" cpuset="0x0000000c" nodeset="0x00000100" local_memory="137438953472">
<object type="Socket" os_index="8" cpuset="0x0000000c" nodeset="0x00000100">
<object type="Core" os_index="8" cpuset="0x0000000c" nodeset="0x00000100">
<object type="PU" os_index="2" cpuset="0x00000004" nodeset="0x00000100"/>
<object type="PU" os_index="3" cpuset="0x00000008" nodeset="0x00000100"/>
</object>
</object>
</object>
</object>
<object type="NUMANode" os_index="255" cpuset="0x0" nodeset="0x80000000,,,,,,,0x0" \
local_memory="17179869184"/>
</object>
</topology>
"""
"""A POWER9 host of hwloc 1: NUMA nodes around the sockets, the memory of a GPU as node 255."""

LSCPU = """Architecture:        x86_64
CPU op-mode(s):      32-bit, 64-bit
Byte Order:          Little Endian
CPU(s):              8
On-line CPU(s) list: 0-7
Thread(s) per core:  2
Core(s) per socket:  2
Socket(s):           2
NUMA node(s):        2
Vendor ID:           GenuineIntel
Model name:          Xeon Gold 0000
NUMA node0 CPU(s):   0,1,4,5
NUMA node1 CPU(s):   2,3,6,7
Flags:               fpu vme
"""
LSCPU_TABLE = "# CPU,Core,Socket,Node\n" + "".join(
    f"{cpu},{cpu % 4},{cpu // 2 % 2},{cpu // 2 % 2}\n" for cpu in range(8)
)
RISCV = """CPU(s):              8
On-line CPU(s) list: 0-7
Thread(s) per core:  1
Core(s) per socket:  8
Socket(s):           1
ISA:                 rv64imafdcv
NUMA node(s):        2
NUMA node0 CPU(s):   0-1,4-5
NUMA node1 CPU(s):   2-3,6-7
"""

NUMACTL = """available: 3 nodes (0-1,8)
node 0 cpus: 0 1 4 5
node 0 size: 65536 MB
node 0 free: 60000 MB
node 1 cpus: 2 3 6 7
node 1 size: 65536 MB
node 1 free: 61000 MB
node 8 cpus:
node 8 size: 97280 MB
node 8 free: 97000 MB
node distances:
node   0   1   8
  0:  10  21  80
  1:  21  10  80
  8:  80  80  10
"""


def _switch(guid: str, name: str, ports: list[str]) -> str:
    head = f"vendid=0x2c9\ndevid=0xd2f2\nsysimgguid=0x{guid}\nswitchguid=0x{guid}({guid})\n"
    return head + f'Switch\t65 "S-{guid}"\t\t# "{name}" enhanced port 0 lid 7 lmc 0\n' + "".join(ports) + "\n"


def _adapter(guid: str, name: str, switch: str, port: int) -> str:
    head = f"vendid=0x2c9\ndevid=0x1021\nsysimgguid=0x{guid}\ncaguid=0x{guid}\n"
    line = f'[1]({guid}) \t"S-{switch}"[{port}]\t\t# lid 9 lmc 0 "leaf" lid 7 4xNDR\n'
    return head + f'Ca\t1 "H-{guid}"\t\t# "{name}"\n' + line + "\n"


def ibnet() -> str:
    """Return two switches with two cables between them, three adapters, and an aggregation node."""
    left, right = "2c5eab0300000001", "2c5eab0300000002"
    hosts = (
        ("e09d730300000001", "n1 mlx5_0", left, 1),
        ("e09d730300000002", "n2 mlx5_0", left, 2),
        ("e09d730300000003", "n2 mlx5_1", right, 1),
        ("e09d730300000009", "Mellanox Technologies Aggregation Node", right, 65),
    )
    ports: dict[str, list[str]] = {left: [], right: []}
    for guid, name, switch, port in hosts:
        ports[switch].append(f'[{port}]\t"H-{guid}"[1]({guid}) \t\t# "{name}" lid 9 4xNDR\n')
    for port in (33, 34):
        ports[left].append(f'[{port}]\t"S-{right}"[{port}]\t\t# "MF0;two:MQM9700/U1" lid 8 4xNDR\n')
        ports[right].append(f'[{port}]\t"S-{left}"[{port}]\t\t# "MF0;one:MQM9700/U1" lid 7 4xNDR\n')
    text = "#\n# Topology file: generated on Mon Jan  5 10:00:00 2026\n#\n\n"
    text += _switch(left, "MF0;one:MQM9700/U1", ports[left]) + _switch(
        right, "MF0;two:MQM9700/U1", ports[right]
    )
    return text + "".join(_adapter(*host) for host in hosts)


SLURM = """# a tree of two levels
SwitchName=spine Switches=leaf[1-2]
SwitchName=leaf1 Nodes=n[001-004],login1
SwitchName=leaf2 \\
    Nodes=n[005-008] LinkSpeed=100 # the second rack
"""
SLURM_BLOCKS = """BlockName=b1 Nodes=n[01-04]
BlockName=b2 Nodes=n[05-08]
BlockSizes=4,8
"""
SLURM_YAML = """- topology: fabric
  cluster_default: true
  tree:
    switches:
      - switch: spine
        children: leaf[1-2]
      - switch: leaf1
        nodes: n[1-2]
      - switch: leaf2
        nodes: n[3-4]
- topology: domains
  block:
    block_sizes: [2, 4]
    blocks:
      - block: b1
        nodes: n[1-2]
      - block: b2
        nodes: n[3-4]
- topology: all
  flat: true
"""
TOPOGRAPH = """switches:
  core:
    switches: [leaf-1, leaf-2]
blocks:
- switch: leaf-1
  nodes: ["n[1-2]", n3]
  annotations:
    accelerator.topology.test/domain: nvl-1
- switch: leaf-2
  nodes: ["n[4-6]"]
  annotations:
    accelerator.topology.test/domain: nvl-2
"""
OLD_TOPOGRAPH = """switches:
- name: core
  switches: [leaf1, leaf2]
- name: leaf1
  capacity_blocks: [cb1]
- name: leaf2
  capacity_blocks: [cb2]
capacity_blocks:
- {name: cb1, type: GB200, nvlink: nvl1, nodes: [n11, n12]}
- {name: cb2, type: GB200, nvlink: nvl2, nodes: [n21, n22]}
"""


def k8s_nodes() -> str:
    """Return two nodes of one NVLink partition below two leaves of one spine."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"gpu-{number}",
                "labels": {
                    "kubernetes.io/arch": "arm64",
                    "nvidia.com/gpu.product": "NVIDIA-GB200",
                    "nvidia.com/gpu.count": "4",
                    "nvidia.com/gpu.memory": "189471",
                    "nvidia.com/gpu.clique": "0a1b2c3d-0000-0000-0000-000000000001.2",
                    "accelerator.topograph.run/domain": "rack-1",
                    "fabric.topograph.run/tier-0": f"leaf-{number}",
                    "fabric.topograph.run/tier-1": "spine-1",
                },
            },
            "status": {"capacity": {"cpu": "144", "memory": "1000000Ki", "nvidia.com/gpu": "4"}},
        }
        for number in (1, 2)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)
