"""The search for faults finds those that are there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from planner.errors import WorkloadError
from tests.fuzz import limits
from tests.fuzz.limits import within_memory
from tests.fuzz.mutate import DAMAGES, damaged
from tests.fuzz.readers import Read, Reader
from tests.fuzz.test_readers import fault

pytestmark = pytest.mark.fuzz


def found(read: Read, tmp_path: Path) -> str | None:
    return fault(Reader("x", read, lambda: (b"",)), tmp_path / "x")


def test_other_errors_are_faults_and_those_of_the_program_are_none(tmp_path: Path) -> None:
    """A ValueError is told with its place; a PlannerError and a result are in order."""

    def refuses(path: Path) -> None:
        raise WorkloadError("no")

    told = found(lambda path: int("x"), tmp_path)
    assert told is not None and told.startswith("ValueError at test_machine.py:")
    assert found(refuses, tmp_path) is None
    assert found(lambda path: path, tmp_path) is None


def test_a_reader_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that catches every exception."""

    def spins(path: Path) -> None:
        while True:
            try:
                sum(range(10_000))
            except Exception:  # noqa: BLE001  a reader as bad as can be
                continue

    monkeypatch.setattr(limits, "MOST_SECONDS", 0.2)
    told = found(spins, tmp_path)
    assert told is not None and told.startswith("hung")


def test_a_reader_that_takes_all_memory_is_stopped(tmp_path: Path) -> None:
    """A gigabyte more than before is a fault."""
    with within_memory():
        told = found(lambda path: bytearray(2**30 + 2**28), tmp_path)
    assert told is not None and told.startswith("MemoryError")
    assert found(lambda path: bytearray(2**26), tmp_path) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_changes_something(damage: object) -> None:
    """Of twenty tries of each kind some give another file, and none fails, whatever the file is."""
    assert callable(damage)
    for seed in (
        b"schema: a/1\nname: b\nlist: [1, 2 GB/s]\n",
        b"<a><b c='1'>2</b></a>",
        b'{"a": 1}',
        b"",
        b"\xff\0",
    ):
        tries = [damage(seed, random.Random(number)) for number in range(20)]
        assert all(isinstance(data, bytes) for data in tries)
    assert any(damage(b"a: 1, b\nc d\n", random.Random(number)) != b"a: 1, b\nc d\n" for number in range(20))


def test_the_same_seed_gives_the_same_file() -> None:
    """A fault that was found can be looked at again."""
    assert damaged(b"a: 1\nb: [2]\n", random.Random("0 x 1")) == damaged(
        b"a: 1\nb: [2]\n", random.Random("0 x 1")
    )
