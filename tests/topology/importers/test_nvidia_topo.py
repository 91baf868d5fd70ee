"""Tables of ``nvidia-smi topo``: what clean and dirty ones say, and which are refused."""

from __future__ import annotations

from itertools import combinations

import pytest

from planner.topology.importers.nvidia_nvlink import read_nvidia_nvlink
from planner.topology.importers.nvidia_topo import P2P, TopoView, read_nvidia_topo
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import HostView
from tests.topology.importers.samples import CELLS, COLUMNS, LEGEND, NVLINK, TAILS, TOPO, table


def plain(view: HostView) -> tuple[object, ...]:
    """Return what a view says of links, classes and nodes."""
    return view.gpus, view.nics, view.numa, dict(view.gpu_links), dict(view.path_classes)


def test_every_cell_and_column_is_read() -> None:
    """Links, classes, processors and NUMA nodes of a clean table are exactly those printed, unremarked."""
    view = read_nvidia_topo(TOPO, "topo.txt")
    assert view.remarks == ()
    assert dict(view.gpu_links) == dict.fromkeys(combinations(["GPU0", "GPU1", "GPU2", "GPU3"], 2), 4)
    assert view.path_classes["GPU1", "NIC0"] == "PXB" and view.path_classes["GPU3", "NIC1"] == "NODE"
    assert [gpu.numa for gpu in view.gpus] == [0, 0, 1, 1]
    assert [node.cpus for node in view.numa] == [(*range(8), *range(16, 24)), (*range(8, 16), *range(24, 32))]
    assert isinstance(view, TopoView) and view.nic_names == {"NIC0": "mlx5_0", "NIC1": "mlx5_3"}


@pytest.mark.parametrize(
    "dirty",
    [
        TOPO.replace("\n", "\r\n"),
        "\ufeff" + TOPO,
        TOPO.replace("\t", "    "),
        TOPO.replace("\t", "\t\t"),
        "nvidia-smi topo -m\n" + TOPO,
        "\x1b[4m" + TOPO.replace("\n", "\x1b[0m\n", 1),
    ],
    ids=["crlf", "bom", "spaces", "doubled tabs", "command line", "colours"],
)
def test_form_of_blanks_and_lines_changes_nothing(dirty: str) -> None:
    """Line ends, byte-order marks, tabs, spaces and colours do not change what is read."""
    assert plain(read_nvidia_topo(dirty, "topo.txt")) == plain(read_nvidia_topo(TOPO, "topo.txt"))


@pytest.mark.parametrize("fused", [("NV4\tPIX", "NV4PIX"), ("\tGPU1\t", "GPU1\t"), (" X \tNV4", "XNV4")])
def test_fused_cells_are_taken_apart_with_a_remark(fused: tuple[str, str]) -> None:
    """Cells that run together are read as before, and a remark names the line."""
    dirty = TOPO.replace(*fused, 1)
    view = read_nvidia_topo(dirty, "topo.txt")
    assert plain(view) == plain(read_nvidia_topo(TOPO, "topo.txt"))
    assert view.remarks and view.remarks[0].line > 0


def test_words_behind_a_row_are_ignored_with_a_remark() -> None:
    """Remarks written by hand at the end of a line are not taken for values."""
    cells = [row[:2] for row in CELLS[:2]]
    text = table(cells, ["  <-- GPU 0 talks to 1", ""], "", ("GPU0", "GPU1"), "")
    view = read_nvidia_topo(text, "topo.txt")
    assert [gpu.numa for gpu in view.gpus] == [None, None] and view.numa == ()
    assert [remark.line for remark in view.remarks] == [2]


def test_lists_of_processors_without_numbers_are_numbered_with_a_remark() -> None:
    """Where the table has no NUMA column, each list of processors counts as one node, and that is said."""
    text = table(tails=[tail.split("\t")[0] for tail in TAILS], columns="CPU Affinity")
    view = read_nvidia_topo(text, "topo.txt")
    assert [gpu.numa for gpu in view.gpus] == [0, 0, 1, 1]
    assert isinstance(view, TopoView) and view.numbered_here and view.remarks


def test_memory_of_gpus_is_not_host_memory() -> None:
    """GPU NUMA IDs, and the further nodes beside them, are nodes of device memory without processors."""
    tails = ["0-7\t0,5-6\t\t4", "0-7\t0,5-6\t\t4", "8-15\t1,13\t\t12", "8-15\t1,13\t\t12", "", ""]
    view = read_nvidia_topo(table(tails=tails), "topo.txt")
    assert [gpu.memory_numa for gpu in view.gpus] == [4, 4, 12, 12]
    assert [(node.number, node.device_memory) for node in view.numa] == [
        (0, False), (1, False), (4, True), (5, True), (6, True), (12, True), (13, True),
    ]  # fmt: skip


