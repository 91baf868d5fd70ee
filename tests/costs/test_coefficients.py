from pathlib import Path

import pytest

from planner.costs import device_rates, load_calibration
from planner.errors import CalibrationError
from planner.topology import catalogue


def test_default_coefficients_are_sane_and_sourced() -> None:
    """Shares lie between 0 and 1, measured numbers say how many samples stand behind them or where from."""
    calibration = load_calibration()
    for name, one in calibration.coefficients.items():
        assert one.value >= 0.0, name
        assert one.source, name
        if name.endswith(("_efficiency", "_overlap", "_ratio", "_margin")):
            assert 0.0 <= one.value <= 1.0, name
        key = one.source.split(":")[0]
        assert key in calibration.sources or one.provenance in ("measured", "vendor", "assumed"), name


def test_a_missing_coefficient_names_its_neighbour() -> None:
    """A typing error is answered with the coefficient that was meant."""
    with pytest.raises(CalibrationError, match="matmul_efficiency"):
        load_calibration().number("matmul_eficiency")


def test_an_own_document_overrides_single_coefficients(tmp_path: Path) -> None:
    """What a document leaves out comes from the defaults."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema: calibration/1\nname: mine\ncoefficients:\n"
        "  matmul_efficiency: {value: 0.5, provenance: measured, source: bench}\n"
    )
    mine, base = load_calibration(path), load_calibration()
    assert mine.number("matmul_efficiency") == 0.5
    assert mine.number("host_latency") == base.number("host_latency")
    assert mine.content_digest != base.content_digest


def test_rates_are_the_published_ones_times_coefficients() -> None:
    """H100: at most a little above 794.5 TFLOP/s measured in bf16; 3350 GB/s of memory."""
    calibration = load_calibration()
    rates = device_rates(catalogue()["h100-sxm-80"], "bf16", calibration)
    assert rates.matmul == pytest.approx(794.5e12 * calibration.number("matmul_headroom"))
    assert rates.memory == pytest.approx(3350e9 * calibration.number("memory_efficiency"))
    assert rates.provenance == "measured"


def test_a_missing_data_type_falls_back_to_a_wider_one() -> None:
    """An A100 has no fp8: it computes in bf16. A V100 has no int8 in bf16 either, but fp16."""
    calibration = load_calibration()
    a100 = catalogue()["a100-sxm-80"]
    assert device_rates(a100, "fp8", calibration) == device_rates(a100, "bf16", calibration)
    assert device_rates(catalogue()["v100-sxm2-32"], "bf16", calibration).provenance == "assumed"


def test_a_changed_copy_has_a_digest_of_its_own() -> None:
    """What was derived from the old numbers does not travel with the copy."""
    base = load_calibration()
    before = base.content_digest
    changed = base.model_copy(update={"description": "changed"})
    assert changed.content_digest != before
    assert base.content_digest == before
