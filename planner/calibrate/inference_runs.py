"""Measured runs of inference engines, read from tables: what ran, how, and what clients saw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from planner.calibrate.training_models import architectures
from planner.costs.coefficients import load_calibration
from planner.costs.engine import ENGINES, Precisions, engine_number
from planner.errors import PlannerError
from planner.topology import Device, find_device
from planner.workload import Transformer

Row = Mapping[str, str]
NARROW = ("fp8", "fp4", "int4")
DTYPES = {
    "": "bf16", "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "fp8": "fp8",
    "fp8_block": "fp8", "fp8_static": "fp8", "fp4": "fp4", "nvfp4": "fp4", "mxfp4": "fp4",
    "w4a16_mxfp4": "fp4", "int4": "int4", "int4_wo": "int4", "w4afp8": "int4", "int8": "int8",
    "int8_wo": "int8", "sq": "int8",
}  # fmt: skip
"""Data type of products by how tables call it."""
SUFFIXES = re.compile(
    r"(?:[-_ ](?:instruct|chat|hf|it|base|thinking|fp8|fp4|nvfp4|mxfp4|bf16|awq|gptq|kv|v2|2507|0324|0528))+$"
)
SAME_SHAPE = {
    "deepseek-r1": "deepseek-v3", "deepseek-v3.1": "deepseek-v3", "deepseekv3": "deepseek-v3",
    "llama-3.1-8b": "llama3-8b", "meta-llama-3.1-8b": "llama3-8b", "llama-3-8b": "llama3-8b",
    "llama-3.1-70b": "llama3-70b", "llama-3.3-70b": "llama3-70b", "meta-llama-3.1-70b": "llama3-70b",
    "llama-3.1-405b": "llama3-405b", "meta-llama-3.1-405b": "llama3-405b", "llama-7b": "llama2-7b",
    "llama-70b": "llama2-70b", "llama-2-7b": "llama2-7b", "llama-2-70b": "llama2-70b",
    "minimax-m2": "minimax-m2.5", "kimi-k2.5": "kimi-k2", "glm-4.6": "glm-4.7", "glm-4.5": "glm-4.7",
    "glm-5.1": "glm-5", "mistral-7b-v0.1": "mistral-7b", "mixtral-8x7b-v0.1": "mixtral-8x7b",
    "llama-4-scout": "llama4-scout", "llama-4-scout-17b-16e": "llama4-scout", "gpt-j-6b": "gpt-j-6b",
}  # fmt: skip
"""Published models that have the shape of a shipped one."""

GROUP = ("model_path", "system", "backend", "backend_version", "precision")
"""Columns that say where a run of an engine comes from."""


@dataclass(frozen=True)
class ServedRun:
    """One measured setting.

    Attributes
    ----------
    degrees
        ``tp``, ``pp``, ``adp``, ``moe_tp``, ``ep`` of a replica.
    prompt, output, clients
        Tokens of a request and requests at a time.
    measured
        What was measured by metric: ``ttft`` and ``tpot``, s; ``rate``, output tokens/s.
    open_settings
        Settings that the table leaves open: ``speculation``, ``lockstep``.
    group
        Where it came from, for tables of errors: source, engine and the like.
    """

    model: Transformer
    device: Device
    engine: str
    precisions: Precisions
    degrees: tuple[float, float, float, float, float]
    prompt: float
    output: float
    clients: float
    measured: dict[str, float] = field(default_factory=dict)
    open_settings: tuple[str, ...] = ()
    group: dict[str, str] = field(default_factory=dict)

    @property
    def gpus(self) -> float:
        """GPUs of the replica."""
        tp, pp, adp, _, _ = self.degrees
        return tp * pp * adp


def find_model(name: str, known: Mapping[str, Transformer]) -> Transformer | None:
    """Return the model that a table names, ``None`` where no shape is known: none is guessed.

    Organisation, precision and tuning of a name are left aside: ``nvidia/Qwen3-32B-NVFP4`` is ``qwen3-32b``.
    """
    plain = name.rsplit("/", 1)[-1].strip().lower().replace(" ", "-").replace("_", "-")
    bare = SUFFIXES.sub("", plain)
    table: dict[str, str] = {}
    for key in known:
        table.setdefault(key.lower().replace(" ", "-").replace("_", "-"), key)
    for form in (plain, bare):
        for one in (SAME_SHAPE.get(form, form), form):
            if one in table:
                return known[table[one]]
    return None


def read_device(name: str) -> Device | None:
    """Return the device that a table names, ``None`` where the catalogue has none."""
    try:
        return find_device(name)
    except PlannerError:
        return None


def engine_of(name: str) -> str:
    """Return the engine in a name such as ``TensorRT-LLM 0.17``; vLLM where none is known."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    if "tensorrt" in plain or "trt" in plain:
        return "trtllm"
    return next((one for one in ENGINES if one in plain), "vllm")


SMALLEST, LARGEST = 1e-12, 1e18
"""No cell that is not 0 is smaller or larger, in whatever unit."""


def number(row: Row, name: str, default: float = np.nan) -> float:
    """Return a cell as a number, ``default`` where it is blank or holds none."""
    try:
        value = float(row.get(name) or default)
    except ValueError:
        return default
    return value if value == 0.0 or SMALLEST <= value <= LARGEST else default


def at_least_one(row: Row, name: str) -> float:
    """Return a degree; blank and 0 mean 1."""
    return max(number(row, name, 1.0), 1.0)


