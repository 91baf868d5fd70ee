"""Sharding plans of TorchRec as JSON: ``ParameterSharding`` of every table, by module and parameter.

The fields are those of ``torchrec.distributed.types``: ``sharding_type``, ``compute_kernel``, ``ranks``,
``sharding_spec`` with the ``shard_offsets``, ``shard_sizes`` (rows, columns) and ``placement`` of every
shard, and ``cache_params``. A replicated table has no ``sharding_spec``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.costs.embeddings import Kernel, ShardingKind
from planner.errors import DocumentError, Problem
from planner.placement.tables import TablePlacement
from planner.schema.foreign import read_foreign_json, read_foreign_text, read_foreign_yaml
from planner.workload.tables import EmbeddingTable

MODULE = "embedding_bag_collection"
"""Module that exported tables are said to belong to."""

DEFAULT_LOAD_FACTOR = 0.2
"""Share of the rows that TorchRec's cache holds where a plan does not say."""


class _Shard(BaseModel):
    model_config = ConfigDict(extra="ignore")
    shard_offsets: tuple[int, int]
    shard_sizes: tuple[int, int]
    placement: str = Field(pattern=r"^rank:\d+(/.*)?$")

    @property
    def rank(self) -> int:
        found = re.match(r"rank:(\d+)", self.placement)
        assert found is not None
        return int(found.group(1))


class _Spec(BaseModel):
    model_config = ConfigDict(extra="ignore")
    shards: list[_Shard] = Field(min_length=1)


class _Cache(BaseModel):
    model_config = ConfigDict(extra="ignore")
    load_factor: float | None = Field(default=None, ge=0, le=1)


class _Sharding(BaseModel):
    model_config = ConfigDict(extra="ignore")
    sharding_type: ShardingKind
    compute_kernel: Kernel
    ranks: list[int] | None = None
    sharding_spec: _Spec | None = None
    cache_params: _Cache | None = None


def export_plan(placements: Sequence[TablePlacement], local_size: int, module: str = MODULE) -> str:
    """Return a plan as JSON that TorchRec's objects are made from field by field.

    Parameters
    ----------
    local_size
        Ranks on each host, by which a rank's device is named.
    """
    plan = {placement.table: _exported(placement, local_size) for placement in placements}
    return json.dumps({"plan": {module: plan}}, indent=1) + "\n"


def _exported(p: TablePlacement, local_size: int) -> dict[str, Any]:
    cache = {"load_factor": p.load_factor} if p.kernel == "fused_uvm_caching" else None
    head = {"sharding_type": p.kind, "compute_kernel": p.kernel, "ranks": list(p.ranks)}
    if p.kind == "data_parallel":
        return head | {"sharding_spec": None, "cache_params": cache}
    shards, ranks, column = [], iter(p.ranks), 0
    for width in p.columns:
        row = 0
        for height in p.rows:
            rank = next(ranks)
            place = f"rank:{rank}/cuda:{rank % local_size}"
            shards.append(
                {"shard_offsets": [row, column], "shard_sizes": [height, width], "placement": place}
            )
            row += height
        column += width
    return head | {"sharding_spec": {"shards": shards}, "cache_params": cache}


def import_plan(path: str | Path, tables: Sequence[EmbeddingTable]) -> tuple[TablePlacement, ...]:
    """Read a plan of TorchRec's: one JSON file, tables by module or directly by name.

    Raises
    ------
    DocumentError
        If the file is no JSON, a table is unknown or missing, or its shards do not make up the table; all
        tables that are wrong are named with their line.
    """
    name = str(path)
    text = read_foreign_text(Path(path), lambda reason: DocumentError([Problem(name, 0, 0, "", reason)]))
    sizes, found = {table.name: table for table in tables}, dict[str, TablePlacement]()
    wrong: list[tuple[tuple[Any, ...], str]] = []
    for steps, fields in _entries(read_foreign_json(text, name), ()):
        table = str(steps[-1])
        if table not in sizes or table in found:
            wrong.append((steps, "the table stands twice" if table in found else "no such table"))
            continue
        try:
            found[table] = _imported(sizes[table], _Sharding.model_validate(fields))
        except ValidationError as error:
            wrong += [((*steps, *each["loc"]), each["msg"]) for each in error.errors(include_url=False)]
        except ValueError as error:
            wrong.append((steps, str(error)))
    missing = [table for table in sizes if table not in found]
    if missing and not wrong:
        wrong.append(((), f"the plan lacks the tables {', '.join(missing)}"))
    if wrong:
        document = read_foreign_yaml(text, name)
        raise DocumentError(
            [Problem(name, document.line(*steps), 1, ".".join(map(str, steps)), why) for steps, why in wrong]
        )
    return tuple(found[table.name] for table in tables)


def _entries(data: Any, steps: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield the path and the fields of every table in a tree of modules."""
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        if isinstance(value, dict) and "sharding_type" in value:
            yield (*steps, key), value
        else:
            yield from _entries(value, (*steps, key))


def _imported(table: EmbeddingTable, sharding: _Sharding) -> TablePlacement:
    """Return the placement; ``ValueError`` where shards are not blocks of columns cut into rows alike."""
    columns: tuple[int, ...] = (table.dim,)
    rows: tuple[int, ...] = (table.rows,)
    ranks = tuple(sharding.ranks or ())
    if sharding.sharding_spec is not None:
        shards = sorted(sharding.sharding_spec.shards, key=lambda shard: shard.shard_offsets[::-1])
        blocks = [list(block) for _, block in groupby(shards, key=lambda shard: shard.shard_offsets[1])]
        columns = tuple(block[0].shard_sizes[1] for block in blocks)
        rows = tuple(shard.shard_sizes[0] for shard in blocks[0])
        ranks = tuple(shard.rank for shard in shards)
        _check_cut(blocks, columns, rows)
    elif not ranks:
        raise ValueError("neither ranks nor a sharding_spec say where the table lies")
    factor = sharding.cache_params.load_factor if sharding.cache_params else None
    if factor is None:
        factor = DEFAULT_LOAD_FACTOR if sharding.compute_kernel == "fused_uvm_caching" else 0.0
    return TablePlacement(
        table=table.name,
        kind=sharding.sharding_type,
        kernel=sharding.compute_kernel,
        load_factor=factor,
        columns=columns,
        rows=rows,
        ranks=ranks,
    )


def _check_cut(blocks: Sequence[Sequence[_Shard]], columns: Sequence[int], rows: Sequence[int]) -> None:
    column = 0
    for block, width in zip(blocks, columns, strict=True):
        row = 0
        for shard, height in zip(block, rows, strict=False):
            if shard.shard_offsets != (row, column) or shard.shard_sizes != (height, width):
                raise ValueError(
                    f"the shard at {list(shard.shard_offsets)} of {list(shard.shard_sizes)} does not follow "
                    "the shards before it"
                )
            row += height
        if len(block) != len(rows):
            raise ValueError("the column blocks are not cut into rows alike")
        column += width
