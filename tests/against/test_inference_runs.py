"""Measured runs of serving engines against the shipped coefficients; they need the reference data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.inference_rows import silicon, tensorrt
from planner.calibrate.inference_batch import predict_runs
from planner.costs import load_calibration
from planner.costs.scores import score

pytestmark = pytest.mark.reference


def test_aggregated_serving_is_met(shared_data: Path) -> None:
    """TPOT within 16 % and TTFT within 35 % in the median, for at least 95 % of the configurations."""
    table = silicon(shared_data / "measured-inference")
    ttft, tpot, _ = predict_runs(table.runs, load_calibration()).plain()
    tokens = score(table.padded(tpot), table.measured("tpot"))
    first = score(table.padded(ttft), table.measured("ttft"))
    assert tokens.median < 0.16
    assert first.median < 0.35
    assert min(tokens.coverage, first.coverage) >= 0.95


def test_offline_throughput_is_met(shared_data: Path) -> None:
    """TensorRT-LLM throughput, all requests queued: within 18 % on average, every row has a prediction."""
    table = tensorrt(shared_data / "measured-inference", "offline-throughput")
    rate = predict_runs(table.runs, load_calibration()).rate[0]
    found = score(table.padded(rate), table.measured("rate"))
    assert found.mape < 0.18
    assert found.coverage == 1.0
    assert np.isfinite(found.spearman)
    assert found.spearman > 0.97
