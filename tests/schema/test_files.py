from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from planner.errors import DocumentError
from planner.schema import files, read_text, write_bytes_atomic, write_text_atomic


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    """The file holds exactly the last text, in UTF-8 without translation of line ends."""
    path = tmp_path / "plan.yaml"
    write_text_atomic(path, "one\n")
    write_text_atomic(path, "zwei µ\r\n")
    assert path.read_bytes() == "zwei µ\r\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the old content nor the folder suffers."""
    path = tmp_path / "plan.yaml"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes_atomic(path, b"new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.yaml"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_full_is_an_error(tmp_path: Path) -> None:
    """The error of the system comes through."""
    with pytest.raises(OSError):
        write_text_atomic(tmp_path / "missing" / "plan.yaml", "x")


def test_permissions_are_kept(tmp_path: Path) -> None:
    """Replacing a file does not open or close it to others."""
    path = tmp_path / "plan.yaml"
    path.write_text("old")
    path.chmod(0o640)
    write_text_atomic(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_long_names_are_possible(tmp_path: Path) -> None:
    """The temporary name is no longer than the system allows."""
    path = tmp_path / ("x" * 250)
    write_text_atomic(path, "x")
    assert path.read_text() == "x"


def test_reading_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files, folders, other encodings and giants are document errors."""
    with pytest.raises(DocumentError, match="cannot be read: No such file"):
        read_text(tmp_path / "missing.yaml")
    with pytest.raises(DocumentError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_text("a\x00b")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xfc\n")
    with pytest.raises(DocumentError, match=r"latin.yaml:2:4: not UTF-8 text; save it as UTF-8"):
        read_text(path)
    monkeypatch.setattr(files, "LARGEST", 2**20)
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(DocumentError, match="larger than 1 MiB"):
        read_text(path)
