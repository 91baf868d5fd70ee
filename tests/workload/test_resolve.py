"""From documents to workloads: presets, files beside the document, checks across fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.errors import DocumentError, WorkloadError
from planner.schema import load, presets
from planner.workload import ServingJob, TrainingJob, Transformer, WorkloadDocument, load_workload, resolve

TRAINING = """\
schema: workload/1
name: small
jobs:
- {kind: training, name: one, model: llama3-8b, sequence: 4096, global_batch: 8}
"""
SERVING = """\
schema: workload/1
name: chat
jobs:
- kind: serving
  name: chat
  model: {config: model/config.json}
  traffic: {process: trace, trace: trace.csv, rate: 1 /s, prompt: {mean: 10}, output: {mean: 10}}
"""
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 8, "vocab_size": 100,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a serving document, its configuration and its trace."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "trace.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,1\n")
    (tmp_path / "chat.yaml").write_text(SERVING)
    return tmp_path


def _problems(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_workload(path)
    lines = text.splitlines()
    return [
        f"{p.where}: {p.text} [{p.hint}] @{lines[p.line - 1][p.column - 1 :]}" for p in caught.value.problems
    ]


@pytest.mark.parametrize("name", presets.names("workloads"))
def test_every_preset_loads(name: str) -> None:
    """Each shipped workload names a model and has at least one job."""
    workload = load_workload(name)
    assert workload.name == name
    assert workload.jobs
    models = [resolved.model for resolved in workload.jobs]
    assert all(model.num_parameters > 1e6 for model in models if isinstance(model, Transformer))


def test_the_promised_presets_are_there() -> None:
    """Training and serving are both shipped; the catalogue of models is not a workload."""
    names = presets.names("workloads")
    assert {"llama3-70b-serving", "multimodal-serving", "llama3-405b-training", "deepseek-v3-training"} < set(
        names
    )
    assert "models" not in names
    with pytest.raises(WorkloadError, match="no such file"):
        load_workload("models")


def test_presets_ask_for_what_they_say() -> None:
    """The big ones have the batch sizes of the papers, the multimodal one works before and after the GPU."""
    (gpt3,) = load_workload("gpt3-175b-training").jobs
    assert isinstance(gpt3.job, TrainingJob)
    assert (gpt3.job.sequence, gpt3.job.global_batch) == (2048, 1536)
    (visual,) = load_workload("multimodal-serving").jobs
    assert isinstance(visual.job, ServingJob)
    assert [stage.name for stage in visual.job.before] == ["tokenise", "jpeg-decode"]
    assert [stage.name for stage in visual.job.after] == ["detokenise"]
    assert isinstance(visual.model, Transformer)
    assert visual.model.vision is not None
    assert visual.job.traffic.images == 1


def test_configurations_and_traces_lie_beside_the_document(folder: Path) -> None:
    """Paths are relative to the folder of the document, wherever the program runs."""
    (resolved,) = load_workload(folder / "chat.yaml").jobs
    assert isinstance(resolved.model, Transformer)
    assert resolved.model.name == "model"
    assert resolved.trace == folder / "trace.csv"


@pytest.mark.parametrize("path", ["../config.json", "model/../../x/config.json", "/etc/hostname"])
def test_paths_must_stay_inside(folder: Path, path: str) -> None:
    """A document cannot reach files outside of its folder."""
    (problem,) = _problems(folder / "chat.yaml", SERVING.replace("model/config.json", path))
    assert problem.startswith(f"jobs.0.model.config: {path!r} leads out of the folder")
    assert f"@{path}" in problem


def test_symbolic_links_do_not_lead_out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link to a file elsewhere counts as outside."""
    outside = tmp_path_factory.mktemp("outside") / "trace.csv"
    outside.write_text("x")
    (folder / "trace.csv").unlink()
    (folder / "trace.csv").symlink_to(outside)
    (problem,) = _problems(folder / "chat.yaml", SERVING)
    assert problem.startswith("jobs.0.traffic.trace: 'trace.csv' leads out of the folder")


def test_what_is_wrong_with_a_configuration_is_located(folder: Path) -> None:
    """The problem points at the path in the document and repeats what is wrong in the other file."""
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "trace.csv").unlink()
    config, trace = _problems(folder / "chat.yaml", SERVING)
    assert config.startswith(
        f"jobs.0.model.config: {folder / 'model' / 'config.json'}: hidden_size: missing field"
    )
    assert trace.startswith(f"jobs.0.traffic.trace: there is no file {folder / 'trace.csv'}")


def test_an_unknown_model_is_answered_with_the_nearest(tmp_path: Path) -> None:
    """The problem points at the name."""
    (problem,) = _problems(tmp_path / "x.yaml", TRAINING.replace("llama3-8b", "llama3-80b"))
    assert problem.startswith("jobs.0.model: unknown model 'llama3-80b' [did you mean 'llama3-")
    assert "@llama3-80b," in problem


def test_mistakes_of_all_jobs_are_reported_at_once(tmp_path: Path) -> None:
    """A doubled name, an image without a vision tower and a sequence beyond the position table."""
    text = (
        TRAINING
        + """\
- {kind: training, name: one, model: gpt3-175b, sequence: 4096, global_batch: 8}
- kind: serving
  name: two
  model: llama3-8b
  traffic: {rate: 1 /s, prompt: {mean: 10}, output: {mean: 10}, images: 1}
"""
    )
    doubled, positions, images = _problems(tmp_path / "x.yaml", text)
    assert doubled.startswith("jobs.1.name: the job 'one' is named twice")
    assert positions.startswith(
        "jobs.1.sequence: the model 'gpt3-175b' has learned positions for 2048 tokens only"
    )
    assert images.startswith("jobs.2.traffic.images: the model 'llama3-8b' has no vision tower")


def test_the_digest_covers_the_files_beside_the_document(folder: Path) -> None:
    """Another trace or another shape under the same name is another workload; a comment is not."""
    before = load_workload(folder / "chat.yaml").digest
    (folder / "chat.yaml").write_text("# a comment\n" + SERVING)
    assert load_workload(folder / "chat.yaml").digest == before
    (folder / "trace.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,2,1\n")
    traced = load_workload(folder / "chat.yaml").digest
    (folder / "model" / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 101}))
    assert len({before, traced, load_workload(folder / "chat.yaml").digest}) == 3


def test_neither_file_nor_preset() -> None:
    """A misspelt preset is answered with the nearest one."""
    with pytest.raises(WorkloadError, match=r"did you mean 'llama3-70b-serving'\?"):
        load_workload("llama3-70b-servin")


def test_documents_made_in_python_are_resolved_too(folder: Path) -> None:
    """The folder for their paths is given; mistakes name their place."""
    document = load(folder / "chat.yaml", WorkloadDocument)
    assert resolve(document, folder).jobs == load_workload(folder / "chat.yaml").jobs
    with pytest.raises(WorkloadError, match=r"jobs\.0\.model\.config: .*cannot be read"):
        resolve(document, folder / "model")