def test_contradiction_between_columns_is_remarked() -> None:
    """A SYS path inside one NUMA node, and one node with two lists of processors, leave a remark."""
    tails = [TAILS[0]] * 3 + [TAILS[2].replace("\t1\t", "\t0\t"), "", ""]
    view = read_nvidia_topo(table(tails=tails), "topo.txt")
    assert any("node 0 has the processors" in remark.text for remark in view.remarks)
    assert view.numa[0].cpus is None


def test_numa_switched_off_is_remarked() -> None:
    """One node for all with NODE between host bridges does not prove one socket."""
    cells = [[cell.replace("SYS", "NODE") for cell in row] for row in CELLS]
    view = read_nvidia_topo(table(cells, ["0-31\t0\t\tN/A"] * 4 + ["", ""]), "topo.txt")
    assert any("NUMA may be off" in remark.text for remark in view.remarks)


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (("GPU1\tNV4", "GPU1\tNV2"), 2, "back it is NV2 in line 3"),
        (("GPU2\tNV4\tNV4\t X \t", "GPU2\tNV4\t X \tNV4\t"), 4, "X belongs on the diagonal"),
        (("GPU3\tNV4", "GPU2\tNV4"), 5, "a second row for GPU2"),
        (("GPU3\tNV4", "GPU9\tNV4"), 5, "which the header does not name"),
        (("NODE\t8-15", "8-15"), 5, "has 5 cells"),
        (("\tNIC0\tNIC1", "\tNIC0\tNIC0"), 1, "names NIC0 twice"),
        (("SYS\t0-7", "SYSx\t0-7"), 2, "is no class of path"),
        (("NV4", "NV0"), 0, ""),
    ],
)
def test_contradictory_tables_are_refused(change: tuple[str, str], line: int, reason: str) -> None:
    """A table that contradicts itself, or has a strange cell, is refused with its line."""
    with pytest.raises(ImportRefusedError) as caught:
        read_nvidia_topo(TOPO.replace(*change, 1), "topo.txt")
    assert reason in str(caught.value)
    assert not line or caught.value.line == line


def test_cut_table_is_refused_and_missing_adapter_rows_are_remarked() -> None:
    """Rows of GPUs must be there; rows of adapters repeat what the GPUs' rows say but for their own paths."""
    lines = table(legend="").splitlines()
    with pytest.raises(ImportRefusedError, match="no row for GPU3"):
        read_nvidia_topo("\n".join(lines[:4]), "topo.txt")
    view = read_nvidia_topo("\n".join(lines[:5]), "topo.txt")
    assert ("NIC0", "NIC1") not in view.path_classes and view.remarks


def test_states_of_peer_access_are_no_links() -> None:
    """A table of ``topo -p2p`` is recognised, and no link comes from it."""
    cells = [["X" if row == column else "OK" for column in range(3)] for row in range(3)]
    view = read_nvidia_topo(table(cells, [""] * 3, "", ("GPU0", "GPU1", "GPU2"), ""), "p2p.txt")
    assert view.format == P2P and not view.gpu_links and view.link_kind is None
    assert set(view.path_classes.values()) == {"OK"}
    cells[0][1] = cells[1][0] = "NV4"
    with pytest.raises(ImportRefusedError, match="in one table"):
        read_nvidia_topo(table(cells, [""] * 3, "", ("GPU0", "GPU1", "GPU2"), ""), "p2p.txt")


def test_two_tables_and_no_table_are_refused() -> None:
    """One file holds one table."""
    with pytest.raises(ImportRefusedError, match="a second table"):
        read_nvidia_topo(TOPO + TOPO, "topo.txt")
    with pytest.raises(ImportRefusedError, match="no line with the devices"):
        read_nvidia_topo(LEGEND, "topo.txt")
    assert COLUMNS in TOPO


def test_ports_of_nvlink_are_counted_and_rated() -> None:
    """``nvlink -s`` gives active links and their raw rate; inactive ports do not count."""
    view = read_nvidia_nvlink(NVLINK, "nvlink.txt")
    assert dict(view.active_links) == {"GPU0": 2, "GPU1": 2} and view.link_rate == 25e9
    assert view.gpus[0].product == "NVIDIA A100-SXM4-80GB" and not view.gpu_links


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("GPU 1", "GPU 0"), "named twice"),
        (("Link 1", "Link 0"), "named twice"),
        (("25 GB/s", "25000 GB/s"), "no link runs at"),
        (("Link 0", "Port 0"), "neither a GPU nor a link"),
    ],
)
def test_contradictory_ports_are_refused(change: tuple[str, str], reason: str) -> None:
    """Doubled ports, impossible rates and strange lines are refused."""
    with pytest.raises(ImportRefusedError, match=reason):
        read_nvidia_nvlink(NVLINK.replace(*change, 1), "nvlink.txt")
