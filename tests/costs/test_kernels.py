"""Laws of kernel times, and their figures on measured tables."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import load_calibration
from planner.costs.coefficients import best_matmul, device_rates
from planner.costs.kernel_fits import chip_of, distance, donors
from planner.costs.kernels import Kernels, kernels
from planner.errors import CalibrationError, TopologyError
from planner.topology import catalogue, find_device

DATA = Path(__file__).parents[3] / "shared" / "data"
SIZES = st.integers(4, 15).map(lambda power: float(2**power))
DEVICES = st.sampled_from(["h100-sxm-80", "gb200", "a100-sxm-80", "h200-sxm", "l40s", "b200-sxm", "mi300x"])
DTYPES = st.sampled_from(["bf16", "fp8"])


@cache
def model(name: str) -> Kernels:
    return kernels(find_device(name), load_calibration())


@given(DEVICES, DTYPES, SIZES, SIZES, SIZES)
def test_no_product_beats_the_peak(name: str, dtype: str, m: float, n: float, k: float) -> None:
    """A product takes at least its operations over the best rate, which is at most the vendor's peak."""
    rate = model(name).matmul(dtype)
    assert 2.0 * m * n * k / float(model(name).gemm(m, n, k, dtype)) <= rate * (1.0 + 1e-12)
    device = find_device(name)
    assert rate <= max(figure.value for figure in device.peak.values())
    assert rate == best_matmul(device, dtype, load_calibration())
    assert rate == device_rates(device, dtype, load_calibration()).matmul


@given(st.sampled_from(["h100-sxm-80", "gb200", "h200-sxm"]), SIZES, SIZES, SIZES, st.integers(0, 2))
def test_four_times_the_work_is_not_faster(name: str, m: float, n: float, k: float, grown: int) -> None:
    """Beyond what tiles, waves and the fitted surface move, a larger product takes longer."""
    sizes = [m, n, k]
    before = float(model(name).gemm(sizes[0], sizes[1], sizes[2], "bf16"))
    sizes[grown] *= 4.0
    assert float(model(name).gemm(sizes[0], sizes[1], sizes[2], "bf16")) > 0.8 * before


def test_small_products_read_weights_and_large_ones_compute() -> None:
    """One row on an H100 is bound by memory, many rows by arithmetic."""
    h100 = model("h100-sxm-80")
    read = 2.0 * 8192 * 8192 / 3.35e12
    assert read < float(h100.gemm(1, 8192, 8192, "bf16")) < 2.0 * read
    compute = 2.0 * 8192**3 / 989e12
    assert compute < float(h100.gemm(8192, 8192, 8192, "bf16")) < 1.6 * compute


def test_waves_are_quantised() -> None:
    """One more row than whole tiles hold costs far more than a row's share."""
    h100 = model("h100-sxm-80")
    times = h100.gemm(np.asarray([2048.0, 2049.0]), 8192, 8192, "bf16")
    assert times[1] / times[0] - 1.0 > 5.0 / 2048


def test_one_group_is_a_plain_product_and_many_read_more() -> None:
    """A grouped product of one group equals the product; splitting its rows over experts costs weights."""
    h100 = model("h100-sxm-80")
    plain = float(h100.gemm(64, 4096, 4096, "bf16"))
    assert float(h100.grouped_gemm(64, 1, 4096, 4096, "bf16")) == pytest.approx(plain)
    assert float(h100.grouped_gemm(64, 16, 4096, 4096, "bf16")) > 3.0 * plain
    few, many = h100.grouped_gemm(2, np.asarray([2, 256]), 4096, 4096, "bf16")
    assert few == pytest.approx(many), "experts without a token cost nothing"


@given(st.integers(0, 7), st.integers(7, 14))
def test_attention_grows_with_sequences_and_keys(batch: int, keys: int) -> None:
    """Four times the sequences or keys of a prompt, and 16 times the sequences that decode, take longer."""
    h100 = model("h100-sxm-80")
    many, long = 2.0**batch, 2.0**keys
    decode = float(h100.decode_attention(many, long, 32, 8, 128))
    prefill = float(h100.prefill_attention(many, long, 0, 32, 8, 128))
    assert float(h100.decode_attention(16 * many, long, 32, 8, 128)) > 0.9 * decode
    assert float(h100.prefill_attention(4 * many, long, 0, 32, 8, 128)) > prefill
    assert float(h100.prefill_attention(many, 4 * long, 0, 32, 8, 128)) > prefill


