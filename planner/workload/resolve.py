"""From a ``workload/1`` document to a `Workload`: models and files found, fields checked together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from planner.errors import WorkloadError, nearest
from planner.schema import Fault, canonical_json, is_file, load, plain, presets
from planner.schema.locate import raise_faults
from planner.workload.ensembles import EnsembleJob, StageGraph
from planner.workload.hf_config import read_config
from planner.workload.jobs import AnyJob, ModelJob, ModelReference, ServingJob, TrainingJob, WorkloadDocument
from planner.workload.models import ModelDocument, Transformer
from planner.workload.operator_files import read_operators
from planner.workload.operators import OperatorGraph, OperatorsJob, graph_of
from planner.workload.tables import EmbeddingTable, RecommenderJob, read_tables

KIND = "workloads"
Tables = tuple[EmbeddingTable, ...]
Model = Transformer | Tables | OperatorGraph | StageGraph
"""What a job runs: a transformer, a recommender's tables, a graph of operators, the stages of an ensemble."""


@dataclass(frozen=True)
class ResolvedJob:
    """A job with what it runs and the files that it names.

    Attributes
    ----------
    trace
        The trace of arrivals, ``None`` where arrivals are drawn.
    """

    job: AnyJob
    model: Model
    trace: Path | None = None


@dataclass(frozen=True)
class Workload:
    """The jobs of a document, ready to be planned.

    Attributes
    ----------
    digest
        SHA-256 of the document, of the shapes of its models and of its traces.
    """

    document: WorkloadDocument
    jobs: tuple[ResolvedJob, ...]
    digest: str

    @property
    def name(self) -> str:
        """Name of the document."""
        return self.document.name


def load_workload(reference: str | Path) -> Workload:
    """Load a workload from a file or by the name of a preset.

    Paths of configurations and traces are relative to the folder of the document and must stay inside it.

    Raises
    ------
    DocumentError
        If the document is malformed, or a name or path in it refers to nothing.
    WorkloadError
        If there is neither such a file nor such a preset.
    """
    path = presets.find(KIND, reference, WorkloadError)
    document = load(path, WorkloadDocument)
    jobs, faults = _resolve_jobs(document, path.parent)
    raise_faults(path, faults)
    return Workload(document, tuple(jobs), _digest(document, jobs))


def resolve(document: WorkloadDocument, folder: Path = Path()) -> Workload:
    """Return the workload of a document made in Python; its paths are relative to ``folder``.

    Raises
    ------
    WorkloadError
        If a name or path in the document refers to nothing.
    """
    jobs, faults = _resolve_jobs(document, folder)
    if faults:
        raise WorkloadError("\n".join(f"{'.'.join(map(str, fault.loc))}: {fault.text}" for fault in faults))
    return Workload(document, tuple(jobs), _digest(document, jobs))


@cache
def model_presets() -> dict[str, Transformer]:
    """Return the shipped models by name."""
    document = load(presets.folder(KIND) / "models.yaml", ModelDocument)
    return {model.name: model for model in document.models}


def _resolve_jobs(document: WorkloadDocument, folder: Path) -> tuple[list[ResolvedJob], list[Fault]]:
    jobs: list[ResolvedJob] = []
    faults: list[Fault] = []
    names: set[str] = set()
    for index, job in enumerate(document.jobs):
        if job.name in names:
            faults.append(Fault(("jobs", index, "name"), f"the job {job.name!r} is named twice"))
        names.add(job.name)
        found: list[Fault] = []
        resolved = _resolve_job(job, folder, found)
        if resolved is not None:
            jobs.append(resolved)
        faults.extend(Fault(("jobs", index, *fault.loc), fault.text, fault.hint) for fault in found)
    return jobs, faults


def _resolve_job(job: AnyJob, folder: Path, faults: list[Fault]) -> ResolvedJob | None:
    """Return a job with what it runs, or add what is wrong with it to ``faults``."""
    if isinstance(job, RecommenderJob):
        if not isinstance(job.tables, str):
            return ResolvedJob(job, tuple(job.tables))
        path = _find_file(job.tables, ("tables",), folder, faults)
        return None if path is None else ResolvedJob(job, tuple(read_tables(path)))
    if isinstance(job, OperatorsJob):
        if job.graph is None:
            return ResolvedJob(job, graph_of(job.operators))
        path = _find_file(job.graph, ("graph",), folder, faults)
        return None if path is None else ResolvedJob(job, read_operators(path, job.time_unit).graph)
    if isinstance(job, EnsembleJob):
        return ResolvedJob(job, StageGraph(tuple(job.stages)))
    model = _find_model(job.model, folder, faults)
    trace = None
    if isinstance(job, ServingJob) and job.traffic.trace is not None:
        trace = _find_file(job.traffic.trace, ("traffic", "trace"), folder, faults)
    if model is None:
        return None
    faults.extend(_mismatches(job, model))
    return ResolvedJob(job, model, trace)


def _find_model(reference: ModelReference, folder: Path, faults: list[Fault]) -> Transformer | None:
    if reference.dims is not None:
        return reference.dims
    if reference.config is not None:
        try:
            return read_config(_inside(folder, reference.config))
        except WorkloadError as error:
            faults.append(Fault(("model", "config"), str(error)))
            return None
    name = str(reference.preset)
    if name not in model_presets():
        close = nearest(name, model_presets())
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(model_presets())}"
        faults.append(Fault(("model",), f"unknown model {name!r}", hint))
        return None
    return model_presets()[name]


def _find_file(text: str, place: tuple[str, ...], folder: Path, faults: list[Fault]) -> Path | None:
    try:
        path = _inside(folder, text)
    except WorkloadError as error:
        faults.append(Fault(place, str(error)))
        return None
    if not is_file(path):
        faults.append(Fault(place, f"there is no file {path}"))
        return None
    return path


def _inside(folder: Path, text: str) -> Path:
    """Return a path below the folder of the document.

    Raises
    ------
    WorkloadError
        If it leads out of the folder, by itself or through a symbolic link.
    """
    if "\0" in text:
        raise WorkloadError("a path cannot hold a null character")
    path = folder / text
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # too long, or links that lead in a circle
        raise WorkloadError(f"no file can be reached by {text[:80]!r}: {error}") from None
    if not inside:
        raise WorkloadError(f"{text!r} leads out of the folder of the document; keep the file beside it")
    return path


def _mismatches(job: ModelJob, model: Transformer) -> Iterator[Fault]:
    """Yield what the job asks of a model that this one cannot do."""
    if isinstance(job, ServingJob) and job.traffic.images and model.vision is None:
        yield Fault(
            ("traffic", "images"), f"the model {model.name!r} has no vision tower and takes no images"
        )
    if isinstance(job, TrainingJob) and 0 < model.learned_positions < job.sequence:
        text = f"the model {model.name!r} has learned positions for {model.learned_positions} tokens only"
        yield Fault(("sequence",), text)


def _digest(document: WorkloadDocument, jobs: list[ResolvedJob]) -> str:
    whole = hashlib.sha256(canonical_json(document))
    for resolved in jobs:
        if isinstance(resolved.model, Transformer):
            shape = resolved.model.model_copy(update={"name": "model", "source": None})  # folders name them
            whole.update(json.dumps(plain(shape), sort_keys=True).encode())
        else:
            whole.update(repr(resolved.model).encode())
        if resolved.trace is not None:
            with resolved.trace.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{whole.hexdigest()}"
