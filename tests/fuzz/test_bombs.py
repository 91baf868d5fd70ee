"""Files made to exhaust a reader, one after the other for every reader; and files that only look odd."""

from __future__ import annotations

import gzip
import io
import tarfile
from functools import cache
from pathlib import Path

import pytest

from planner.errors import PlannerError
from tests.fuzz.limits import within_memory, within_time
from tests.fuzz.readers import READERS
from tests.fuzz.test_readers import fault

pytestmark = pytest.mark.fuzz

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)
ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE topology [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(12))
    + "]><{root}>&m;</{root}>"
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE {root} [<!ENTITY x SYSTEM "file:///etc/passwd">]><{root}>&x;</{root}>'
)
ROOTS = ("system", "topology", "nvidia_smi_log")


def bomb_texts() -> dict[str, bytes]:
    """Return the files by what they try."""
    found = {
        "aliases": f"schema: topology/1\nkind: Pod\n{LAUGHS}",
        "aliases in a manifest": f"{LAUGHS}kind: Pod\nmetadata: {{name: a, labels: *a11}}\nspec: *a11\n",
        "an alias of itself": "kind: Pod\nmetadata: &a {name: a, labels: *a}\nspec: &b [*b]\n",
        "deep lists": "[" * 100_000,
        "deep mappings": '{"a":' * 100_000,
        "deep elements": "<a>" * 100_000,
        "a deep document": "schema: topology/1\nname: " + "[" * 5000 + "]" * 5000,
        "a long number": "schema: topology/1\nname: x\nversion: " + "9" * 1_000_000,
        "long digits in JSON": '{"format": ' + "9" * 100_000 + "}",
        "a long line": "x" * 5_000_000,
        "many lines": "a,b\n" * 500_000,
        "many commas": "," * 1_000_000,
        "a huge range": 'schema: topology/1\nname: x\nnodes: [{name: "n[0-999999999]", machine: m}]\n',
        "many ranges": 'schema: topology/1\nname: "' + "[0-99]" * 2000 + '"\n',
        "NUL bytes": "\0" * 100_000,
        "nothing": "",
        "blanks": " \n\t\r\n" * 1000,
        "a lone mark": "\ufeff",
        "python": "!!python/object/apply:os.system ['touch /tmp/never']",
    }
    for root in ROOTS:
        found[f"entities in {root}"] = ENTITIES.replace("{root}", root)
        found[f"a file as an entity in {root}"] = OUTSIDE.replace("{root}", root)
    return {name: text.encode() for name, text in found.items()}


@cache
def packed_bomb() -> bytes:
    """Return a gigabyte of zeros packed by gzip."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=9) as stream:
        for _ in range(1024):
            stream.write(bytes(2**20))
    return sink.getvalue()


def hostile_archive() -> bytes:
    """Return an archive whose members lead out of it, at one another, and to devices."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, kind, target in (
            ("../../etc/passwd", tarfile.REGTYPE, ""), ("/etc/shadow", tarfile.REGTYPE, ""),
            ("sys/a", tarfile.SYMTYPE, "b"), ("sys/b", tarfile.SYMTYPE, "a"),
            ("sys/devices", tarfile.SYMTYPE, "/etc"), ("sys/zero", tarfile.CHRTYPE, ""),
            ("sys/pipe", tarfile.FIFOTYPE, ""), ("proc/cpuinfo", tarfile.LNKTYPE, "../../etc/passwd"),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member, io.BytesIO())
    return sink.getvalue()


@pytest.mark.parametrize("name", sorted(READERS))
def test_bombs_are_refused_soon(name: str, tmp_path: Path) -> None:
    """No file exhausts a reader: it is refused, or read, within 5 s and 1 GiB, with no other error."""
    reader = READERS[name]
    path = tmp_path / reader.name
    files = bomb_texts() | {"an archive": hostile_archive()}
    if reader.name.endswith(".gz") or "snapshot" in name:
        files["packed zeros"] = packed_bomb()
    path.write_bytes(reader.seeds()[0])
    reader.read(path)
    faults = []
    with within_memory():
        for what, data in files.items():
            path.write_bytes(data)
            found = fault(reader, path)
            if found is not None:
                faults.append(f"{what}: {found}")
    assert faults == []


BINARY = {"ONNX", "packed flows", "snapshots", "kernel tables in Parquet"}


@pytest.mark.parametrize("name", sorted(set(READERS) - BINARY))
def test_windows_line_ends_and_a_mark_change_nothing(name: str, tmp_path: Path) -> None:
    """A file that an editor of another system saved is read like the one before."""
    reader = READERS[name]
    path = tmp_path / reader.name
    for seed in reader.seeds():
        for data in (seed.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + seed):
            path.write_bytes(data)
            with within_time():
                reader.read(path)


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    """A folder, a missing file and a link to itself are errors that say so."""
    reader = READERS[name]
    if name in ("server's answer", "fixed decisions", "exported NCCL"):
        pytest.skip("reads no file in the program: the test gives it the text")
    loop = tmp_path / "loop" / reader.name
    loop.parent.mkdir()
    loop.symlink_to(loop)
    folder = tmp_path / "folder" / reader.name
    folder.mkdir(parents=True)
    for path in (tmp_path / "missing" / reader.name, loop, folder):
        with pytest.raises((PlannerError, OSError)):
            reader.read(path)
