"""Predicted against measured kernels: products and attention.

``python -m benchmarks.kernels FOLDER [--json OUT] [--write CALIBRATION] [--figures DIR]``: the folder holds
``gemm.csv`` and ``attention.csv``. Cases that start with ``shipped:`` use the shipped calibration as it is;
``left out:`` cases fit on the folder without what they predict: random shapes, or a whole GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accuracy import FloatArray, IntArray, Report, Row, column, cross_validate, read_rows
from planner.calibrate.kernels import Kind, fit_kernel
from planner.costs import Calibration, load_calibration
from planner.costs.coefficients import KernelFit, available_dtype
from planner.costs.kernels import Kernels, kernels
from planner.errors import PlannerError
from planner.schema import dump_yaml, load, write_text_atomic
from planner.topology import Device, find_device
from planner.workload.models import BYTES_PER_ELEMENT

Shape = tuple[FloatArray, ...]
MICRO = 1e-6
FOLDS = 5
MOST_DRAWN = 120
"""Points of a group in a figure, so that it stays small."""
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "nvfp4": "fp4"}
KINDS: Mapping[str, Kind] = {"context": "prefill", "generation": "decode"}
MUST = {"shape": 0.09, "gpu": 0.20}
SOURCE = "ai-dynamo/aiconfigurator-core 0.12.0, measured TensorRT-LLM kernel tables"


@dataclass(frozen=True)
class Group:
    """The rows of one system, kind and data type; ``device`` is None where the catalogue lacks it."""

    system: str
    device: Device | None
    kind: Kind
    dtype: str
    shape: Shape
    seconds: FloatArray

    @property
    def name(self) -> str:
        """What a table calls the group."""
        return f"{self.kind} {self.system} {self.dtype}"

    def at(self, rows: IntArray) -> Shape:
        """Return the shapes of some rows."""
        return tuple(one[rows] for one in self.shape)


def read_groups(folder: Path) -> list[Group]:
    """Return the rows of a folder that state a time, grouped."""
    found: dict[tuple[str, Kind, str], list[Row]] = {}
    for row in read_rows(folder / "gemm.csv"):
        if row.get("latency_us"):
            dtype = DTYPES.get(row["dtype"], row["dtype"])
            found.setdefault((row["system"], "gemm", dtype), []).append(row)
    for row in read_rows(folder / "attention.csv"):
        if row.get("latency_us") and row["phase"] in KINDS:
            found.setdefault((row["system"], KINDS[row["phase"]], "bf16"), []).append(row)
    return [
        Group(
            system,
            _device(system, dtype),
            kind,
            dtype,
            _shape(kind, rows),
            column(rows, "latency_us") * MICRO,
        )
        for (system, kind, dtype), rows in found.items()
    ]


def _device(system: str, dtype: str) -> Device | None:
    try:
        device = find_device(system)
        available_dtype(device, dtype)
    except PlannerError:
        return None
    return device


def _shape(kind: Kind, rows: Sequence[Row]) -> Shape:
    if kind == "gemm":
        return tuple(column(rows, name) for name in ("m", "n", "k"))
    batch, isl, step, heads, kv_heads, width = (
        column(rows, name)
        for name in ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim")
    )
    kv_heads = np.where(np.isnan(kv_heads) | (kv_heads == 0), heads, kv_heads)
    if kind == "prefill":
        return batch, isl, np.nan_to_num(step), heads, kv_heads, width
    return batch, isl + np.nan_to_num(step), heads, kv_heads, width


def predicted(model: Kernels, kind: Kind, dtype: str, shape: Shape) -> FloatArray:
    """Return the times of the model that ``planner solve`` uses; not a number where it has none."""
    known = np.all(np.isfinite(np.stack(shape)), axis=0)
    sizes = tuple(one[known] for one in shape)
    guesses = np.full(len(known), np.nan)
    if kind == "gemm":
        m, n, k = sizes
        guesses[known] = model.gemm(m, n, k, dtype)
    elif kind == "prefill":
        batch, queries, past, heads, kv_heads, width = sizes
        guesses[known] = model.prefill_attention(batch, queries, past, heads, kv_heads, width)
    else:
        batch, keys, heads, kv_heads, width = sizes
        guesses[known] = model.decode_attention(batch, keys, heads, kv_heads, width)
    return guesses


def fitted(group: Group, rows: IntArray) -> KernelFit | None:
    """Return the fit to some rows of a group; None without a known device or complete rows."""
    sizes = np.stack(group.shape)[:, rows]
    complete = rows[np.all(np.isfinite(sizes), axis=0)]
    if group.device is None or not len(complete):
        return None
    return fit_kernel(
        group.device, group.kind, group.dtype, group.at(complete), group.seconds[complete], SOURCE
    )


def fits_of(groups: Iterable[Group]) -> dict[str, KernelFit]:
    """Return a fit for every group of a known device."""
    found = [fitted(group, np.arange(len(group.seconds))) for group in groups]
    return {f"{fit.device}.{fit.kind}.{fit.dtype}": fit for fit in found if fit is not None}


def shapes_left_out(group: Group, shipped: Calibration) -> FloatArray:
    """Return k-fold predictions of a group, random shapes left out."""
    device = group.device
    if device is None or len(group.seconds) < FOLDS:
        return np.full(len(group.seconds), np.nan)

    def predict(fit: IntArray, test: IntArray) -> FloatArray:
        one = fitted(group, fit)
        if one is None:
            return np.full(len(test), np.nan)
        calibration = shipped.model_copy(update={"kernels": {"one": one}})
        return predicted(kernels(device, calibration), group.kind, group.dtype, group.at(test))

    return cross_validate(range(len(group.seconds)), predict, FOLDS)


def gpu_left_out(group: Group, fits: Mapping[str, KernelFit], shipped: Calibration) -> FloatArray:
    """Return predictions of a group from the fits of the other devices alone."""
    if group.device is None:
        return np.full(len(group.seconds), np.nan)
    others = {name: fit for name, fit in fits.items() if fit.device != group.device.name}
    model = kernels(group.device, shipped.model_copy(update={"kernels": others}))
    try:
        return predicted(model, group.kind, group.dtype, group.shape)
    except PlannerError:  # no other device in the folder has kernels of the kind
        return np.full(len(group.seconds), np.nan)


# -- baselines ---------------------------------------------------------------------------------------------


def work(group: Group) -> tuple[FloatArray, FloatArray]:
    """Return operations and bytes of the shapes of a group."""
    if group.kind == "gemm":
        m, n, k = group.shape
        return 2.0 * m * n * k, (m + n) * k * BYTES_PER_ELEMENT.get(group.dtype, 2.0) + 2.0 * m * n
    if group.kind == "prefill":
        batch, queries, past, heads, kv_heads, width = group.shape
        seen = past + queries / 2.0
        bytes_ = batch * width * (2.0 * queries * heads + 2.0 * (past + queries) * kv_heads) * 2.0
        return 4.0 * batch * queries * seen * heads * width, bytes_
    batch, keys, heads, kv_heads, width = group.shape
    return 4.0 * batch * keys * heads * width, 4.0 * batch * keys * kv_heads * width


def roofline(group: Group) -> FloatArray:
    """Return k-fold predictions of a roofline with three constants: start, compute and memory rate."""
    from scipy.optimize import least_squares

    flops, bytes_ = work(group)
    if len(flops) < FOLDS or not np.all(np.isfinite(flops)):
        return np.full(len(flops), np.nan)

    def model(point: FloatArray, rows: IntArray) -> FloatArray:
        return np.asarray(
            point[0] + np.log1p(np.maximum(flops[rows] * np.exp(point[1]), bytes_[rows] * np.exp(point[2])))
        )

    def predict(fit: IntArray, test: IntArray) -> FloatArray:
        logs = np.log(group.seconds[fit])
        start = float(logs.min())
        begin = np.asarray([start, -start - np.log(1e15), -start - np.log(3e12)])
        found = least_squares(lambda point: model(point, fit) - logs, begin, loss="soft_l1", f_scale=0.1)
        return np.exp(model(found.x, test))

    return cross_validate(range(len(group.seconds)), predict, FOLDS)


def interpolated(group: Group) -> FloatArray:
    """Return k-fold predictions by linear interpolation in logarithms, nearest row outside."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    points = np.log2(np.maximum(np.stack(group.shape, axis=1), 1.0))
    points = points[:, np.ptp(points, axis=0) > 0.0]
    if len(points) < 10 * FOLDS or not np.all(np.isfinite(points)):
        return np.full(len(points), np.nan)

    def predict(fit: IntArray, test: IntArray) -> FloatArray:
        logs = np.log(group.seconds[fit])
        inner = LinearNDInterpolator(points[fit], logs)(points[test])
        outer = NearestNDInterpolator(points[fit], logs)(points[test])
        return np.asarray(np.exp(np.where(np.isnan(inner), outer, inner)))

    return cross_validate(range(len(group.seconds)), predict, FOLDS)


