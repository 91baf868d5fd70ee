"""Trees of files that a machine's ``/sys`` and ``/proc`` were copied to: folders, archives, the live system.

Archives are read in memory and never unpacked. Symbolic links are followed inside the tree only.
"""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from planner.topology.importers.refusal import ImportRefusedError

LARGEST_TREE = 256 * 1024 * 1024
"""Size limit of an unpacked archive, bytes; also what a folder is not read beyond."""
LARGEST_FILE = 8 * 1024 * 1024
MOST_LINKS = 40
_BLOCK = 512
V = TypeVar("V")
_MARK = "sys/devices/system"
_UNUSED = b"/cache/"
"""Folder of which nothing is read, though it holds most files of a snapshot."""


class Tree(ABC):
    """Files below one root, by paths such as ``sys/devices/system/cpu/online``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._resolved: dict[str, str] = {"": ""}

    def read(self, path: str) -> str | None:
        """Return the text of a file without blanks and zeros around it; None where there is none."""
        found = self.resolve(path)
        data = None if found is None else self.content(found)
        return None if data is None else data.replace(b"\0", b"").decode("utf-8", "replace").strip()

    def names(self, path: str) -> list[str]:
        """Return what is in a folder, sorted; nothing where there is none."""
        found = self.resolve(path)
        return [] if found is None else sorted(self.entries(found))

    def has(self, path: str) -> bool:
        """Whether there is a file or folder."""
        found = self.resolve(path)
        return found is not None and self.exists(found)

    def resolve(self, path: str) -> str | None:
        """Return the path behind symbolic links; None where they go in circles."""
        parts = [part for part in path.split("/") if part and part != "."]
        done, left = "", MOST_LINKS
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            step = f"{done}/{part}" if done else part
            if step not in self._resolved:
                target = self.link(step)
                self._resolved[step] = step if target is None else f"\0{target}"
            known = self._resolved[step]
            if not known.startswith("\0"):
                done = known
                continue
            left -= 1
            if left < 0:
                return None
            target = known[1:]
            done = "" if target.startswith("/") else done
            parts = [piece for piece in target.split("/") if piece and piece != "."] + parts
        return done

    @abstractmethod
    def content(self, path: str) -> bytes | None:
        """Return the bytes of a regular file."""

    @abstractmethod
    def entries(self, path: str) -> list[str]:
        """Return what is in a folder."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""

    @abstractmethod
    def link(self, path: str) -> str | None:
        """Return the target of a symbolic link, None for anything else."""


