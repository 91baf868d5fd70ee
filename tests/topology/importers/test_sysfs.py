"""Snapshots of ``/sys`` and ``/proc``."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import PlannerError
from planner.topology.importers import snapshot
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.sysfs import architecture_of, read_snapshot
from tests.topology.importers.snapshots import CPU, NODE, riscv, with_pci, write_archive, write_folder


def test_interleaved_processors_of_a_riscv_host_are_exact(tmp_path: Path) -> None:
    """Nodes, clusters, memory, distances and instruction set of a RISC-V host."""
    view = read_snapshot(write_folder(tmp_path, riscv()))
    assert (view.arch, view.isa, view.packages, view.cores, view.processors) == (
        "riscv64",
        "rv64imafdcv",
        1,
        8,
        8,
    )
    assert [node.cpus for node in view.numa] == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert view.numa[1].distances == {0: 25.0, 1: 10.0} and view.numa[0].memory == 16 * 2.0**30
    assert view.clusters == 2 and view.remarks == ()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_read_like_folders(tmp_path: Path, name: str, form: int) -> None:
    """However it is packed, a snapshot gives the same view as its files."""
    files, links = with_pci()
    folder = read_snapshot(write_folder(tmp_path / "folder", files, links))
    archive = write_archive(tmp_path / name, files, links, prefix=f"{'x' * 60}/{'y' * 60}/", form=form)
    assert read_snapshot(archive) == folder


def test_devices_are_found_below_their_bridges(tmp_path: Path) -> None:
    """GPUs with PCIe link, NUMA node and memory node; adapters with their rate; console chips left out."""
    view = read_snapshot(write_folder(tmp_path, *with_pci()))
    gpu, nic = view.gpus[0], view.nics[0]
    assert (gpu.name, gpu.bus_id, gpu.product, gpu.numa, gpu.memory_numa) == (
        "GPU0",
        "0000:01:00.0",
        "10de:2342",
        0,
        2,
    )
    assert (gpu.pcie_generation, gpu.pcie_width) == (5, 16)
    assert (nic.name, nic.numa, nic.ports, nic.speeds) == ("mlx5_0", 1, 1, (50e9,))
    assert view.bridges == {"0000:01:00.0": ("0000:00:01.0",), "0000:02:00.0": ()}
    assert view.numa[2].device_memory and view.numa[2].cpus == () and view.remarks == ()
    assert len(view.gpus) == len(view.nics) == 1


def test_a_host_without_numa_says_so(tmp_path: Path) -> None:
    """Without the folder of nodes nothing is made up."""
    files = {name: text for name, text in riscv().items() if not name.startswith(NODE)}
    view = read_snapshot(write_folder(tmp_path, files))
    assert view.numa == () and any("no NUMA information" in remark.text for remark in view.remarks)


def test_unknown_identities_stay_unknown(tmp_path: Path) -> None:
    """Where the kernel writes -1 for core and package, their numbers stay open."""
    files = riscv() | {
        f"{CPU}/cpu3/topology/core_id": "-1\n",
        f"{CPU}/cpu0/topology/physical_package_id": "-1\n",
    }
    view = read_snapshot(write_folder(tmp_path, files))
    assert view.cores is None and view.packages is None and view.processors == 8 and len(view.remarks) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{NODE}/node1/cpumap", "00000000,00000033\n"),  # processors in two nodes
        (f"{NODE}/node0/cpulist", "0-3\n"),  # list and mask differ
        (f"{NODE}/node0/cpumap", "hello\n"),
        (f"{NODE}/online", "0-3\n"),  # nodes are missing
        (f"{CPU}/online", "0-6\n"),  # a node has a processor that does not run
        (f"{CPU}/online", "all\n"),
        (f"{CPU}/cpu3/topology/core_cpus_list", "2\n"),  # a processor outside its own core
    ],
)
def test_contradictory_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    """What the kernel never writes is refused."""
    with pytest.raises(ImportRefusedError):
        read_snapshot(write_folder(tmp_path, riscv() | {name: text}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{NODE}/node0/distance", "10\n"),
        (f"{NODE}/node1/cpumap", "00000000,0000004c\n"),  # processor 7 is in no node
        (f"{CPU}/online", "0-8\n"),
        ("proc/cpuinfo", "processor : 0\n"),
    ],
)
def test_doubtful_files_are_remarked(tmp_path: Path, name: str, text: str) -> None:
    """What is missing is said, and the rest is read."""
    assert read_snapshot(write_folder(tmp_path, riscv() | {name: text})).remarks


@pytest.mark.parametrize(
    ("fields", "arch"),
    [
        ({"isa": "rv32imac"}, "riscv32"),
        ({"flags": "fpu lm"}, "x86_64"),
        ({"CPU implementer": "0x41", "Features": "fp asimd"}, "aarch64"),
        ({"cpu": "POWER9, altivec supported"}, "ppc64"),
        ({"CPU Family": "Loongson-64bit"}, "loongarch64"),
        ({"vendor_id": "IBM/S390"}, "s390x"),
        ({"model": "E2K"}, None),
    ],
)
def test_architectures(fields: dict[str, str], arch: str | None) -> None:
    """The architecture shows in the fields; an unknown one stays unknown."""
    assert architecture_of(fields) == arch


def test_an_unknown_architecture_is_imported(tmp_path: Path) -> None:
    """A host of an architecture that nobody knows has its nodes all the same."""
    view = read_snapshot(write_folder(tmp_path, riscv() | {"proc/cpuinfo": "cpu : Elbrus\n"}))
    assert view.arch is None and len(view.numa) == 2
    assert any("architecture is unknown" in remark.text for remark in view.remarks)


def test_links_never_leave_the_snapshot(tmp_path: Path) -> None:
    """Links to absolute places and above the root stay inside; circles end."""
    secret = tmp_path / "secret"
    secret.write_text("0-1\n", encoding="utf-8")
    files = riscv()
    online = files.pop(f"{CPU}/online")
    for target in (str(secret), "../" * 30 + str(secret).lstrip("/"), f"/{CPU}/online"):
        folder = write_folder(tmp_path / str(abs(hash(target))), files, {f"{CPU}/online": target})
        view = read_snapshot(folder)
        assert view.processors == 8 and any("online is missing" in remark.text for remark in view.remarks)
    inside = write_folder(
        tmp_path / "inside", files | {"proc/online": online}, {f"{CPU}/online": "/proc/online"}
    )
    assert read_snapshot(inside).remarks == ()


def test_archives_with_climbing_names_are_read_without_them(tmp_path: Path) -> None:
    """Members outside the root of the snapshot are not seen, and nothing is written."""
    files = riscv() | {"../../etc/evil": "x", f"../../{CPU}/cpu9/topology/core_id": "9\n"}
    before = set(tmp_path.parent.iterdir())
    assert read_snapshot(write_archive(tmp_path / "a.tar", files)).processors == 8
    assert set(tmp_path.parent.iterdir()) == before


def test_archives_beyond_bounds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to more than any snapshot is refused before it fills the memory."""
    monkeypatch.setattr(snapshot, "LARGEST_TREE", 1_000_000)
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(b"\0" * 50_000_000))
    with pytest.raises(ImportRefusedError, match="unpacks to more"):
        read_snapshot(bomb)


