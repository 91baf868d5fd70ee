"""``nvidia-smi -q -x``, and the hardened parser below it."""

from __future__ import annotations

import pytest

from planner.topology.importers.nvidia_xml import MIB, read_nvidia_xml
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.xml import DEEPEST, parse
from tests.topology.importers.samples import query


def test_every_field_is_read() -> None:
    """Product, address, memory, PCI Express link, memory mode, MIG and clique come as printed."""
    view = read_nvidia_xml(query(addressing="ATS", c2c="Enabled"), "q.xml")
    first = view.gpus[0]
    assert (first.bus_id, first.product, first.memory) == (
        "0000:1b:00.0", "NVIDIA A100-SXM4-80GB", 81920 * MIB,
    )  # fmt: skip
    assert (first.pcie_generation, first.pcie_width, first.mig) == (4, 16, "disabled")
    assert (first.addressing, first.c2c) == ("ats", True)
    assert first.clique == "00000000-0000-0000-0000-000000000007.3"
    assert view.driver == "570.1.1" and view.remarks == () and len(view.gpus) == 4


def test_unknown_stays_unknown() -> None:
    """N/A is neither yes nor no."""
    gpu = read_nvidia_xml(query(addressing="N/A", c2c="N/A"), "q.xml").gpus[0]
    assert gpu.addressing is None and gpu.c2c is None and gpu.numa is None


@pytest.mark.parametrize(
    "change",
    [
        ("<total>81920 MiB", "<total>999999999999 MiB"),
        ("<total>81920 MiB", "<total>40960 MiB"),
        ("<max_link_gen>4", "<max_link_gen>44"),
        ("16x", "17x"),
        ("<addressing_mode>HMM", "<addressing_mode>HMMM"),
        ("<product_name>NVIDIA A100-SXM4-80GB</product_name>", ""),
        ("<product_name>NVIDIA A100-SXM4-80GB", "<product_name>NVIDIA A100-SXM4-40GB"),
        ("<state>Completed", "<state>In Progress"),
    ],
)
def test_what_makes_no_sense_is_remarked(change: tuple[str, str]) -> None:
    """Impossible, missing and differing values leave a remark."""
    assert read_nvidia_xml(query().replace(*change, 1), "q.xml").remarks


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("<attached_gpus>5</attached_gpus>", "4 are listed"),
        ('<gpu id="00000000:3D:00.0">', "at 0000:1b:00.0"),
    ],
)
def test_contradictions_are_refused(change: str, reason: str) -> None:
    """A count that is wrong, or an address that is stated in two ways, is refused."""
    old = "<attached_gpus>4</attached_gpus>" if "attached" in change else '<gpu id="00000000:1B:00.0">'
    with pytest.raises(ImportRefusedError, match=reason):
        read_nvidia_xml(query().replace(old, change), "q.xml")


def test_doubled_gpu_and_cut_file_are_refused() -> None:
    """One GPU cannot be listed twice, and a cut file is no list of GPUs."""
    with pytest.raises(ImportRefusedError, match="listed twice"):
        read_nvidia_xml(query(buses=("1B", "1B")), "q.xml")
    with pytest.raises(ImportRefusedError, match="may be cut"):
        read_nvidia_xml(query()[:2000], "q.xml")


@pytest.mark.parametrize(
    "bomb",
    [
        '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://localhost/x">%x;]><a/>',
        "<a>" * (DEEPEST + 2) + "</a>" * (DEEPEST + 2),
        "<a>\ud800</a>",
        "",
        "<a/><b/>",
    ],
    ids=["expansion", "file", "parameter", "depth", "surrogate", "empty", "two roots"],
)
def test_hostile_xml_is_refused(bomb: str) -> None:
    """Entities of any kind, deep nesting and text that is none end in a typed refusal."""
    with pytest.raises(ImportRefusedError):
        parse(bomb, "bomb.xml")


def test_elements_know_their_lines() -> None:
    """Lines are those of the file, blank lines before the first element included."""
    root = parse('\n\n<?xml version="1.0"?>\n<a>\n  <b/>\n</a>\n', "x.xml")
    assert (root.line, root.children[0].line) == (4, 5)
