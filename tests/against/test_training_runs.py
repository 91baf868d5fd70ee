"""Published training runs under the shipped calibration, and published memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import Report
from benchmarks.training_accuracy import PROTOCOLS, Judge
from benchmarks.training_memory import activation_scores, peak_scores
from benchmarks.training_speed import configurations_per_second
from planner.costs import load_calibration
from planner.costs.scores import score


@pytest.fixture(scope="module")
def judged(shared_data: Path) -> Judge:
    return Judge(shared_data / "measured-training", load_calibration())


@pytest.mark.reference
@pytest.mark.parametrize(
    ("source", "most"),
    [
        ("korthikanti22-tab5", 0.04), ("megatron-sc21-table1", 0.06), ("mosaic-a100-40", 0.09),
        ("mosaic-h100-bf16", 0.09), ("vtrain-single", 0.07), ("vtrain-multi", 0.08),
        ("megatron-bridge-26.06", 0.12), ("nemo-24.07-h100 (rev b)", 0.12),
    ],
)  # fmt: skip
def test_runs_that_the_calibration_has_seen_are_met(source: str, most: float, judged: Judge) -> None:
    """The shipped coefficients reproduce the runs behind them within about what is asked of unseen ones."""
    places = judged.places(lambda run: run.source == source)
    guesses = judged.predicted(judged.calibration, places)
    assert score(guesses, judged.measured[places]).mape < most


@pytest.mark.reference
def test_every_published_run_has_a_prediction(judged: Judge) -> None:
    """No row of the tables is unusable, and all predictions are finite."""
    guesses = judged.predicted(judged.calibration, np.arange(len(judged.runs)))
    assert judged.unusable == []
    assert np.isfinite(guesses).all()


@pytest.mark.reference
def test_a_model_size_of_llm_foundry_is_predicted_from_the_others(judged: Judge) -> None:
    """FSDP runs, one model size left out of the fit at a time: within 9 % on average."""
    protocol = next(one for one in PROTOCOLS if one.key.startswith("llm-foundry"))
    places, guesses = judged.left_out(protocol)
    assert score(guesses, judged.measured[places]).mape < 0.09


@pytest.mark.reference
@pytest.mark.parametrize("key", ["parameters and optimizer", "activations", "peak memory"])
def test_published_memory_is_met(key: str, shared_data: Path) -> None:
    """State and activations of Megatron within 2 %, torchtitan's peak within 10 %."""
    folder = shared_data / "measured-training"
    predicted, measured, must, _ = (activation_scores(folder) | peak_scores(folder))[key]
    assert score(predicted, measured).mape < must


def test_ten_thousand_configurations_take_less_than_a_second() -> None:
    """Whole costs, time and memory, of strategies for 1024 GPUs."""
    assert configurations_per_second() > 10_000


def test_a_folder_without_tables_gives_a_report_without_rows(tmp_path: Path) -> None:
    """Sealed folders may lack any table."""
    from benchmarks.training_accuracy import judge

    report = Report("training_accuracy")
    judge(tmp_path, report, {})
    assert [row["case"] for row in report.rows] == ["speed"]
