"""What is to run: models, traffic, tables, operator graphs, and the jobs that run them."""

from planner.workload.ensembles import EnsembleClass, EnsembleJob, EnsembleStage, StageGraph
from planner.workload.hf_config import read_config
from planner.workload.jobs import (
    AnyJob,
    Degrees,
    Lengths,
    ModelJob,
    ModelReference,
    Recompute,
    ServingJob,
    Sharing,
    Slo,
    Traffic,
    TrainingJob,
    WorkloadDocument,
)
from planner.workload.limits import Budget
from planner.workload.models import (
    BYTES_PER_ELEMENT,
    Experts,
    LatentAttention,
    ModelDocument,
    Precision,
    Transformer,
    VisionTower,
)
from planner.workload.operators import OperatorGraph, OperatorsJob
from planner.workload.resolve import Model, ResolvedJob, Workload, load_workload, model_presets, resolve
from planner.workload.stages import Access, CpuStage
from planner.workload.tables import EmbeddingTable, RecommenderJob

__all__ = [
    "BYTES_PER_ELEMENT",
    "Access",
    "AnyJob",
    "Budget",
    "CpuStage",
    "Degrees",
    "EmbeddingTable",
    "EnsembleClass",
    "EnsembleJob",
    "EnsembleStage",
    "Experts",
    "LatentAttention",
    "Lengths",
    "Model",
    "ModelDocument",
    "ModelJob",
    "ModelReference",
    "OperatorGraph",
    "OperatorsJob",
    "Precision",
    "RecommenderJob",
    "Recompute",
    "ResolvedJob",
    "ServingJob",
    "Sharing",
    "Slo",
    "StageGraph",
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