def test_archives_with_two_hosts_are_refused(tmp_path: Path) -> None:
    """A snapshot is of one host."""
    files = {f"{host}/{name}": text for host in ("a", "b") for name, text in riscv().items()}
    with pytest.raises(ImportRefusedError, match="2 folders"):
        read_snapshot(write_archive(tmp_path / "two.tar", files, prefix=""))
    with pytest.raises(ImportRefusedError, match="0 folders"):
        read_snapshot(write_folder(tmp_path / "empty", {"readme": "x"}))


@given(seed=st.integers(0, 2**32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2"])
def test_damaged_archives_are_refused_or_harmless(tmp_path: Path, name: str, seed: int) -> None:
    """A cut or altered archive raises nothing but the typed error; a packed one gives no other view."""
    path = tmp_path / name
    whole = path.read_bytes() if path.exists() else write_archive(path, riscv()).read_bytes()
    rng = random.Random(seed)
    data = bytearray(whole)
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    for _ in range(rng.randint(0, 4)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    damaged = tmp_path / f"damaged-{name}"
    damaged.write_bytes(data)
    try:
        view = read_snapshot(damaged)
    except PlannerError:
        return
    if name != "a.tar":  # packed archives carry checksums
        assert view == read_snapshot(path) or view.remarks


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A text, an empty file and a missing one are no snapshots."""
    for name, data in (("a.txt", b"hello" * 300), ("empty.tar", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImportRefusedError):
            read_snapshot(tmp_path / name)
    with pytest.raises(ImportRefusedError, match="cannot be read"):
        read_snapshot(tmp_path / "missing.tar")
    hollow = io.BytesIO()
    tarfile.open(fileobj=hollow, mode="w").close()
    (tmp_path / "hollow.tar").write_bytes(hollow.getvalue())
    with pytest.raises(ImportRefusedError, match="0 folders"):
        read_snapshot(tmp_path / "hollow.tar")


@pytest.mark.parametrize(
    ("row", "doubt"),
    [("1 25\n", "nodes 0 and 0 is 1"), ("10 35\n", "is 35, back 25"), (None, "nodes 0 state no distances")],
)
def test_odd_distances_are_remarked(tmp_path: Path, row: str | None, doubt: str) -> None:
    """A node is at 10 of itself, two are as far from each other either way, and all or none say so."""
    files = riscv()
    if row is None:
        del files[f"{NODE}/node0/distance"]
    else:
        files[f"{NODE}/node0/distance"] = row
    assert any(doubt in remark.text for remark in read_snapshot(write_folder(tmp_path, files)).remarks)
