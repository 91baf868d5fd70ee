"""What is to run: models, traffic, training and serving jobs with their limits and CPU stages."""

from planner.workload.hf_config import read_config
from planner.workload.jobs import (
    Access,
    Budget,
    CpuStage,
    Degrees,
    Lengths,
    ModelReference,
    Recompute,
    ServingJob,
    Slo,
    Traffic,
    TrainingJob,
    WorkloadDocument,
)
from planner.workload.models import (
    BYTES_PER_ELEMENT,
    Experts,
    LatentAttention,
    ModelDocument,
    Precision,
    Transformer,
    VisionTower,
)
from planner.workload.resolve import ResolvedJob, Workload, load_workload, model_presets, resolve

__all__ = [
    "BYTES_PER_ELEMENT",
    "Access",
    "Budget",
    "CpuStage",
    "Degrees",
    "Experts",
    "LatentAttention",
    "Lengths",
    "ModelDocument",
    "ModelReference",
    "Precision",
    "Recompute",
    "ResolvedJob",
    "ServingJob",
    "Slo",
    "Traffic",
    "TrainingJob",
    "Transformer",
    "VisionTower",
    "Workload",
    "WorkloadDocument",
    "load_workload",
    "model_presets",
    "read_config",
    "resolve",
]
