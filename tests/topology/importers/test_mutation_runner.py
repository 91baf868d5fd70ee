"""The runner that damages dumps judges them as it says, and every kind of damage does something."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.topology_damage import TEXT_DAMAGE, Damage, bomb, nest
from benchmarks.topology_mutations import Subject, judge, main, report, run, subjects
from planner.topology.importers.detect import read_text
from tests.topology.importers.samples import NCCL, TOPO, query
from tests.topology.importers.samples_host import SLURM


def folder(place: Path) -> Path:
    """Write a folder of sound dumps with the list of them."""
    files = {"topo.txt": TOPO, "query.xml": query(), "nccl.xml": NCCL, "topology.conf": SLURM}
    (place / "all").mkdir()
    for name, text in files.items():
        (place / "all" / name).write_text(text, encoding="utf-8")
    truth = [{"kind": "all", "file": name, "truth": {}} for name in files]
    (place / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return place


def test_small_dumps_survive_and_the_summary_has_its_keys(tmp_path: Path) -> None:
    """Nothing crashes, hangs or is silently wrong; the same seed gives the same figures."""
    out = tmp_path / "out.json"
    assert main([str(folder(tmp_path)), "--count", "240", "--seed", "3", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))["summary"]
    keys = ("refused", "warned", "equal", "same_graph", "crashed", "hung", "undetectable", "silent_wrong")
    assert found["mutated"] == 240 == sum(found[key] for key in keys)
    assert found["crashed"] == found["hung"] == found["silent_wrong"] == 0
    again = report(run(tmp_path, 240, 3), 3)["summary"]
    assert {key: again[key] for key in keys} == {key: found[key] for key in keys}


@pytest.mark.parametrize("damage", TEXT_DAMAGE, ids=lambda damage: damage.__name__)
def test_every_damage_changes_some_dump(damage: Damage) -> None:
    """No kind of damage is idle."""
    rng = random.Random(1)
    assert any(damage(text, rng) != text for text in (TOPO, NCCL, SLURM) for _ in range(5))


def test_a_silent_difference_is_called_silent() -> None:
    """A view that differs without a remark is found, and an excuse needs a field of the table."""
    sound = Subject("all", "topo.txt", TOPO, read_text(TOPO, "topo.txt"))
    other = TOPO.replace("NV4", "NV2")
    assert judge(sound, ("swap_cells",), other).verdict == "silent_wrong"
    assert judge(sound, ("swap_cells",), TOPO).verdict == "equal"
    assert judge(sound, ("truncate",), TOPO[:40]).verdict == "refused"


def test_labels_beside_the_graph_are_told_from_the_graph() -> None:
    """Another address gives the same graph, another rate of a port does not."""
    sound = Subject("all", "nccl.xml", NCCL, read_text(NCCL, "nccl.xml"))
    assert judge(sound, ("truncate",), NCCL.replace("0000:1c:00.0", "0000:1d:00.0")).verdict == "same_graph"
    faster = NCCL.replace('speed="200000"', 'speed="100000"')
    assert judge(sound, ("truncate",), faster).verdict == "silent_wrong"


@pytest.mark.parametrize("attack", [bomb, nest])
def test_attacks_are_refused_soon(attack: Damage) -> None:
    """Entities that expand and nesting without end are refused in well under the limit."""
    for text in (NCCL, query()):
        sound = Subject("all", "x.xml", text, read_text(text, "x.xml"))
        outcome = judge(sound, (attack.__name__,), attack(text, random.Random(2)))
        assert outcome.verdict == "refused" and outcome.seconds < 2


def test_subjects_keep_what_is_refused_when_sound(tmp_path: Path) -> None:
    """A file that is refused without damage has no view."""
    folder(tmp_path)
    (tmp_path / "all" / "topo.txt").write_text("nothing\n", encoding="utf-8")
    assert [subject.view is None for subject in subjects(tmp_path)] == [True, False, False, False]
