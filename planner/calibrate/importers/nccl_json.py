"""JSON report of nccl-tests and rccl-tests (``-J``), with percentiles of iterations where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from planner.calibrate.importers.blocks import BenchOutput, CollectiveRow, CollectiveTable, OutputRefusedError
from planner.calibrate.importers.collective_checks import check_table, operation_of, ranks_of
from planner.calibrate.importers.structured import figure, parsed

MICRO, GIGA = 1e-6, 1e9
_PERCENTILES = ("min", "max", "avg", "p50", "p95", "p99", "stdev")


def read_nccl_json(text: str, name: str) -> BenchOutput:
    """Read the report of one run.

    Raises
    ------
    OutputRefusedError
        If it has no results or a result lacks its size or time.
    """
    body = parsed(text, name)
    results = body.get("results")
    if not isinstance(results, list) or not results:
        raise OutputRefusedError(name, 0, "no 'results'; the run may have been cut")
    rows = tuple(_row(one, f"results.{place}", name) for place, one in enumerate(results))
    config = body.get("config")
    config = config if isinstance(config, Mapping) else {}
    devices = config.get("devices", body.get("devices"))
    products = tuple(
        str(one.get("device_info", "")) for one in devices or () if isinstance(one, Mapping)
    )  # one entry a process: fewer than ranks where a process drives several devices
    listed = body.get("ranks") if isinstance(body.get("ranks"), int) else len(products) or None
    largest = max(rows, key=lambda row: row.size)
    ratio = largest.bus_rate / largest.algorithm_rate if largest.algorithm_rate > 0 else None
    reduces = any(str(one.get("redop", "none")) not in ("none", "") for one in results)
    operation = operation_of(_program(body), reduces, ratio, listed)
    ranks = ranks_of(operation, rows, None) or listed
    average = body.get("average_bus_bandwidth")
    mean = average.get("bandwidth") if isinstance(average, Mapping) else None
    table = CollectiveTable(
        operation, ranks, rows, float(mean) * GIGA if isinstance(mean, int | float) else None
    )
    bounds = body.get("out_of_bounds")
    wrong = int(bounds.get("count", 0)) if isinstance(bounds, Mapping) else 0
    versions = {"nccl": str(body["nccl_version"])} if "nccl_version" in body else {}
    warnings = tuple(check_table(table, name, _range(config), wrong))
    return BenchOutput("nccl-tests-json", (table,), versions, products, (), warnings)


def _row(result: Any, where: str, name: str) -> CollectiveRow:
    if not isinstance(result, Mapping):
        raise OutputRefusedError(name, 0, f"{where} is no mapping")
    halves = {
        key: value for key in ("out_of_place", "in_place") if isinstance(value := result.get(key), Mapping)
    }
    if not halves:
        raise OutputRefusedError(name, 0, f"{where} has neither 'out_of_place' nor 'in_place'")
    main = halves.get("out_of_place", halves.get("in_place", {}))
    again = halves.get("in_place") if "out_of_place" in halves else None
    clock = "time" if "time" in main else "cpu_time"
    percentiles = {
        key: float(main[key]) * MICRO for key in _PERCENTILES if isinstance(main.get(key), int | float)
    }
    wrong = main.get("nwrong")
    return CollectiveRow(
        figure(result, "size", where, name), figure(main, clock, where, name) * MICRO,
        figure(main, "alg_bw", where, name) * GIGA, figure(main, "bus_bw", where, name) * GIGA,
        None if again is None else figure(again, clock, where, name) * MICRO,
        None if again is None else figure(again, "bus_bw", where, name) * GIGA,
        0, float(wrong) if isinstance(wrong, int | float) else 0.0, percentiles,
    )  # fmt: skip


def _program(body: Mapping[str, Any]) -> str | None:
    arguments = body.get("args")
    if isinstance(arguments, list) and arguments:
        base = PurePath(str(arguments[0])).name
        return base.removesuffix("_perf") if base.endswith("_perf") else None
    return None


def _range(config: Mapping[str, Any]) -> tuple[int, int, int, str] | None:
    kind = "factor" if "step_factor" in config else "bytes"
    values = [config.get(key) for key in ("minimum_bytes", "maximum_bytes", f"step_{kind}")]
    if not all(isinstance(value, int) for value in values):
        return None
    smallest, largest, step = (int(str(value)) for value in values)
    return smallest, largest, step, kind
