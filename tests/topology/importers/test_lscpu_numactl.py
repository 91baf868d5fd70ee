"""Text of lscpu and numactl."""

from __future__ import annotations

import json

import pytest

from planner.topology.importers.lscpu import read_lscpu
from planner.topology.importers.numactl import read_numactl
from planner.topology.importers.refusal import ImportRefusedError
from tests.topology.importers.samples_host import LSCPU, LSCPU_TABLE, NUMACTL, RISCV


def test_lscpu_tells_shape_and_nodes() -> None:
    """Sockets, cores, processors and the processors of each node."""
    view = read_lscpu(LSCPU, "lscpu.txt")
    assert (view.arch, view.packages, view.cores, view.processors) == ("x86_64", 2, 4, 8)
    assert [node.cpus for node in view.numa] == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert view.vendor == "GenuineIntel" and view.cpu == "Xeon Gold 0000" and view.remarks == ()


def test_lscpu_as_json_reads_alike() -> None:
    """Flat and nested JSON give the same host as the text."""
    pairs = [line.partition(":") for line in LSCPU.splitlines()]
    fields = [{"field": f"{key}:", "data": value.strip()} for key, _, value in pairs]
    flat = json.dumps({"lscpu": fields})
    nested = json.dumps({"lscpu": [{**fields[0], "children": fields[1:]}]})
    text = read_lscpu(LSCPU, "x")
    for form in (flat, nested):
        assert read_lscpu(form, "x") == text


def test_interleaved_nodes_of_riscv_are_exact() -> None:
    """The instruction set tells the architecture where no line does."""
    view = read_lscpu(RISCV, "lscpu.txt")
    assert view.arch == "riscv64" and view.isa == "rv64imafdcv"
    assert [node.cpus for node in view.numa] == [(0, 1, 4, 5), (2, 3, 6, 7)]


def test_the_table_must_agree() -> None:
    """A processor that the table puts elsewhere is a contradiction."""
    assert read_lscpu(LSCPU + LSCPU_TABLE, "x").remarks == ()
    with pytest.raises(ImportRefusedError, match="node 1 here"):
        read_lscpu(LSCPU + LSCPU_TABLE.replace("0,0,0,0", "0,0,0,1"), "x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2,3,6,7", "2,3,6"),
        ("2,3,6,7", "1,3,6,7"),
        ("2,3,6,7", "7-2"),
        ("NUMA node(s):        2", "NUMA node(s):        3"),
        ("CPU(s):              8", "CPU(s):              9"),
        ("CPU(s):              8", "Prozessoren:         8"),
        ("CPU(s):              8", "CPU(s):              eight"),
        ("Flags:", "NUMA node1 CPU(s): 2\nFlags:"),
        ("Flags:", "nonsense\nFlags:"),
    ],
)
def test_contradictory_lscpu_is_refused(old: str, new: str) -> None:
    """Lists that do not fit the counts, doubled lines and other languages are refused."""
    with pytest.raises(ImportRefusedError):
        read_lscpu(LSCPU.replace(old, new, 1), "x")


def test_counts_that_do_not_multiply_leave_the_cores_open() -> None:
    """Cores times threads must make the processors."""
    view = read_lscpu(LSCPU.replace("per socket:  2", "per socket:  3"), "x")
    assert view.cores is None and view.processors == 8 and view.remarks


def test_a_host_without_numa_lines_says_so() -> None:
    """No NUMA line means unknown, not one node."""
    text = "\n".join(line for line in RISCV.splitlines() if "NUMA" not in line) + "\n"
    view = read_lscpu(text, "x")
    assert view.numa == () and any("no NUMA information" in remark.text for remark in view.remarks)


def test_numactl_tells_memory_and_distances() -> None:
    """Nodes without processors are kept; sizes are in MiB whatever the program writes."""
    view = read_numactl(NUMACTL, "numactl.txt")
    assert [node.number for node in view.numa] == [0, 1, 8]
    assert view.numa[0].cpus == (0, 1, 4, 5) and view.numa[2].cpus == ()
    assert view.numa[2].memory == 97280 * 2.0**20 and view.numa[0].distances == {0: 10.0, 1: 21.0, 8: 80.0}
    assert any("node 8 has no processors" in remark.text for remark in view.remarks)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("available: 3", "available: 2"),
        ("node 1 cpus: 2", "node 1 cpus: 1"),
        ("  8:  80  80  10\n", ""),
        ("  8:  80  80  10", "  8:  80  80"),
        ("  8:  80  80  10", "  8:  80  80  1x"),
        ("  0:  10", "  0:  90"),
        ("node 1 size", "node 0 size"),
        ("node distances:", "node distanzen:"),
        ("(0-1,8)", "(0-x)"),
    ],
)
def test_contradictory_numactl_is_refused(old: str, new: str) -> None:
    """Missing rows, doubled facts and processors in two nodes are refused."""
    with pytest.raises(ImportRefusedError):
        read_numactl(NUMACTL.replace(old, new, 1), "x")


@pytest.mark.parametrize(
    ("old", "new"),
    [("node 0 cpus: 0 1 4 5", "node 0 cpus: 0 1 5"), ("21  10  80", "22  10  80"), ("65536 MB", "? MB")],
)
def test_doubtful_numactl_is_remarked(old: str, new: str) -> None:
    """Gaps in the processors, distances that differ by direction and unknown sizes are said."""
    assert len(read_numactl(NUMACTL.replace(old, new, 1), "x").remarks) > 1


def test_a_kernel_without_numa_is_an_answer() -> None:
    """The program's own words for a host without NUMA give an empty view with a remark."""
    view = read_numactl("No NUMA available on this system\n", "x")
    assert view.numa == () and view.remarks


def test_an_lscpu_that_ends_inside_a_line_or_has_foreign_lines_is_not_trusted() -> None:
    """A cut last line is remarked; a line whose name is not capitalised is none of lscpu."""
    assert not any("may be cut" in remark.text for remark in read_lscpu(LSCPU, "host.txt").remarks)
    assert any("may be cut" in remark.text for remark in read_lscpu(LSCPU.rstrip(), "host.txt").remarks)
    with pytest.raises(ImportRefusedError, match="no line of lscpu"):
        read_lscpu("a0: &a0 [x]\n" + LSCPU, "host.txt")
