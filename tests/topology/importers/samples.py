"""Small dumps of made-up machines, as the tools would print them."""

from __future__ import annotations

from collections.abc import Sequence

LEGEND = """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NV#  = Connection traversing a bonded set of # NVLinks

NIC Legend:

  NIC0: mlx5_0
  NIC1: mlx5_3
"""
CELLS = (
    ("X", "NV4", "NV4", "NV4", "PIX", "SYS"),
    ("NV4", "X", "NV4", "NV4", "PXB", "SYS"),
    ("NV4", "NV4", "X", "NV4", "SYS", "PHB"),
    ("NV4", "NV4", "NV4", "X", "SYS", "NODE"),
    ("PIX", "PXB", "SYS", "SYS", "X", "SYS"),
    ("SYS", "SYS", "PHB", "NODE", "SYS", "X"),
)
DEVICES = ("GPU0", "GPU1", "GPU2", "GPU3", "NIC0", "NIC1")
TAILS = ("0-7,16-23\t0\t\tN/A", "0-7,16-23\t0\t\tN/A", "8-15,24-31\t1\t\tN/A", "8-15,24-31\t1\t\tN/A", "", "")
COLUMNS = "CPU Affinity\tNUMA Affinity\tGPU NUMA ID"


def table(
    cells: Sequence[Sequence[str]] = CELLS,
    tails: Sequence[str] = TAILS,
    columns: str = COLUMNS,
    devices: Sequence[str] = DEVICES,
    legend: str = LEGEND,
) -> str:
    """Return a table of ``nvidia-smi topo -m``."""
    header = "\t" + "\t".join(devices) + (f"\t{columns}" if columns else "")
    rows = [
        "\t".join([name, *(f" {cell} " if cell == "X" else cell for cell in row), tail])
        for name, row, tail in zip(devices, cells, tails, strict=True)
    ]
    return "\n".join([header, *rows]) + "\n" + legend


TOPO = table()

QUERY_GPU = """\
	<gpu id="00000000:{bus}:00.0">
		<product_name>{product}</product_name>
		<addressing_mode>{addressing}</addressing_mode>
		<mig_mode>
			<current_mig>Disabled</current_mig>
			<pending_mig>Disabled</pending_mig>
		</mig_mode>
		<c2c_mode>{c2c}</c2c_mode>
		<pci>
			<pci_bus_id>00000000:{bus}:00.0</pci_bus_id>
			<pci_gpu_link_info>
				<pcie_gen>
					<max_link_gen>4</max_link_gen>
				</pcie_gen>
				<link_widths>
					<max_link_width>16x</max_link_width>
				</link_widths>
			</pci_gpu_link_info>
		</pci>
		<fb_memory_usage>
			<total>{memory} MiB</total>
			<reserved>600 MiB</reserved>
			<used>10 MiB</used>
			<free>{free} MiB</free>
		</fb_memory_usage>
		<fabric>
			<state>Completed</state>
			<cliqueId>3</cliqueId>
			<clusterUuid>00000000-0000-0000-0000-000000000007</clusterUuid>
		</fabric>
	</gpu>
"""
QUERY_BUSES = ("1B", "3D", "AC", "CA")


def query(
    buses: Sequence[str] = QUERY_BUSES,
    product: str = "NVIDIA A100-SXM4-80GB",
    memory: int = 81920,
    addressing: str = "HMM",
    c2c: str = "N/A",
) -> str:
    """Return the XML of ``nvidia-smi -q -x``."""
    gpus = "".join(
        QUERY_GPU.format(
            bus=bus, product=product, addressing=addressing, c2c=c2c, memory=memory, free=memory - 610
        )
        for bus in buses
    )
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
        "\t<driver_version>570.1.1</driver_version>\n"
        f"\t<attached_gpus>{len(buses)}</attached_gpus>\n{gpus}</nvidia_smi_log>\n"
    )


NVLINK_PORTS = "\t Link 0: 25 GB/s\n\t Link 1: 25 GB/s\n\t Link 2: <inactive>\n"
NVLINK = "".join(
    f"GPU {index}: NVIDIA A100-SXM4-80GB (UUID: GPU-0000000{index})\n{NVLINK_PORTS}" for index in range(2)
)

LINK = 'link_speed="16.0 GT/s PCIe" link_width="16"'
NCCL = """\
<system version="1">
  <cpu numaid="0" affinity="00ff00ff" arch="x86_64" vendor="AuthenticAMD" familyid="25" modelid="1">
    <pci busid="0000:18:00.0" class="0x060400" @LINK@>
      <pci busid="0000:1b:00.0" class="0x030200" vendor="0x10de" device="0x20b2" @LINK@>
        <gpu dev="0" sm="80" rank="0" gdr="1">
          <nvlink target="0000:3d:00.0" count="4" tclass="0x030200"/>
          <nvlink target="0000:ac:00.0" count="2" tclass="0x030200"/>
        </gpu>
      </pci>
      <pci busid="0000:1c:00.0" class="0x020700" vendor="0x15b3" device="0x101b" @LINK@>
        <nic>
          <net name="mlx5_0" dev="0" speed="200000" port="1" guid="0x1" maxconn="131072" gdr="1"/>
        </nic>
      </pci>
    </pci>
    <pci busid="0000:3d:00.0" class="0x030200" vendor="0x10de" device="0x20b2" @LINK@>
      <gpu dev="1" sm="80" rank="1" gdr="1">
        <nvlink target="0000:1b:00.0" count="4" tclass="0x030200"/>
      </gpu>
    </pci>
  </cpu>
  <cpu numaid="1" affinity="ff00ff00" arch="x86_64" vendor="AuthenticAMD" familyid="25" modelid="1">
    <pci busid="0000:ac:00.0" class="0x030200" vendor="0x10de" device="0x20b2" @LINK@>
      <gpu dev="2" sm="80" rank="2" gdr="1">
        <nvlink target="0000:1b:00.0" count="2" tclass="0x030200"/>
      </gpu>
    </pci>
    <nic>
      <net name="eth0" dev="1" speed="25000" port="0" guid="0x2" maxconn="65536" gdr="0"/>
    </nic>
  </cpu>
</system>
""".replace("@LINK@", LINK)
