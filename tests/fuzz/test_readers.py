"""Whatever is in a file, a reader returns or raises a `PlannerError`, soon and within bounds."""

from __future__ import annotations

import os
import random
import traceback
from pathlib import Path

import pytest

from planner.errors import PlannerError
from tests.fuzz.limits import HungError, within_memory, within_time
from tests.fuzz.mutate import damaged
from tests.fuzz.readers import READERS, Reader

pytestmark = pytest.mark.fuzz

CASES = int(os.environ.get("PLANNER_FUZZ_CASES", "20000"))
"""Files in all, over all readers."""
SEED = int(os.environ.get("PLANNER_FUZZ_SEED", "0"))
MOST_SHOWN = 12


def fault(reader: Reader, path: Path) -> str | None:
    """Return where a reader failed otherwise than with a `PlannerError`, or ``None``."""
    try:
        with within_time():
            reader.read(path)
    except PlannerError:
        return None
    except HungError:
        return "hung: " + "".join(traceback.format_exc().splitlines(keepends=True)[-7:-1])
    except Exception as error:  # noqa: BLE001  what else a reader lets through is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        near = [frame for frame in frames if "/planner/" in frame.filename] or frames
        place = f"{Path(near[-1].filename).name}:{near[-1].lineno} ({frames[-1].name})"
        return f"{type(error).__name__} at {place}: {str(error)[:80]}"
    return None


@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_files_raise_planner_errors_alone(name: str, tmp_path: Path) -> None:
    """Damaged bytes, words, lines and trees: no other exception, no 5 s, no GiB, for any reader."""
    reader = READERS[name]
    sound = reader.seeds()
    path = tmp_path / reader.name
    count = max(20, round(CASES * reader.share / sum(other.share for other in READERS.values())))
    faults: dict[str, str] = {}
    path.write_bytes(sound[0])
    reader.read(path)
    with within_memory():
        for case in range(count):
            rng = random.Random(f"{SEED} {name} {case}")
            data = damaged(rng.choice(sound), rng)
            path.write_bytes(data)
            found = fault(reader, path)
            if found is not None and len(faults) < MOST_SHOWN:
                faults.setdefault(found.split(": ")[0], f"{found}\n    case {case}: {data[:300]!r}")
    assert not faults, f"{len(faults)} kinds of fault in {count} files:\n" + "\n".join(faults.values())


@pytest.mark.parametrize("name", sorted(READERS))
def test_seeds_are_sound(name: str, tmp_path: Path) -> None:
    """Every file that is damaged can be read before, so that damage reaches deep."""
    reader = READERS[name]
    path = tmp_path / reader.name
    for seed in reader.seeds():
        path.write_bytes(seed)
        reader.read(path)
