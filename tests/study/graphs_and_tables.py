"""Small recommenders and operator graphs as documents, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner.schema import dump_yaml
from planner.solve import Budget
from planner.study import Sources, Study, load_documents, solve

TABLES: list[dict[str, Any]] = [
    {"name": "users", "rows": 40_000_000, "dim": 128, "pooling": 1, "skew": 1.05},
    {"name": "items", "rows": 900_000, "dim": 64, "pooling": 20, "skew": 1.05},
    {"name": "hours", "rows": 24, "dim": 16, "pooling": 1},
]
RECOMMENDER: dict[str, Any] = {
    "kind": "recommender",
    "name": "clicks",
    "global_batch": 4096,
    "optimizer": "rowwise-adagrad",
    "dense": {"flops": 1e6, "parameters": 1e6},
    "tables": TABLES,
    "budget": {"gpus": 2},
}
CHAIN: list[dict[str, Any]] = [
    {"name": "read", "cpu_time": "1 ms", "on_accelerator": False, "output": "1 MB"},
    {"name": "first", "accelerator_time": "3 ms", "size": "2 GB", "output": "8 MB", "inputs": ["read"]},
    {"name": "second", "accelerator_time": "8 ms", "size": "2 GB", "output": "8 MB", "inputs": ["first"]},
    {"name": "third", "accelerator_time": "4 ms", "size": "2 GB", "inputs": ["second"]},
]
OPERATORS: dict[str, Any] = {
    "kind": "operators",
    "name": "chain",
    "contiguous": True,
    "operators": CHAIN,
    "budget": {"gpus": 3},
}


def written(folder: Path, *jobs: dict[str, Any]) -> Path:
    """Return the path of a workload with some jobs."""
    path = folder / "work.yaml"
    path.write_text(dump_yaml({"schema": "workload/1", "name": "work", "jobs": list(jobs)}))
    return path


def solved(folder: Path, *jobs: dict[str, Any], topology: str = "dgx-h100", seconds: float = 5.0) -> Study:
    """Return the plan of some jobs on a shipped machine."""
    sources = Sources(topology, written(folder, *jobs), folder=folder)
    return solve(load_documents(sources), Budget(seconds=seconds), sources)
