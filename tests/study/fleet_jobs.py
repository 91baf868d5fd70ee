"""Small services and training jobs for fleets, mixed clusters and offers at a price."""

from __future__ import annotations

from benchmarks.fleet import documents_of
from planner.study.inputs import Documents
from planner.workload import (
    AnyJob,
    Degrees,
    Lengths,
    ModelReference,
    ServingJob,
    Sharing,
    Slo,
    Traffic,
    TrainingJob,
    Transformer,
)

TINY = Transformer(
    name="tiny", layers=16, hidden=2048, ffn=8192, heads=16, kv_heads=8, head_dim=128, vocab=32000
)


def service(name: str, rate: float, sharing: Sharing | None = None, slo: Slo | None = None) -> ServingJob:
    """Return a small service."""
    traffic = Traffic(rate=rate, prompt=Lengths(mean=500, cv=0.5), output=Lengths(mean=100, cv=0.5))
    return ServingJob(
        kind="serving", name=name, model=ModelReference(dims=TINY), traffic=traffic, slo=slo or Slo(),
        sharing=sharing or Sharing(), degrees=Degrees(tp=[1], pp=[1]),
    )  # fmt: skip


def training(name: str) -> TrainingJob:
    """Return a small training job."""
    degrees = Degrees(tp=[1, 2], pp=[1], cp=[1], virtual=[1], micro_batch=[1], sharding=["optimizer", "none"])
    return TrainingJob(
        kind="training", name=name, model=ModelReference(dims=TINY), sequence=2048, global_batch=8,
        degrees=degrees,
    )  # fmt: skip


def documents(jobs: list[AnyJob]) -> Documents:
    """Return jobs on one DGX H100."""
    return documents_of("dgx-h100", jobs)
