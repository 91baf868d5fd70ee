"""Files are read within a limit and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from planner.errors import DocumentError, Problem

LARGEST = 64 * 2**20
"""Size limit of a document, bytes."""


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have, too long or with NUL, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: str | Path) -> str:
    """Return the text of a file of at most `LARGEST` bytes of UTF-8.

    Raises
    ------
    DocumentError
        If the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError([Problem(str(path), 0, 0, "", f"cannot be read: {reason}")]) from error
    if len(raw) > LARGEST:
        raise DocumentError([Problem(str(path), 0, 0, "", f"larger than {LARGEST // 2**20} MiB")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise DocumentError(
            [Problem(str(path), line, column, "", "not UTF-8 text", "save it as UTF-8")]
        ) from error


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8; a reader sees the old file or the new one, never a part."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write ``data`` through a temporary file in the same folder; on any failure the old file stays.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
