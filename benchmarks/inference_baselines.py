"""What the inference figures are compared with: a roofline, and a line through logarithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import cross_validate
from planner.calibrate.inference_runs import ServedRun
from planner.workload import BYTES_PER_ELEMENT

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def work(run: ServedRun) -> tuple[float, float, float]:
    """Return active parameters, bytes of weights and bytes of cache per token of a replica."""
    model = run.model
    routed = model.layers - model.dense_layers
    common = model.layers * model.attention_parameters + model.dense_layers * model.dense_mlp_parameters
    common += routed * model.shared_mlp_parameters + model.head_parameters
    experts, active = 0.0, float(common)
    if model.experts is not None:
        tokens = max(run.clients, 1.0)
        met = 1.0 - (1.0 - model.experts.top_k / model.experts.num_experts) ** tokens
        experts = routed * model.expert_parameters * model.experts.num_experts * met
        active += routed * model.expert_parameters * model.experts.top_k
    size = {"int4": 0.5, **BYTES_PER_ELEMENT}
    weights = common * size[run.precisions.weights] + experts * size[run.precisions.experts]
    return active, weights, model.layers * model.kv_width * size[run.precisions.kv]


def roofline(run: ServedRun) -> tuple[float, float]:
    """Return first-token and per-token time, s: bytes over memory rate, operations over peak, no more."""
    active, weights, row = work(run)
    dtype = run.precisions.experts if run.model.experts is not None else run.precisions.weights
    peaks: dict[str, float] = {name: one.value for name, one in run.device.peak.items()}
    peak = peaks.get(dtype, peaks.get("bf16", peaks.get("fp16", max(peaks.values())))) * run.gpus
    memory = run.device.memory_bandwidth.value * run.gpus
    prompt = 2.0 * active * run.prompt / peak
    read = weights + run.clients * (run.prompt + run.output / 2.0) * row
    token = max(read / memory, 2.0 * active * run.clients / peak)
    return prompt, token + run.clients * prompt / run.output


def log_linear(
    runs: Sequence[ServedRun], measured: FloatArray, key: Callable[[ServedRun], str]
) -> FloatArray:
    """Return times from a least-squares line through logarithms of settings, groups left out."""
    features = []
    for run in runs:
        active, weights, row = work(run)
        memory = run.device.memory_bandwidth.value
        sizes = (active, weights, row, memory, run.gpus, run.prompt, run.output, max(run.clients, 1.0))
        features.append([1.0, *np.log(sizes)])
    table, target = np.asarray(features), np.log(measured)

    def predict(fit: IntArray, test: IntArray) -> FloatArray:
        line = np.linalg.lstsq(table[fit], target[fit], rcond=None)[0]
        return np.asarray(np.exp(np.clip(table[test] @ line, -30.0, 30.0)))

    return cross_validate([key(run) for run in runs], predict)
