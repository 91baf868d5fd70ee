"""A stored plan finds its inputs again, and is refused when they are others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from planner.errors import DigestMismatchError, PlanError
from planner.schema import dump_yaml, write_text_atomic
from planner.solve import Budget
from planner.study import Sources, check_study, load_study, solve_files
from tests.study.clusters import box, serving


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the plan of two jobs on one node in ``out``, its inputs in ``in``."""
    home = tmp_path_factory.mktemp("home")
    (home / "in").mkdir()
    machine, job = home / "in" / "machine.yaml", home / "in" / "jobs.yaml"
    machine.write_text(f"schema: topology/1\nname: small\nmachines:\n{box()}\n")
    job.write_text(f"schema: workload/1\nname: jobs\njobs:\n{serving('a')}\n{serving('b')}\n")
    study = solve_files(Sources(machine, job, folder=home / "out"), Budget())
    (home / "out").mkdir()
    write_text_atomic(home / "out" / "plan.yaml", dump_yaml(study.plan))
    return home


@pytest.fixture
def stored(original: Path, tmp_path: Path) -> Path:
    """Return the path of a plan that a test may spoil together with its inputs."""
    return shutil.copytree(original, tmp_path / "copy") / "out" / "plan.yaml"


def test_inputs_are_named_relative_to_the_plan(stored: Path) -> None:
    """Files are stored as paths from the plan's folder, presets by name."""
    inputs = load_study(stored).plan.inputs
    assert inputs.topology.path == "../in/machine.yaml"
    assert inputs.workload.path == "../in/jobs.yaml"
    assert inputs.calibration.path == "default"


def test_the_problems_of_a_stored_plan_are_judged_alike(stored: Path) -> None:
    """A plan of several jobs passes its check after it was loaded."""
    study = load_study(stored)
    assert sorted(study.problems) == ["a", "b"]
    assert check_study(study) == []


@pytest.mark.parametrize(
    ("file", "old", "new"), [("machine.yaml", "12", "11"), ("jobs.yaml", "1.0 req/s", "1.1 req/s")]
)
def test_changed_inputs_are_refused_unless_forced(stored: Path, file: str, old: str, new: str) -> None:
    """A digest that differs names the input; force goes on."""
    path = stored.parent.parent / "in" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DigestMismatchError) as caught:
        load_study(stored)
    assert caught.value.what == {"machine.yaml": "topology", "jobs.yaml": "workload"}[file]
    assert load_study(stored, force=True).plan.jobs


def test_a_plan_of_a_model_on_disk_survives_a_move(tmp_path: Path) -> None:
    """The folder's name, after which the model is called, is no part of what the plan depends on."""
    first = tmp_path / "first"
    first.mkdir()
    (first / "machine.yaml").write_text(f"schema: topology/1\nname: small\nmachines:\n{box()}\n")
    job = serving("a").replace("llama3-8b", "{config: config.json}")
    (first / "job.yaml").write_text(f"schema: workload/1\nname: jobs\njobs:\n{job}\n")
    fields = {"model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 32000}
    (first / "config.json").write_text(json.dumps({**fields, **heads}))
    study = solve_files(Sources(first / "machine.yaml", first / "job.yaml", folder=first / "out"), Budget())
    (first / "out").mkdir()
    write_text_atomic(first / "out" / "plan.yaml", dump_yaml(study.plan))
    second = first.rename(tmp_path / "second")
    assert check_study(load_study(second / "out" / "plan.yaml")) == []
    (second / "config.json").write_text(json.dumps({**fields, **heads, "num_hidden_layers": 9}))
    with pytest.raises(DigestMismatchError):
        load_study(second / "out" / "plan.yaml")


def test_comments_and_layout_do_not_count_as_changes(stored: Path) -> None:
    """The digest is of the meaning, not of the text."""
    path = stored.parent.parent / "in" / "machine.yaml"
    path.write_text("# a comment\n" + path.read_text() + "\n\n")
    assert load_study(stored).plan.jobs


def test_a_missing_input_is_named_with_its_option(stored: Path) -> None:
    """The error says where the input was, and how to say where it is."""
    path = stored.parent.parent / "in" / "jobs.yaml"
    moved = path.rename(path.with_name("moved.yaml"))
    with pytest.raises(PlanError, match="--workload"):
        load_study(stored)
    assert load_study(stored, workload=str(moved)).plan.jobs


def test_a_plan_without_paths_asks_for_them(stored: Path) -> None:
    """A plan made in Python from documents without files needs the options."""
    text = stored.read_text().replace("    path: ../in/machine.yaml\n", "")
    stored.write_text(text)
    with pytest.raises(PlanError, match="name it with --topology"):
        load_study(stored)


def test_a_plan_of_other_jobs_or_gpus_is_refused_even_when_forced(stored: Path) -> None:
    """Force accepts changed figures, not another machine or another set of jobs."""
    folder = stored.parent.parent / "in"
    (folder / "jobs.yaml").write_text((folder / "jobs.yaml").read_text().replace("name: b,", "name: c,"))
    with pytest.raises(PlanError, match="no job 'c'"):
        load_study(stored, force=True)
    (folder / "jobs.yaml").write_text((folder / "jobs.yaml").read_text().replace("name: c,", "name: b,"))
    machine = (folder / "machine.yaml").read_text().replace("gpu[0-1]", "card[0-1]")
    (folder / "machine.yaml").write_text(machine)
    with pytest.raises(PlanError, match="uses the GPU"):
        load_study(stored, force=True)