# -- the report --------------------------------------------------------------------------------------------


def run(
    groups: list[Group], shipped: Calibration, *, fitting: bool = True
) -> tuple[Report, dict[str, FloatArray]]:
    """Return the report and the left-out predictions by group."""
    report, fits = Report("kernels"), fits_of(groups) if fitting else {}
    methods: dict[str, tuple[float | None, Callable[[Group], FloatArray]]] = {
        "shipped": (None, lambda group: _shipped(group, shipped))
    }
    if fitting:
        methods |= {
            "left out: shapes,": (MUST["shape"], lambda group: shapes_left_out(group, shipped)),
            "left out: GPU,": (MUST["gpu"], lambda group: gpu_left_out(group, fits, shipped)),
            "baseline: roofline,": (None, roofline),
            "baseline: interpolation,": (None, interpolated),
        }
    kept: dict[str, FloatArray] = {}
    for label, (must, method) in methods.items():
        guesses = {group.name: method(group) for group in groups}
        title = "shipped:" if label == "shipped" else label
        for group in groups:
            report.scored(f"{title} {group.name}", guesses[group.name], group.seconds, must)
        for family, kinds in (("gemm", {"gemm"}), ("attention", {"prefill", "decode"})):
            _all(report, f"{title} {family} all", [g for g in groups if g.kind in kinds], guesses, must)
        if label == "left out: shapes,":
            kept = guesses
    _summarise(report)
    return report, kept


