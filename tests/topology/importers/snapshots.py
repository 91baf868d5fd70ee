"""Snapshots of made-up hosts: ``/sys`` and ``/proc`` as files, folders and archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

CPU, NODE = "sys/devices/system/cpu", "sys/devices/system/node"
RISCV_CPUINFO = "processor\t: {0}\nhart\t\t: {0}\nisa\t\t: rv64imafdcv\nmmu\t\t: sv39\n\n"


def riscv() -> dict[str, str]:
    """Return a RISC-V host of eight cores, two clusters, and two nodes with interleaved processors."""
    files = {f"{CPU}/online": "0-7\n", "proc/cpuinfo": "".join(map(RISCV_CPUINFO.format, range(8)))}
    for cpu in range(8):
        topology = f"{CPU}/cpu{cpu}/topology"
        files |= {
            f"{topology}/core_id": f"{cpu % 4}\n",
            f"{topology}/core_cpus_list": f"{cpu}\n",
            f"{topology}/physical_package_id": "0\n",
            f"{topology}/package_cpus_list": "0-7\n",
            f"{topology}/cluster_id": f"{cpu // 4}\n",
            f"{topology}/cluster_cpus_list": "0-3\n" if cpu < 4 else "4-7\n",
        }
    for node, mask in enumerate(("00000000,00000033\n", "00000000,000000cc\n")):
        files[f"{NODE}/node{node}/cpumap"] = mask
        files[f"{NODE}/node{node}/meminfo"] = f"Node {node} MemTotal:   16777216 kB\n"
        files[f"{NODE}/node{node}/distance"] = "10 25\n" if node == 0 else "25 10\n"
    return files


def with_pci() -> tuple[dict[str, str], dict[str, str]]:
    """Return that host with a GPU whose memory is node 2, an adapter and a console chip, and its links."""
    files = riscv()
    files[f"{NODE}/node2/cpumap"] = "00000000,00000000\n"
    for node, row in enumerate(("10 25 80\n", "25 10 80\n", "80 80 10\n")):
        files[f"{NODE}/node{node}/distance"] = row
    root = "sys/devices/pci0000:00"
    devices = {
        "0000:00:01.0": (f"{root}/0000:00:01.0", "0x060400", "0x8086", "0x2030", "0"),
        "0000:01:00.0": (f"{root}/0000:00:01.0/0000:01:00.0", "0x030200", "0x10de", "0x2342", "0"),
        "0000:02:00.0": (f"{root}/0000:02:00.0", "0x020700", "0x15b3", "0x1021", "1"),
        "0000:03:00.0": (f"{root}/0000:03:00.0", "0x030000", "0x1a03", "0x2000", "-1"),
    }
    links = {}
    for address, (path, code, vendor, device, near) in devices.items():
        facts = {
            "max_link_speed": "32.0 GT/s PCIe",
            "max_link_width": "16",
            "class": code,
            "vendor": vendor,
            "device": device,
            "numa_node": near,
        }
        files |= {f"{path}/{name}": f"{value}\n" for name, value in facts.items()}
        links[f"sys/bus/pci/devices/{address}"] = "../../../" + path.removeprefix("sys/")
    files[f"{root}/0000:02:00.0/infiniband/mlx5_0/ports/1/rate"] = "400 Gb/sec (4X NDR)\n"
    files["proc/driver/nvidia/gpus/0000:01:00.0/numa_status"] = "Node: 2\nStatus: online\n"
    return files, links


def write_folder(folder: Path, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
    """Write a snapshot as a folder."""
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    for name, target in (links or {}).items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    return folder


def write_archive(
    path: Path, files: dict[str, str], links: dict[str, str] | None = None, *, prefix: str = "host/",
    form: int = tarfile.GNU_FORMAT,
) -> Path:  # fmt: skip
    """Write a snapshot as an archive, packed as the end of its name says."""
    packing = {".gz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{packing}", format=form) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            member = tarfile.TarInfo(prefix + name)
            data = text.encode().ljust(4096, b"\0") if name.endswith("cpulist") else text.encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(prefix + name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path
