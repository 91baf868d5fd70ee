"""What a plan places one by one, as JSON that a runtime reads: shards of tables, stages of operators."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.recommender import placement_of
from planner.placement.recommender_plan import PlacedTable, RecommenderPlan
from planner.placement.torchrec_plan import export_plan

SHARDING_MAP = "sharding.json"
STAGE_MAP = "stages.json"
ENSEMBLE_MAP = "ensemble.json"
TORCHREC_PLAN = "torchrec-plan.json"


def sharding_map(job: RecommenderPlan) -> str:
    """Return where every shard of every table lies.

    For each table the type of sharding and kernel by the names of TorchRec's ``ParameterSharding``, the ranks
    in order, and the shards with offsets and sizes in rows and columns.
    """
    gpus = job.ranks()
    found = {
        "job": job.name,
        "world_size": len(gpus),
        "devices": gpus,
        "tables": {table.table: _table(table) for table in job.tables},
    }
    return json.dumps(found, indent=1) + "\n"


def _table(table: PlacedTable) -> dict[str, Any]:
    return {
        "sharding_type": table.sharding,
        "compute_kernel": table.kernel,
        "tier": table.tier,
        "cache_load_factor": table.cache_share if table.tier == "cached" else None,
        "ranks": table.ranks,
        "shards": _shards(table),
    }


def _shards(table: PlacedTable) -> list[dict[str, Any]]:
    """Return offsets and sizes, rows first; every rank of a replicated table holds the one shard."""
    ranks = iter(table.ranks)
    found, column = [], 0
    for width in table.columns:
        row = 0
        for height in table.rows:
            where = table.ranks if table.sharding == "data_parallel" else [next(ranks)]
            found.append({"offset": [row, column], "size": [height, width], "ranks": where})
            row += height
        column += width
    return found


def torchrec_plan(job: RecommenderPlan) -> str:
    """Return the plan as ``ParameterSharding`` of every table, by TorchRec's own fields."""
    nodes = Counter(gpu.split("/", 1)[0] for gpu in job.ranks())
    return export_plan([placement_of(table) for table in job.tables], max(nodes.values()))


def stage_map(job: OperatorsPlan) -> str:
    """Return which device runs which operators, and what moves between them."""
    found = {
        "job": job.name,
        "graph": job.model,
        "host": job.host,
        "stages": [
            {"devices": stage.devices, "host": stage.on_host, "operators": stage.operators}
            for stage in job.stages
        ],
        "moves": [{"operator": move.operator, "from": move.source, "to": move.targets} for move in job.moves],
    }
    return json.dumps(found, indent=1) + "\n"


def ensemble_devices(job: EnsemblePlan) -> dict[str, list[tuple[str, int | None]]]:
    """Return the GPUs and slices in use by node, in order: the GPU and the memory slice that it starts at."""
    found: dict[str, list[tuple[str, int | None]]] = {}
    for gpu, start in sorted({(each.gpu, each.start) for each in job.instances}, key=repr):
        found.setdefault(gpu.split("/", 1)[0], []).append((gpu, start))
    return found


def ensemble_map(job: EnsemblePlan) -> str:
    """Return the devices, pools, instances, routes and transfers of an ensemble as the plan has them."""
    whole = job.model_dump(mode="json")
    kept = ("name", "model", "pools", "instances", "routes", "transfers")
    devices = {
        node: [{"gpu": gpu, "slice": start} for gpu, start in order]
        for node, order in ensemble_devices(job).items()
    }
    return json.dumps({"devices": devices} | {key: whole[key] for key in kept}, indent=1) + "\n"