def precisions_of(weights: str, experts: str, engine: str, device: Device) -> Precisions:
    """Return data types by component; the cache is FP8 beside narrow weights where engines default to it.

    That is TensorRT-LLM's quantised checkpoints, and devices with FP4 units.
    """
    own = DTYPES.get(weights.lower(), "bf16")
    routed = DTYPES.get(experts.lower(), own) if experts else own
    narrow = own in NARROW or routed in NARROW
    small = narrow and (engine == "trtllm" or "fp4" in device.peak)
    own = "bf16" if own == "fp16" else own
    return Precisions(own, "bf16" if routed == "fp16" else routed, "fp8" if small else "bf16")


def stated_degrees(row: Row, model: Transformer, domain: float, prefix: str = "") -> tuple[float, ...]:
    """Return tensor, pipeline and attention-data degrees, and how experts are split.

    Tables of InferenceX runs multiply degrees that engines use on the same GPUs: ``tp 64, moe_tp 8, ep 8``
    and ``tp 8, ep 8`` are one run of 8 GPUs, as equal figures under both show. A product of ``tp`` and
    ``adp`` that is the square of the expert degree, and more than a domain holds or stated on both, is read
    as its root.
    """
    tp, pp, adp, moe_tp, ep = (
        at_least_one(row, f"{prefix}{name}")
        for name in ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    if model.experts is None:
        return tp, pp, adp, tp, 1.0
    stage = tp * adp
    root = float(round(stage**0.5))
    squared = root > 1 and root * root == stage and moe_tp * ep == stage
    if squared and ((moe_tp == ep == root and stage > 8) or tp == adp == root):
        return (1.0, pp, root, 1.0, root) if adp == stage else (root, pp, 1.0, 1.0, root)
    if tp > 8 and adp == 1 and domain > 8:  # more ranks than heads allow: attention copies with experts apart
        return 1.0, pp, tp, 1.0, tp
    if model.heads % tp:
        return 1.0, pp, stage, 1.0, stage
    ep = min(ep, stage)
    return tp, pp, adp, stage / ep, ep


def known_models(folder: Path | None) -> dict[str, Transformer]:
    """Return the models of a folder's ``architectures.csv`` and the shipped ones, shipped ones first."""
    return architectures(None) | architectures(folder)


def unstated(model: Transformer) -> tuple[str, ...]:
    """Return the settings that tables of served runs leave open for a model.

    Whether clients run in lockstep (equal lengths, all started together) and, for models that ship a
    multi-token-prediction layer, whether it drafts.
    """
    return ("lockstep", "speculation") if model.latent is not None and model.experts else ("lockstep",)


def read_silicon(rows: Sequence[Row], folder: Path | None) -> list[ServedRun | None]:
    """Return the aggregated runs of a table with the columns of ``aiconfigurator-silicon.csv``.

    ``None`` for a row whose model or device is unknown.
    """
    known, calibration = known_models(folder), load_calibration()  # a usual domain is no fitted number
    found: list[ServedRun | None] = []
    for row in rows:
        model, device = find_model(row.get("model_path", ""), known), read_device(row.get("system", ""))
        if model is None or device is None:
            found.append(None)
            continue
        engine = engine_of(row.get("backend", ""))
        domain = engine_number(calibration, "domain", device.name)
        tp, pp, adp, moe_tp, ep = stated_degrees(row, model, domain)
        clients = number(row, "concurrency", number(row, "batch_size") * adp)
        if not min(clients, number(row, "isl", 0.0), number(row, "osl", 0.0)) >= 1.0:  # NaN is none either
            found.append(None)
            continue
        precisions = precisions_of(
            row.get("gemm_quant_mode") or row.get("precision", ""),
            row.get("moe_quant_mode", ""),
            engine,
            device,
        )
        found.append(
            ServedRun(
                model, device, engine, precisions, (tp, pp, adp, moe_tp, ep),
                number(row, "isl"), number(row, "osl"), clients,
                {"ttft": number(row, "ttft_ms") / 1e3, "tpot": number(row, "tpot_ms") / 1e3},
                unstated(model),
                {key: row.get(key, "") for key in GROUP},
            )
        )  # fmt: skip
    return found


def read_offline(rows: Sequence[Row], folder: Path | None) -> list[ServedRun | None]:
    """Return the runs of a table with the columns of the TensorRT-LLM throughput tables.

    All requests wait at once; with a static batch as many as the batch. Mixtures of experts of release 1.0
    and later run with attention data parallelism and expert parallelism, as their page says.
    """
    known = known_models(folder)
    found: list[ServedRun | None] = []
    for row in rows:
        model, device = find_model(row.get("model", ""), known), read_device(row.get("gpu", ""))
        if model is None or device is None:
            found.append(None)
            continue
        engine = engine_of(row.get("engine", "trtllm"))
        tp, pp = at_least_one(row, "tp"), at_least_one(row, "pp")
        degrees = (tp, pp, 1.0, tp, 1.0)
        if model.experts is not None and re.search(r"LLM [1-9]", row.get("engine", "")):
            degrees = (1.0, pp, tp, 1.0, tp)
        rate = number(row, "output_tokens_per_s", number(row, "output_tokens_per_s_per_gpu") * tp * pp)
        clients = number(row, "batch_size", number(row, "num_requests", 3000.0))
        prompt = number(row, "isl", number(row, "isl_mean"))
        output = number(row, "osl", number(row, "osl_mean", 1.0))
        precisions = precisions_of(row.get("precision", ""), "", engine, device)
        names = (
            row.get("model", ""),
            row.get("gpu", ""),
            row.get("engine", ""),
            "",
            row.get("precision", ""),
        )
        found.append(
            ServedRun(
                model, device, engine, precisions, degrees, prompt, output, clients,
                {
                    "rate": rate,
                    "ttft": number(row, "first_token_latency_ms", number(row, "mean_ttft_ms")) / 1e3,
                    "tpot": number(row, "mean_itl_ms") / 1e3,
                },
                (),
                dict(zip(GROUP, names, strict=True)),
            )
        )  # fmt: skip
    return found
