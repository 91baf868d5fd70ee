"""Fits of engines' coefficients: known ones come back, names of models are read honestly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.calibrate.inference import fit_inference, grouped, primed
from planner.calibrate.inference_batch import predict_runs
from planner.calibrate.inference_runs import (
    ServedRun,
    find_model,
    known_models,
    precisions_of,
    read_silicon,
    stated_degrees,
)
from planner.costs import load_calibration
from planner.costs.engine import Precisions
from planner.topology import find_device
from planner.workload import model_presets

CALIBRATION = load_calibration()


def runs(engine: str = "vllm") -> list[ServedRun]:
    model, device = model_presets()["llama3-8b"], find_device("h100-sxm-80")
    return [
        ServedRun(model, device, engine, Precisions(), (tp, 1.0, 1.0, tp, 1.0), prompt, output, clients)
        for tp in (1.0, 4.0)
        for prompt in (512.0, 4096.0)
        for output in (128.0, 1024.0)
        for clients in (1.0, 8.0, 64.0)
    ]


def test_a_fit_recovers_the_times_that_made_its_rows() -> None:
    """Rows made with slower hosts are predicted within 5 % after a fit, where the start is farther off."""
    base = CALIBRATION.coefficients["engine_step_vllm"]
    changed = {"engine_step_vllm": base.model_copy(update={"value": 4e-3})}
    truth = CALIBRATION.model_copy(update={"coefficients": {**CALIBRATION.coefficients, **changed}})
    made = predict_runs(runs(), truth)
    rows = [
        replace(run, measured={"ttft": float(made.ttft[0, i]), "tpot": float(made.tpot[0, i])})
        for i, run in enumerate(runs())
    ]
    fitted = fit_inference(rows, CALIBRATION)
    again = predict_runs(rows, fitted.calibration(CALIBRATION, "test")).tpot[0] / made.tpot[0]
    before = predict_runs(rows, CALIBRATION).tpot[0] / made.tpot[0]
    assert np.median(np.abs(again - 1)) < 0.05
    assert np.median(np.abs(again - 1)) < np.median(np.abs(before - 1))


def test_rows_that_are_left_out_change_nothing() -> None:
    """A fit that leaves half of the rows out does not see what they measured."""
    rows = [replace(run, measured={"ttft": 0.1, "tpot": 0.01}) for run in runs()]
    keep = np.arange(len(rows)) % 2 == 0
    wrong = [
        one if kept else replace(one, measured={"ttft": 9.0, "tpot": 9.0})
        for one, kept in zip(rows, keep, strict=True)
    ]
    first, second = (
        fit_inference(some, CALIBRATION, batch=primed(some, CALIBRATION), keep=keep).values
        for some in (rows, wrong)
    )
    assert first == pytest.approx(second)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("nvidia/Qwen3-32B-NVFP4", "qwen3-32b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3-8b"),
        ("MiniMaxAI/MiniMax-M2.5", "minimax-m2.5"),
        ("Llama 3.3 70B", "llama3-70b"),
    ],
)
def test_published_names_find_their_shape(name: str, shape: str) -> None:
    """Organisation, precision and tuning of a name do not matter."""
    found = find_model(name, known_models(None))
    assert found is not None
    assert found.name == shape


def test_no_shape_is_guessed() -> None:
    """A model that nobody described has no prediction, however alike its name."""
    assert find_model("Qwen/Qwen4-32B", known_models(None)) is None
    row = {"model_path": "Qwen/Qwen4-32B", "system": "h100_sxm", "backend": "vllm"}
    assert read_silicon([row], None) == [None]


def test_squared_degrees_are_read_as_their_root() -> None:
    """tp 64 with experts 8 x 8 is a run of 8 GPUs; tp 8 with 8 experts ranks is what it says."""
    model = model_presets()["deepseek-v3"]
    row = {"tp_size": "64", "attention_dp_size": "1", "moe_tp_size": "8", "moe_ep_size": "8"}
    assert stated_degrees(row, model, 8.0) == (8.0, 1.0, 1.0, 1.0, 8.0)
    row = {"tp_size": "8", "attention_dp_size": "1", "moe_tp_size": "2", "moe_ep_size": "4"}
    assert stated_degrees(row, model, 8.0) == (8.0, 1.0, 1.0, 2.0, 4.0)


def test_caches_are_narrow_where_engines_make_them_so() -> None:
    """FP8 weights bring an FP8 cache in TensorRT-LLM and on devices with FP4 units only."""
    hopper, blackwell = find_device("h100-sxm-80"), find_device("b200-sxm")
    assert precisions_of("fp8", "", "trtllm", hopper).kv == "fp8"
    assert precisions_of("fp8", "", "vllm", hopper).kv == "bf16"
    assert precisions_of("fp8", "", "vllm", blackwell).kv == "fp8"
    assert precisions_of("bf16", "", "trtllm", blackwell).kv == "bf16"


def test_repeats_count_once() -> None:
    """Three repeats of a configuration become one run with their median."""
    one = runs()[0]
    repeats = [replace(one, measured={"ttft": 1.0, "tpot": value}) for value in (0.01, 0.02, 0.09)]
    assert [run.measured["tpot"] for run in grouped(repeats)] == [0.02]