def test_a_chunk_after_a_long_past_costs_more_than_alone() -> None:
    """The keys before a chunk are visited too, and a narrow cache is read faster."""
    h100 = model("h100-sxm-80")
    assert h100.prefill_attention(1, 2048, 30720, 32, 8, 128) > 3 * h100.prefill_attention(
        1, 2048, 0, 32, 8, 128
    )
    wide = float(h100.decode_attention(128, 8192, 32, 8, 128))
    assert float(h100.decode_attention(128, 8192, 32, 8, 128, kv_element=1.0)) < 0.7 * wide


def test_streaming_moves_bytes_at_the_memory_rate() -> None:
    """A gigabyte takes its time on the memory and a launch."""
    h100 = model("h100-sxm-80")
    rate = device_rates(find_device("h100"), "bf16", load_calibration()).memory
    assert float(h100.streaming(1e9)) == pytest.approx(1e9 / rate + h100.graph_launch)


def test_a_sister_lends_its_fit_through_the_peaks() -> None:
    """An H200 takes the H100's fit: equal where arithmetic binds, faster where reading does."""
    h100, h200 = model("h100-sxm-80"), model("h200-sxm")
    lent = donors(h200.device, "gemm", "bf16", load_calibration())
    assert [donor.fit.device for donor in lent] == ["h100-sxm-80"]
    assert float(h200.gemm(8192, 8192, 8192, "bf16")) == pytest.approx(
        float(h100.gemm(8192, 8192, 8192, "bf16")), rel=0.1
    )
    ratio = float(h100.gemm(8, 16384, 16384, "bf16") / h200.gemm(8, 16384, 16384, "bf16"))
    assert 1.2 < ratio < 4.8 / 3.35 * 1.1


def test_an_equal_device_by_another_name_gets_equal_times() -> None:
    """Transfer to a device with the lender's own figures changes nothing."""
    device = find_device("gb200").model_copy(update={"name": "twin"})
    twin = kernels(device, load_calibration())
    assert float(twin.gemm(300, 4096, 4096, "fp4")) == pytest.approx(
        float(model("gb200").gemm(300, 4096, 4096, "fp4"))
    )
    assert distance(device, find_device("gb200")) == 0.0
    assert chip_of(device, "bf16", find_device("gb200")) == chip_of(find_device("gb200"), "bf16")


def test_every_shipped_device_has_times_for_every_data_type() -> None:
    """No device of the catalogue is without a time, nor with one that is not finite."""
    for name, device in catalogue().items():
        for dtype in device.peak:
            assert 0.0 < float(model(name).gemm(128, 4096, 4096, dtype)) < 1.0, (name, dtype)
        assert 0.0 < float(model(name).decode_attention(8, 1024, 32, 8, 128)) < 1.0


def test_without_fits_the_calibration_is_named() -> None:
    """A calibration without kernels says so instead of guessing."""
    empty = load_calibration().model_copy(update={"kernels": {}})
    with pytest.raises(CalibrationError, match="no fit of gemm"):
        kernels(find_device("h100"), empty).gemm(1, 1, 1, "bf16")


@pytest.mark.parametrize("name", ["H100_SXM", "h100 sxm", "H100-SXM-80", "h100-sxm-80"])
def test_names_and_aliases_lead_to_one_device(name: str) -> None:
    """Capitals, underscores, dashes and blanks do not matter."""
    assert find_device(name) == find_device("h100")


def test_an_unknown_device_is_refused_with_the_nearest_name() -> None:
    """A slip of the pen is answered with the device that was meant."""
    with pytest.raises(TopologyError, match="did you mean 'h100-sxm-80'"):
        find_device("h100_smx")


def test_no_alias_stands_for_two_devices() -> None:
    """Each name of the catalogue, folded, belongs to one device."""
    owners: dict[str, str] = {}
    for device in catalogue().values():
        for name in {
            device.name,
            *(alias.replace("_", "-").replace(" ", "-").lower() for alias in device.aliases),
        }:
            assert owners.setdefault(name, device.name) == device.name, name


@pytest.mark.reference
def test_every_system_of_the_reference_tables_is_known() -> None:
    """Systems and GPUs that the measured tables name are in the catalogue."""
    folder = DATA
    if not folder.is_dir():
        pytest.skip("the reference data are absent")
    names = {row["system"] for row in _rows(folder / "measured-comm" / "system_specs.csv")}
    names |= {row["gpu"] for row in _rows(folder / "measured-training" / "rows.csv")}
    names |= {row["gpu"] for row in _rows(folder / "measured-inference" / "trtllm-offline-throughput.csv")}
    names |= {row["hardware"] for row in _rows(folder / "measured-inference" / "vllm-traces-summary.csv")}
    assert names
    for name in sorted(names):
        find_device(name)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