class FolderTree(Tree):
    """A folder, or with ``/`` the machine at hand."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.root = root

    def content(self, path: str) -> bytes | None:
        """Return the bytes of a regular file of at most `LARGEST_FILE`; None where it cannot be read."""
        place = self.root / path
        try:
            if not stat.S_ISREG(place.stat().st_mode):
                return None
            with place.open("rb") as stream:
                data = stream.read(LARGEST_FILE + 1)
        except OSError:  # absent, forbidden, or a device that does not answer
            return None
        if len(data) > LARGEST_FILE:
            raise ImportRefusedError(str(place), 0, f"larger than {LARGEST_FILE} bytes, as no such file is")
        return data

    def entries(self, path: str) -> list[str]:
        """Return what is in a folder."""
        try:
            return os.listdir(self.root / path)
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return os.path.lexists(self.root / path)

    def link(self, path: str) -> str | None:
        """Return the target of a symbolic link, None for anything else."""
        try:
            return os.readlink(self.root / path)
        except OSError:
            return None


class ArchiveTree(Tree):
    """A tar archive, read as a whole."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name)
        self._data = data
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._folders: dict[str, dict[str, None]] = {}
        self._index()

    def rooted(self, prefix: str) -> None:
        """Take the folder ``prefix`` of the archive for the root."""
        self._files = _below(self._files, prefix)
        self._links = _below(self._links, prefix)
        self._folders = {}
        for path in (*self._files, *self._links):
            child, parent = path, path.rpartition("/")[0]
            while child not in (inside := self._folders.setdefault(parent, {})):
                inside[child] = None
                if not parent:
                    break
                child, parent = parent, parent.rpartition("/")[0]

    def roots(self) -> list[str]:
        """Return the folders that hold a ``sys/devices/system``."""
        found: dict[str, None] = {}
        for path in self._files:
            if f"{_MARK}/" not in path:
                continue
            before = path.partition(f"{_MARK}/")[0]
            if (
                before.rstrip("/") not in found
                and (not before or before.endswith("/"))
                and ".." not in before.split("/")
            ):
                found[before.rstrip("/")] = None
        return list(found)

    def content(self, path: str) -> bytes | None:
        """Return the bytes of a regular file."""
        if path not in self._files:
            return None
        start, size = self._files[path]
        if size > LARGEST_FILE:
            raise ImportRefusedError(self.name, 0, f"{path} is larger than {LARGEST_FILE} bytes")
        return self._data[start : start + size]

    def entries(self, path: str) -> list[str]:
        """Return what is in a folder."""
        return [child.rpartition("/")[2] for child in self._folders.get(path, ())]

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return path in self._files or path in self._folders or path in self._links

    def link(self, path: str) -> str | None:
        """Return the target of a symbolic link, None for anything else."""
        return self._links.get(path)

    def _index(self) -> None:
        """Note where every member lies (POSIX.1-2001 ustar, with the long names of GNU and pax)."""
        data, files, links = self._data, self._files, self._links
        long_name = long_link = ""
        for head, size in self._headers():
            kind = data[head + 156 : head + 157]
            if data.find(_UNUSED, head, head + 100) > 0:
                pass
            elif kind in b"0\0":
                files[long_name or self._full_name(head)] = (head + _BLOCK, size)
            elif kind == b"2":
                target = long_link or _text(data[head + 157 : head + 257])
                links[long_name or self._full_name(head)] = target
            elif kind in b"LKxg":
                content = data[head + _BLOCK : head + _BLOCK + size]
                long_name, long_link = self._long(kind, content, long_name, long_link)
                continue
            if long_name or long_link:
                long_name = long_link = ""

    def _headers(self) -> Iterable[tuple[int, int]]:
        """Return place and size of every member: all at once where every mark begins one, else one by one."""
        data = self._data
        blocks = np.frombuffer(data, np.uint8, len(data) // _BLOCK * _BLOCK).reshape(-1, _BLOCK)
        marks = np.flatnonzero((blocks[:, 257:262] == np.frombuffer(b"ustar", np.uint8)).all(axis=1))
        digits = blocks[marks, 124:135].astype(np.int64) - ord("0")
        sizes = digits @ 8 ** np.arange(10, -1, -1)
        starts = marks * _BLOCK
        ends = starts + _BLOCK + (sizes + _BLOCK - 1 & -_BLOCK)
        whole = len(marks) > 0 and starts[0] == 0 and (ends[:-1] == starts[1:]).all()
        octal = ((digits >= 0) & (digits < 8)).all()
        if whole and octal and ends[-1] + _BLOCK <= len(data) and not data[ends[-1]]:
            if not np.isin(blocks[marks, 156], np.frombuffer(b"LKxg", np.uint8)).any():
                names = np.ascontiguousarray(blocks[marks, :100]).view("S100").ravel()
                used = np.strings.find(names, _UNUSED) <= 0
                starts, sizes = starts[used], sizes[used]
            return zip(starts.tolist(), sizes.tolist(), strict=True)
        return self._one_by_one()

    def _one_by_one(self) -> Iterator[tuple[int, int]]:
        place, end, data = 0, len(self._data), self._data
        while place + _BLOCK <= end and data[place]:
            if not data.startswith(b"ustar", place + 257):
                raise ImportRefusedError(self.name, 0, "no tar archive, or a damaged one")
            size, head = self._size(place), place
            place += _BLOCK + (size + _BLOCK - 1 & -_BLOCK)
            if place > end:
                raise ImportRefusedError(self.name, 0, "the archive is cut: a file goes on beyond its end")
            yield head, size
        if place + _BLOCK > end:
            raise ImportRefusedError(self.name, 0, "the archive is cut: its end is missing")

    @staticmethod
    def _long(kind: bytes, content: bytes, name: str, link: str) -> tuple[str, str]:
        """Return the long name and target for the next member."""
        if kind == b"L":
            return _text(content), link
        if kind == b"K":
            return name, _text(content)
        records = _pax(content) if kind == b"x" else {}
        return records.get("path", name), records.get("linkpath", link)

    def _size(self, head: int) -> int:
        field = self._data[head + 124 : head + 136].strip(b" \0")
        try:
            size = int(field, 8)
        except ValueError:
            size = -1
        if size < 0:
            raise ImportRefusedError(self.name, 0, "the archive is damaged: a file without a size")
        return size

    def _full_name(self, head: int) -> str:
        name = _text(self._data[head : head + 100])
        if self._data[head + 345] and self._data[head + 262] == 0:  # GNU keeps other things there
            name = f"{_text(self._data[head + 345 : head + 500])}/{name}"
        return name.removeprefix("./")


def open_tree(path: str | Path) -> Tree:
    """Return the tree of a folder, or of a tar archive that may be packed with gzip, bzip2 or xz.

    Raises
    ------
    ImportRefusedError
        If there is no snapshot, or more than one, or the archive is damaged or larger than any snapshot.
    """
    place = Path(path)
    if place.is_dir():
        return FolderTree(_folder_root(place))
    try:
        packed = place.read_bytes() if place.stat().st_size <= LARGEST_TREE else None
    except OSError as error:
        raise ImportRefusedError(str(place), 0, f"cannot be read: {error.strerror}") from None
    if packed is None:
        raise ImportRefusedError(str(place), 0, f"larger than {LARGEST_TREE} bytes")
    tree = ArchiveTree(str(place), _unpacked(packed, str(place)))
    roots = tree.roots()
    if len(roots) != 1:
        raise ImportRefusedError(str(place), 0, f"{len(roots)} folders with {_MARK}; a snapshot has one")
    tree.rooted(roots[0])
    return tree


def _folder_root(place: Path) -> Path:
    if (place / _MARK).is_dir():
        return place
    inside = [child for child in sorted(place.iterdir()) if (child / _MARK).is_dir()]
    if len(inside) != 1:
        raise ImportRefusedError(str(place), 0, f"{len(inside)} folders with {_MARK}; a snapshot has one")
    return inside[0]


def _unpacked(data: bytes, name: str) -> bytes:
    """Unpack without growing beyond the limit."""
    try:
        if data.startswith(b"\x1f\x8b"):
            gzip = zlib.decompressobj(wbits=31)
            unpacked, whole = gzip.decompress(data, LARGEST_TREE + 1), gzip.eof
        elif data.startswith(b"BZh"):
            bzip2 = bz2.BZ2Decompressor()
            unpacked, whole = bzip2.decompress(data, LARGEST_TREE + 1), bzip2.eof
        elif data.startswith(b"\xfd7zXZ\0"):
            xz = lzma.LZMADecompressor(memlimit=LARGEST_TREE)
            unpacked, whole = xz.decompress(data, LARGEST_TREE + 1), xz.eof
        else:
            return data
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise ImportRefusedError(name, 0, f"the archive is damaged: {error}") from None
    if len(unpacked) > LARGEST_TREE:
        raise ImportRefusedError(name, 0, f"unpacks to more than {LARGEST_TREE} bytes, as no snapshot does")
    if not whole:
        raise ImportRefusedError(name, 0, "the archive is cut: its end is missing")
    return unpacked


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _pax(records: bytes) -> dict[str, str]:
    """Return the records ``LENGTH KEY=VALUE`` of a pax header."""
    found: dict[str, str] = {}
    while records:
        length, _, _ = records.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(records):
            break
        key, _, value = records[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        records = records[int(length) :]
    return found


def _below(members: Mapping[str, V], prefix: str) -> dict[str, V]:
    """Return the members of a folder, by their path inside it."""
    start = f"{prefix}/" if prefix else ""
    return {
        path[len(start) :]: value
        for path, value in members.items()
        if path.startswith(start) and not (".." in path and ".." in path.split("/"))
    }
