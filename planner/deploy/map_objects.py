"""The maps of recommenders and operator graphs as objects of a cluster."""

from __future__ import annotations

import base64
import gzip
from typing import Any

from planner.deploy.context import Context, job_name
from planner.deploy.errors import DeployError
from planner.deploy.maps import ENSEMBLE_MAP, SHARDING_MAP, STAGE_MAP, ensemble_map, sharding_map, stage_map
from planner.deploy.names import dns_label
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.recommender_plan import RecommenderPlan

Json = dict[str, Any]
LARGEST_MAP = 2**20 - 2**14
"""Bytes that fit into a ConfigMap beside its metadata (the API server's limit is 1 MiB)."""


def map_objects(context: Context, job: OperatorsPlan | RecommenderPlan | EnsemblePlan) -> list[Json]:
    """Return the ConfigMap with the map of a job, compressed where the text is larger than one may hold.

    Raises
    ------
    DeployError
        If even the compressed map is too large; the launch files have it.
    """
    if isinstance(job, EnsemblePlan):
        key, text = ENSEMBLE_MAP, ensemble_map(job)
    elif isinstance(job, RecommenderPlan):
        key, text = SHARDING_MAP, sharding_map(job)
    else:
        key, text = STAGE_MAP, stage_map(job)
    name = dns_label(f"{job_name(job)}-map")
    labels = context.labels("planner-map", job_name(job), job.kind, context.plan.name)
    meta = context.meta(name, labels) | {"annotations": context.annotations(job)}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta} | _content(job.name, key, text)]


def _content(job: str, key: str, text: str) -> Json:
    if len(text.encode()) <= LARGEST_MAP:
        return {"data": {key: text}}
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    if len(packed) > LARGEST_MAP:
        raise DeployError(
            f"job {job!r}: {key} takes {len(packed)} bytes even compressed, more than a ConfigMap holds; "
            "'planner emit launch' writes it as a file"
        )
    return {"binaryData": {f"{key}.gz": packed}}
