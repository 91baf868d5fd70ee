"""Fitting kernels: known coefficients come back, surfaces learn what the model misses, must figures hold."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import Report
from benchmarks.kernels import read_groups, run
from planner.calibrate.kernels import TYPICAL, Kind, fit_kernel
from planner.calibrate.surfaces import fit_surface
from planner.costs import load_calibration
from planner.costs.kernel_fits import chip_of
from planner.costs.kernels import base_seconds, fitted_seconds
from planner.errors import CalibrationError
from planner.topology import find_device

DATA = Path(__file__).parents[3] / "shared" / "data" / "measured-compute"
FIXED = {"part_keys": 256.0, "blocks_per_processor": 2.0, "heads_per_processor": 2.0, "sharing_blocks": 0.25}


def shapes(kind: Kind, count: int) -> tuple[np.ndarray, ...]:
    """Return random shapes that cover the regimes."""
    random = np.random.default_rng(7)

    def powers(low: int, high: int) -> np.ndarray:
        return np.exp2(random.integers(low, high, count)).astype(float)

    if kind == "gemm":
        return powers(0, 14), powers(8, 14), powers(8, 14)
    kv_heads = powers(0, 4)
    heads, width = kv_heads * powers(0, 4), np.full(count, 128.0)
    if kind == "prefill":
        return powers(0, 6), powers(4, 14), np.zeros(count), heads, kv_heads, width
    return powers(0, 10), powers(2, 15), heads, kv_heads, width


@pytest.mark.parametrize("kind", ["gemm", "prefill", "decode"])
def test_known_coefficients_come_back(kind: Kind) -> None:
    """From times that the model made, with 2 % of noise, the fit predicts other shapes within 2 %."""
    device = find_device("h100")
    chip = chip_of(device, "bf16")
    truth = {name: value * 1.3 for name, value in TYPICAL[kind].items()} | (FIXED if kind == "decode" else {})
    sizes = shapes(kind, 120)
    exact = base_seconds(kind, truth, chip, sizes)
    noisy = exact * np.exp(0.02 * np.random.default_rng(3).standard_normal(120))
    seen = tuple(one[:90] for one in sizes)
    fit = fit_kernel(device, kind, "bf16", seen, noisy[:90], "synthetic", surface=False)
    found = fitted_seconds(kind, fit, chip, tuple(one[90:] for one in sizes))
    assert np.abs(found / exact[90:] - 1.0).mean() < 0.02
    assert fit.parameters["start"] == pytest.approx(truth["start"], rel=0.1)
    assert fit.samples == 90


def test_outliers_do_not_move_the_fit() -> None:
    """A tenth of the rows three times too slow moves the others by less than 5 %."""
    device, sizes = find_device("h100"), shapes("gemm", 100)
    chip = chip_of(device, "bf16")
    exact = base_seconds("gemm", TYPICAL["gemm"], chip, sizes)
    fit = fit_kernel(
        device,
        "gemm",
        "bf16",
        sizes,
        exact * np.where(np.arange(100) % 10, 1.0, 3.0),
        "synthetic",
        surface=False,
    )
    assert np.abs(fitted_seconds("gemm", fit, chip, sizes) / exact - 1.0).mean() < 0.05


def test_a_surface_learns_a_smooth_error_and_fades_outside() -> None:
    """A wave over two features is predicted at unseen points, and 0 far from every centre."""
    random = np.random.default_rng(1)
    points = random.uniform(0.0, 10.0, (200, 2))
    heights = 0.3 * np.sin(points[:, 0]) * np.cos(points[:, 1] / 2.0)
    surface = fit_surface(points[:150], heights[:150])
    assert np.abs(surface.at(points[150:]) - heights[150:]).mean() < 0.02
    assert len(surface.weights) <= 96
    assert np.abs(surface.at(np.asarray([[1e3, 1e3]]))) < 1e-12


@pytest.mark.parametrize("seconds", [np.zeros(0), np.asarray([0.0]), np.asarray([-1.0])])
def test_rows_without_a_time_are_refused(seconds: np.ndarray) -> None:
    """No rows, or a time of nothing, is an error that names the device."""
    sizes = tuple(np.ones(len(seconds)) for _ in range(3))
    with pytest.raises(CalibrationError, match="h100-sxm-80"):
        fit_kernel(find_device("h100"), "gemm", "bf16", sizes, seconds, "synthetic")


def test_the_runner_takes_unknown_systems_and_blank_cells(tmp_path: Path) -> None:
    """Rows of an unknown system count as missing; a blank time is no row, a blank size has no prediction."""
    (tmp_path / "gemm.csv").write_text(
        "system,dtype,m,n,k,latency_us\nabacus,bfloat16,1,256,256,3\nh100_sxm,bfloat16,16,4096,4096,14\n"
        "h100_sxm,bfloat16,,4096,4096,14\nh100_sxm,bfloat16,16,4096,4096,\nh100_sxm,int3,16,4096,4096,9\n"
    )
    report, _ = run(read_groups(tmp_path), load_calibration())
    coverage = {row["case"]: row["coverage"] for row in report.rows}
    assert coverage["shipped: gemm abacus bf16"] == 0.0
    assert coverage["shipped: gemm h100_sxm bf16"] == 0.5
    assert coverage["shipped: gemm h100_sxm int3"] == 0.0
    assert coverage["left out: GPU, gemm h100_sxm bf16"] == 0.0


@pytest.fixture(scope="module")
def reference() -> Report:
    """The shipped calibration on the reference tables."""
    if not DATA.is_dir():
        pytest.skip("the reference data are absent")
    return run(read_groups(DATA), load_calibration(), fitting=False)[0]


@pytest.mark.reference
def test_shipped_kernels_stay_near_the_tables(reference: Report) -> None:
    """Products and attention of the tables within 5 % on average, every group within 9 %."""
    errors = {row["case"]: row["value"] for row in reference.rows}
    assert errors["shipped: gemm all"] < 0.05
    assert errors["shipped: attention all"] < 0.05
    assert max(errors.values()) < 0.09


@pytest.mark.reference
def test_left_out_shapes_stay_under_the_must() -> None:
    """Half of a group of products and of one of prompts predicts the other half within 9 %."""
    if not DATA.is_dir():
        pytest.skip("the reference data are absent")
    for group in read_groups(DATA):
        if group.device is None or group.name not in ("gemm h100_sxm bf16", "prefill gb200 bf16"):
            continue
        order = np.random.default_rng(0).permutation(len(group.seconds))
        seen, unseen = order[: len(order) // 2], order[len(order) // 2 :]
        fit = fit_kernel(group.device, group.kind, group.dtype, group.at(seen), group.seconds[seen], "tables")
        guess = fitted_seconds(group.kind, fit, chip_of(group.device, group.dtype), group.at(unseen))
        assert np.abs(guess / group.seconds[unseen] - 1.0).mean() < 0.09, group.name