def _shipped(group: Group, shipped: Calibration) -> FloatArray:
    if group.device is None:
        return np.full(len(group.seconds), np.nan)
    return predicted(kernels(group.device, shipped), group.kind, group.dtype, group.shape)


def _all(
    report: Report, case: str, groups: Sequence[Group], guesses: Mapping[str, FloatArray], must: float | None
) -> None:
    if groups:
        measured = np.concatenate([group.seconds for group in groups])
        report.scored(case, np.concatenate([guesses[group.name] for group in groups]), measured, must)


def _summarise(report: Report) -> None:
    values = {row["case"]: row["value"] for row in report.rows}
    for family in ("gemm", "attention"):
        for label, key in (
            ("shipped:", "shipped"), ("left out: shapes,", "shapes left out"),
            ("left out: GPU,", "GPU left out"), ("baseline: roofline,", "roofline"),
            ("baseline: interpolation,", "interpolation"),
        ):  # fmt: skip
            if f"{label} {family} all" in values:
                report.summary[f"{family} {key} mape"] = values[f"{label} {family} all"]


def speed(report: Report, shipped: Calibration) -> None:
    """Add how many shapes one CPU second prices."""
    random = np.random.default_rng(0)
    shapes = [np.exp2(random.uniform(4, 14, 100_000)) for _ in range(3)]
    for name in ("h100-sxm-80", "h200-sxm"):
        model = kernels(find_device(name), shipped)
        model.gemm(1.0, 1.0, 1.0, "bf16")
        start = time.process_time()
        model.gemm(shapes[0], shapes[1], shapes[2], "bf16")
        report.add(f"speed: gemm {name}", "shapes per CPU second", 1e5 / (time.process_time() - start))


def write_calibration(path: Path, fits: Mapping[str, KernelFit]) -> None:
    """Replace the fits of a calibration document; its other sections stay."""
    document = load(path, Calibration)
    whole = document.model_copy(update={"kernels": dict(sorted(fits.items()))})
    write_text_atomic(path, dump_yaml(whole))


def main() -> None:
    """Print the table; write JSON, calibration and plots where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="calibration document whose kernel fits to replace")
    parser.add_argument("--figures", type=Path, help="folder for scatter plots")
    arguments = parser.parse_args()
    groups = [group for group in read_groups(arguments.folder) if len(group.seconds)]
    if arguments.write:
        write_calibration(arguments.write, fits_of(groups))
        return
    shipped = load_calibration()
    report, guesses = run(groups, shipped)
    speed(report, shipped)
    print(report.table())
    report.write(arguments.json)
    if arguments.figures:
        from benchmarks.scatter import scatter

        for kind in ("gemm", "prefill", "decode"):
            points = {
                g.name: (guesses[g.name][:MOST_DRAWN], g.seconds[:MOST_DRAWN])
                for g in groups
                if g.kind == kind
            }
            if points:
                scatter(arguments.figures / f"kernels-{kind}.svg", points, "s")


if __name__ == "__main__":
    main()
