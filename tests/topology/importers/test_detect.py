"""Formats are told by content, and files of any kind end in a view or a typed refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.topology.importers.detect import detect, read
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import HostView
from tests.topology.importers.samples import NCCL, NVLINK, TOPO, query


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (TOPO, "nvidia-smi-topo"),
        (NVLINK, "nvidia-smi-nvlink"),
        (query(), "nvidia-smi-xml"),
        (NCCL, "nccl-xml"),
        ("<!-- a -->\n" + NCCL, "nccl-xml"),
        ("<graphs/>", "nccl-xml"),
        (
            '<?xml version="1.0"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n<topology version="2.0"/>',
            "hwloc-xml",
        ),
        ("Architecture:  x86_64\nCPU(s):  8\n", "lscpu"),
        ('{\n  "lscpu": []}', "lscpu"),
        ("available: 2 nodes (0-1)\nnode 0 cpus: 0 1\n", "numactl"),
        ("# Topology file: generated on Monday\n\nvendid=0x2c9\n", "ibnetdiscover"),
        ("# comment\nSwitchName=s0 Nodes=n[0-3]\n", "slurm-conf"),
        ("- topology: tree\n  cluster_default: true\n", "slurm-yaml"),
        ("switches:\n- name: core\nblocks: []\n", "topograph"),
        ('{"apiVersion": "v1", "items": [], "kind": "List"}', "k8s-nodes"),
    ],
)
def test_formats_are_told_by_content(text: str, form: str) -> None:
    """Each format is known with and without Windows line ends and a byte-order mark."""
    assert detect(text, "file") == form
    assert detect("\ufeff" + text.replace("\n", "\r\n"), "file") == form


@pytest.mark.parametrize("text", ["", "  \n", "hello\n", "<html/>", "<!-- only", "<"])
def test_other_text_is_refused(text: str) -> None:
    """What is no known format is refused."""
    with pytest.raises(ImportRefusedError):
        detect(text, "file")


def test_files_are_read_in_their_encoding(tmp_path: Path) -> None:
    """UTF-16, as some shells redirect it, reads as UTF-8 does; bytes that are no text are refused."""
    plain, wide = tmp_path / "plain.txt", tmp_path / "wide.txt"
    plain.write_text(TOPO, encoding="utf-8")
    wide.write_text(TOPO, encoding="utf-16")
    assert read(plain) == read(wide)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x80\x81")
    with pytest.raises(ImportRefusedError, match="no text"):
        read(broken)
    with pytest.raises(ImportRefusedError, match="no such file"):
        read(tmp_path / "absent")
    assert isinstance(read(plain), HostView)
