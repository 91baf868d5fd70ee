"""What is said of served models: rates, strategies and spans as arrays, behaviour, lengths of requests."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration, DeviceRates, device_rates
from planner.costs.kernels import Kernels, kernels
from planner.topology import Device
from planner.workload import ServingJob, Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NORMAL_99 = 2.3263478740408408
"""99th percentile of the standard normal law."""


@dataclass(frozen=True)
class ServingRates(DeviceRates):
    """Rates of a device and its kernels.

    Attributes
    ----------
    graphs
        Whether decode steps run as CUDA graphs.
    """

    kernels: Kernels
    graphs: bool


def serving_rates(
    device: Device, precision: str, calibration: Calibration, *, graphs: bool = True
) -> ServingRates:
    """Return what a device reaches when it serves at a data type."""
    rates = device_rates(device, precision, calibration, graphs=graphs)
    own = {field.name: getattr(rates, field.name) for field in fields(DeviceRates)}
    return ServingRates(**own, kernels=kernels(device, calibration), graphs=graphs)


@dataclass(frozen=True)
class ServingCandidates:
    """Strategies as arrays of shape (n,): replicas, and the degrees inside one replica.

    Attributes
    ----------
    tp
        GPUs of a pipeline stage.
    adp
        Copies of attention that these hold, each over ``tp / adp`` of them and with requests of its own.
    """

    replicas: IntArray
    tp: IntArray
    pp: IntArray
    ep: IntArray
    adp: IntArray

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, rows: IntArray) -> ServingCandidates:
        """Return the strategies of some rows."""
        return ServingCandidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def ranks(self) -> IntArray:
        """GPUs in all."""
        return self.replicas * self.tp * self.pp


@dataclass(frozen=True)
class ServingSpans:
    """Members per domain of the groups of a stage and of an attention copy, and the worst stage hop.

    Attributes
    ----------
    tp, attention : ndarray, shape (n, levels)
        Of all ``tp`` GPUs of a stage; of the ``tp / adp`` GPUs of a copy of attention.
    pipeline : ndarray, shape (n,)
        Level that the worst hop between stages crosses.
    """

    tp: FloatArray
    attention: FloatArray
    pipeline: IntArray

    def take(self, rows: IntArray) -> ServingSpans:
        """Return the spans of some rows."""
        return ServingSpans(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class ServingCosts:
    """Predicted behaviour; arrays of shape (n,), s unless said otherwise.

    Attributes
    ----------
    batch
        Mean number of sequences that decode together on a replica.
    max_batch
        Most sequences that memory (and the job's own cap) allow.
    feasible
        Whether a steady state within memory exists.
    weights, kv_per_token, working
        Bytes per device: weights, cache of one token, transient.
    """

    prefill: FloatArray
    decode: FloatArray
    batch: FloatArray
    max_batch: FloatArray
    utilisation: FloatArray
    ttft_mean: FloatArray
    ttft_p99: FloatArray
    tpot_mean: FloatArray
    tpot_p99: FloatArray
    latency_mean: FloatArray
    latency_p99: FloatArray
    feasible: NDArray[np.bool_]
    weights: FloatArray
    kv_per_token: FloatArray
    working: FloatArray


def prompt_tokens(job: ServingJob, model: Transformer) -> float:
    """Return the mean prompt tokens that have to be computed: text outside the prefix cache, and images."""
    text = job.traffic.prompt.mean * (1.0 - job.traffic.prefix)
    images = job.traffic.images * (model.vision.tokens if model.vision else 0)
    return text + images


def context_tokens(job: ServingJob, model: Transformer) -> float:
    """Return the mean tokens in the cache of a request halfway through its output."""
    images = job.traffic.images * (model.vision.tokens if model.vision else 0)
    return job.traffic.prompt.mean + images + job.traffic.output.mean / 2.0


def lognormal_p99(mean: float, cv: float) -> float:
    """Return the 99th percentile of a log-normal law of given mean and coefficient of variation."""
    variance = float(np.log1p(cv * cv))
    return mean * float(np.exp(NORMAL_99 * np.sqrt(variance) - variance / 2.0))


def lognormal_p01(mean: float, cv: float) -> float:
    """Return the first percentile of a log-normal law of given mean and coefficient of variation."""
    variance = float(np.log1p(cv * cv))
    return mean * float(np.exp(-NORMAL_99 * np.sqrt(variance) - variance / 2.0))
