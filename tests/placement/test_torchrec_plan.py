"""Plans of TorchRec in and out: round trips, and what is wrong is named with its line."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.embeddings import Kernel, ShardingKind, row_parts
from planner.errors import DocumentError
from planner.placement.tables import TablePlacement
from planner.placement.torchrec_plan import export_plan, import_plan
from planner.workload.tables import EmbeddingTable

TABLE = EmbeddingTable(name="t", rows=1001, dim=128, pooling=1.0)
KINDS: tuple[ShardingKind, ...] = (
    "data_parallel", "table_wise", "column_wise", "table_column_wise", "row_wise", "table_row_wise",
    "grid_shard",
)  # fmt: skip


def placement(kind: ShardingKind, kernel: Kernel, name: str = "t") -> TablePlacement:
    """Return a legal placement on four ranks of two hosts."""
    columns = (64, 64) if kind in ("column_wise", "table_column_wise", "grid_shard") else (128,)
    parts = {"row_wise": 4, "table_row_wise": 2, "grid_shard": 2}.get(kind, 1)
    ranks = {"table_wise": (3,), "column_wise": (2, 0), "table_column_wise": (2, 3), "table_row_wise": (2, 3)}
    return TablePlacement(
        table=name,
        kind=kind,
        kernel="dense" if kind == "data_parallel" else kernel,
        load_factor=0.3 if kernel == "fused_uvm_caching" and kind != "data_parallel" else 0.0,
        columns=columns,
        rows=row_parts(1001, parts),
        ranks=ranks.get(kind, (0, 1, 2, 3)),
    )


@given(st.sampled_from(KINDS), st.sampled_from(["fused", "fused_uvm", "fused_uvm_caching"]))
def test_a_plan_survives_export_and_import(kind: ShardingKind, kernel: Kernel) -> None:
    """What is written is read back as the same placement, for every kind of sharding and kernel."""
    before = placement(kind, kernel)
    path = Path("plan.json")
    text = export_plan([before], 2)
    shards = json.loads(text)["plan"]["embedding_bag_collection"]["t"]["sharding_spec"]
    assert (shards is None) == (kind == "data_parallel")
    assert _read(text, path) == (before,)


def _read(text: str, name: Path, tables: list[EmbeddingTable] | None = None) -> tuple[TablePlacement, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        return import_plan(path, tables or [TABLE])


def test_devices_are_named_by_their_place_on_the_host() -> None:
    """Rank 3 with two ranks a host is the second device of the second host."""
    plan = json.loads(export_plan([placement("table_wise", "fused")], 2))["plan"]["embedding_bag_collection"]
    shard = plan["t"]["sharding_spec"]["shards"][0]
    assert shard == {"shard_offsets": [0, 0], "shard_sizes": [1001, 128], "placement": "rank:3/cuda:1"}


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"table_wise"', '"diagonal"', 5, "Input should be"),
        ('"rank:3/cuda:1"', '"cuda:1"', 21, "pattern"),
        ('"t": {', '"other": {', 4, "no such table"),
        ("1001", '"many"', 18, "integer"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, line: int, words: str) -> None:
    """An unknown kind, a place without a rank, an unknown table and a size that is no number are refused."""
    text = export_plan([placement("table_wise", "fused")], 2).replace(old, new)
    with pytest.raises(DocumentError, match=words) as caught:
        _read(text, Path("plan.json"))
    assert caught.value.problems[0].line == line


def test_shards_that_leave_a_hole_are_refused() -> None:
    """Shards must follow one another and every column block must be cut alike."""
    text = export_plan([placement("grid_shard", "fused")], 2)
    broken = json.loads(text)
    broken["plan"]["embedding_bag_collection"]["t"]["sharding_spec"]["shards"][1]["shard_offsets"] = [600, 0]
    with pytest.raises(DocumentError, match="does not follow"):
        _read(json.dumps(broken), Path("plan.json"))


def test_a_missing_table_is_named() -> None:
    """A plan that leaves a table out is refused."""
    other = EmbeddingTable(name="u", rows=10, dim=8, pooling=1.0)
    with pytest.raises(DocumentError, match="lacks the tables u"):
        _read(export_plan([placement("row_wise", "fused")], 2), Path("plan.json"), [TABLE, other])
