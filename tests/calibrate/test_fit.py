"""Fits of whole documents: known coefficients come back, and gaps are said."""

from __future__ import annotations

import numpy as np
import pytest

from planner.calibrate.fit import fit_samples, outside
from planner.calibrate.samples import Sampled, Samples, Skipped
from planner.costs import load_calibration
from planner.costs.core_models import core_seconds
from planner.costs.kernel_fits import chip_of
from planner.costs.kernels import kernels
from planner.errors import CalibrationError
from planner.topology import find_device

TRUE = {
    "core_start": 2e-6, "compute": 0.35, "memory": 0.9, "vector": 0.55, "half_rows": 12.0,
    "half_columns": 8.0, "half_inner": 40.0,
}  # fmt: skip
SHAPES = [
    (float(m), float(n), float(k))
    for m in (1, 2, 4, 16, 64, 128, 512)
    for n in (256, 768, 2048, 8192)
    for k in (128, 512, 2048)
]


def disturbed(seconds: float, dice: np.random.Generator) -> list[float]:
    """Return nine repetitions with 10 % noise, one in twenty far too long."""
    times = seconds * np.exp(dice.normal(0.0, 0.1, 9))
    return [float(t) for t in np.where(dice.random(9) < 0.05, times * 5.0, times)]


def measured(seed: int = 0) -> Samples:
    """Return products and copies of a core with known coefficients."""
    dice, chip = np.random.default_rng(seed), chip_of(find_device("cpu-core"), "fp32")
    items = []
    for m, n, k in SHAPES:
        shape = tuple(np.asarray([size]) for size in (m, n, k))
        seconds = float(core_seconds("gemm", TRUE, chip, shape)[0])
        items.append(
            Sampled(
                item=f"gemm {m}x{n}x{k}",
                kind="gemm",
                sizes={"m": m, "n": n, "k": k},
                labels={"dtype": "fp32"},
                seconds=disturbed(seconds, dice),
            )
        )
    for way, rate in (("in", 11e9), ("out", 9e9)):
        for size in np.geomspace(1e3, 1e9, 60):
            items.append(
                Sampled(
                    item=f"copy {way} {size:g}",
                    kind="copy",
                    sizes={"bytes": float(size)},
                    labels={"mode": "pinned-copy", "way": way},
                    seconds=disturbed(8e-6 + float(size) / rate, dice),
                )
            )
    return Samples(name="synthetic", device="cpu-core", host="here", items=items, complete=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_known_coefficients_come_back_within_three_percent(seed: int) -> None:
    """10 % noise and 5 % outliers: start and rates of copies, and the times of products."""
    calibration = fit_samples(measured(seed), load_calibration()).calibration
    assert calibration.number("pinned_copy_in") == pytest.approx(11e9, rel=0.03)
    assert calibration.number("pinned_copy_out") == pytest.approx(9e9, rel=0.03)
    assert calibration.number("host_latency") == pytest.approx(8e-6, rel=0.03)
    device = find_device("cpu-core")
    table = kernels(device, load_calibration().model_copy(update={"kernels": calibration.kernels}))
    shape = tuple(np.asarray(column) for column in zip(*SHAPES, strict=True))
    error = (
        table.gemm(shape[0], shape[1], shape[2], "fp32")
        / core_seconds("gemm", TRUE, chip_of(device, "fp32"), shape)
        - 1.0
    )
    assert np.median(np.abs(error)) < 0.03
    assert calibration.kernels["cpu-core.gemm.fp32"].parameters["compute"] == pytest.approx(0.35, rel=0.03)


def test_a_calibration_says_what_it_was_measured_on_and_how_well() -> None:
    """Device, host, date, samples, spread, residual and range."""
    fit = fit_samples(measured(), load_calibration()).calibration
    assert (fit.devices, fit.host) == (["cpu-core"], "here")
    gemm = fit.kernels["cpu-core.gemm.fp32"]
    assert gemm.samples == len(SHAPES)
    assert 0.02 < (gemm.spread or 0.0) < 0.12
    assert gemm.residual < 0.08
    assert gemm.ranges["m"] == (1.0, 512.0)
    copy = fit.coefficients["pinned_copy_in"]
    assert (copy.provenance, copy.samples) == ("measured", 60)


def test_shapes_outside_the_measured_range_are_named() -> None:
    """More than twice beyond either end."""
    fit = fit_samples(measured(), load_calibration()).calibration.kernels["cpu-core.gemm.fp32"]
    assert outside(fit, {"m": 64.0, "n": 512.0, "k": 256.0}) == []
    assert outside(fit, {"m": 4096.0, "n": 512.0, "k": 16.0}) == ["m", "k"]


def test_what_the_samples_do_not_support_is_said() -> None:
    """Three shapes are no surface, a run cut short is no whole one, no items are nothing."""
    few = measured()
    few = few.model_copy(
        update={
            "items": [one for one in few.items if one.kind == "copy"] + few.items[:3],
            "complete": False,
            "skipped": [Skipped(item="x", reason="late")],
        }
    )
    found = fit_samples(few, load_calibration())
    assert not found.calibration.kernels
    assert any("3 shapes only" in warning for warning in found.warnings)
    assert any("cut short" in warning for warning in found.calibration.warnings)
    with pytest.raises(CalibrationError, match="no coefficient"):
        fit_samples(few.model_copy(update={"items": []}), load_calibration())


def test_a_device_keeps_its_own_fit_and_others_keep_theirs() -> None:
    """A calibration of a host's core changes its products and leaves those of a GPU alone."""
    base = load_calibration()
    fit = fit_samples(measured(), base).calibration
    merged = base.model_copy(update={"kernels": {**base.kernels, **fit.kernels}})
    gpu, core = find_device("h100-sxm-80"), find_device("cpu-core")
    shape = (np.asarray([512.0]), np.asarray([2048.0]), np.asarray([2048.0]))
    assert kernels(gpu, base).gemm(*shape, "bf16") == kernels(gpu, merged).gemm(*shape, "bf16")
    assert kernels(core, base).gemm(*shape, "fp32") != kernels(core, merged).gemm(*shape, "fp32")
