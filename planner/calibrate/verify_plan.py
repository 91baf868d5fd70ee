"""The checks that a plan asks for: what runs, on which rank, and what is predicted for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from planner.calibrate.fit import outside
from planner.calibrate.run.backend import Backend
from planner.calibrate.run.compute import decode_item, gemm_item, prefill_item
from planner.calibrate.run.items import Bench, Item, Run, UnavailableError
from planner.calibrate.verification import Unverified
from planner.calibrate.verify_orders import together_seconds
from planner.calibrate.verify_predict import Predictor
from planner.calibrate.verify_stages import StageDims
from planner.costs import collectives
from planner.costs.products import Product
from planner.errors import CalibrationError
from planner.placement import ServingPlan, TrainingPlan
from planner.placement.job_problem import JobProblem
from planner.placement.problem import ServingProblem, TrainingProblem
from planner.workload import BYTES_PER_ELEMENT, Transformer

RUNNABLE = {"cpu": ("fp32",), "cuda": ("bf16", "fp16", "tf32")}
"""Data types in which the stages can be built, the one that stands for others first."""
MOST_STAGE_SECONDS = 1.0
"""Predicted time of a stage above which layers are left out, s: it is repeated some ten times."""
TRAINED_BYTES = 16.0
"""Bytes of a weight in training here: itself, its gradient, two moments, four bytes each."""
MOST_MESSAGE = float(1 << 26)


@dataclass(frozen=True)
class Check:
    """One item to measure with its prediction, s."""

    item: Item
    kind: str
    predicted: float
    note: str = ""
    extrapolated: tuple[str, ...] = ()


@dataclass
class Checks:
    """Everything about one job of a plan.

    Attributes
    ----------
    unverified
        Parts of the plan that nothing here can run.
    """

    checks: list[Check] = field(default_factory=list)
    unverified: list[Unverified] = field(default_factory=list)

    def miss(self, item: str, reason: str) -> None:
        """Note a part that stays unverified."""
        self.unverified.append(Unverified(item=item, reason=reason))


@dataclass(frozen=True)
class Shard:
    """What the checks of a job's stages share.

    Attributes
    ----------
    world
        Processes at hand; with as many as stages each runs its own, else rank 0 runs one after the other.
    stages
        Dimensions of what every stage builds.
    layers
        Layers of every stage in the plan.
    """

    predictor: Predictor
    backend: Backend
    world: int
    stages: tuple[StageDims, ...]
    layers: tuple[int, ...]

    @property
    def together(self) -> bool:
        """Whether there is a process for every stage, and no other."""
        return self.world == len(self.stages)

    def note(self, stage: int) -> str:
        """Return how much of a stage runs."""
        built, planned = self.stages[stage].layers, self.layers[stage]
        return "" if built == planned else f"{built} of {planned} layers"

    def kinds(self) -> list[int]:
        """Return one stage of each kind: same layers, same ends."""
        seen: dict[StageDims, int] = {}
        for number, dims in enumerate(self.stages):
            seen.setdefault(dims, number)
        return list(seen.values())

    def order(self, stage: int, **fields: Any) -> dict[str, Any]:
        """Return the order that runs one stage on its rank, or on rank 0 where it has none."""
        mine = [asdict(one) for one in self.stages]
        if not self.together:
            return {"who": 0, "stages": [mine[stage]] * self.world, **fields}
        return {"who": stage, "stages": mine, **fields}


def shard_of(problem: JobProblem, plan: TrainingPlan | ServingPlan, backend: Backend, world: int) -> Shard:
    """Return the stages of a job as they run here: in a type that torch has, with as many layers as fit.

    Raises
    ------
    CalibrationError
        If the plan is for another device than the one at hand, or its model has parts that are not built.
    """
    at_hand = backend.identity().device
    if problem.device.name != at_hand:
        raise CalibrationError(
            f"the plan is for {problem.device.name!r} and the device here is {at_hand!r}; "
            "verify it where its devices are, or solve for this one"
        )
    model = problem.model
    if not isinstance(model, Transformer) or model.experts is not None or model.latent is not None:
        raise CalibrationError(f"stages of {plan.model!r} cannot be built here: only dense transformers can")
    wanted, tp = plan.strategy.precision or _precision(problem), plan.strategy.tp
    known = RUNNABLE[backend.kind]
    predictor = Predictor(
        problem.device, problem.calibration, model, tp, wanted if wanted in known else known[0]
    )
    trained = isinstance(plan, TrainingPlan)
    planned = tuple(plan.layers)
    ends = len(planned) - 1
    whole = [
        _dims(predictor, count, first=number == 0, last=number == ends)
        for number, count in enumerate(planned)
    ]
    most = _most_layers(predictor, whole, problem, trained, backend, world)
    stages = tuple(StageDims.of(asdict(one) | {"layers": min(one.layers, most)}) for one in whole)
    return Shard(predictor, backend, world, stages, planned)


def _precision(problem: JobProblem) -> str:
    job = problem.job
    return str(getattr(job, "precision", "bf16"))


def _dims(predictor: Predictor, layers: int, *, first: bool, last: bool) -> StageDims:
    model, tp = predictor.model, predictor.tp
    heads, kv_heads = predictor.heads
    return StageDims(
        hidden=model.hidden, ffn=model.ffn // tp, heads=heads, kv_heads=kv_heads, head_dim=model.head_dim,
        vocab=model.vocab // tp, matrices=model.mlp_matrices, layers=layers, first=first, last=last,
        dtype=predictor.dtype,
    )  # fmt: skip


def _most_layers(
    predictor: Predictor, stages: Sequence[StageDims], problem: JobProblem, trained: bool, backend: Backend,
    world: int,
) -> int:  # fmt: skip
    """Return how many layers of a stage memory and time allow, 1 at least."""
    element = TRAINED_BYTES if trained else BYTES_PER_ELEMENT[predictor.dtype]
    room = backend.free_memory() / (world if backend.kind == "cpu" else 1)
    room -= max(one.edge_parameters for one in stages) * element
    fit = math.floor(room / (stages[0].layer_parameters * element))
    if isinstance(problem, TrainingProblem):
        each = predictor.train_stage(1, 1, problem.job.sequence, first=False, last=False)
    else:
        each = predictor.prefill_stage(1, 1, prompt_of(problem), first=False, last=False)
    return max(1, min(fit, math.floor(MOST_STAGE_SECONDS / each)))


def prompt_of(problem: JobProblem) -> int:
    """Return the tokens of a mean prompt."""
    assert isinstance(problem, ServingProblem)
    return max(1, round(problem.job.traffic.prompt.mean))


def kernel_checks(shard: Shard, rows: Sequence[int]) -> Iterator[Check]:
    """Yield the products of a layer, and of the output, for some numbers of rows."""
    predictor = shard.predictor
    for count in rows:
        for one in predictor.products(count):
            yield _product_check(predictor, one)


def _product_check(predictor: Predictor, one: Product) -> Check:
    m, n, k = (int(size) for size in (one.m, one.n, one.k))
    item = gemm_item(m, n, k, predictor.dtype)
    return Check(
        item, "product", predictor.product(one), one.name.replace("_", " "),
        _extrapolated(predictor, "gemm", item.sizes),
    )  # fmt: skip


def prompt_attention_check(shard: Shard, batch: int, tokens: int) -> Check:
    """Return the attention of a layer over whole prompts."""
    predictor, (heads, kv_heads) = shard.predictor, shard.predictor.heads
    item = prefill_item(batch, tokens, heads, kv_heads, predictor.model.head_dim, predictor.dtype)
    return Check(
        item, "attention", predictor.prefill(batch, tokens), "",
        _extrapolated(predictor, "prefill", item.sizes),
    )  # fmt: skip


def cache_attention_check(shard: Shard, batch: int, keys: int) -> Check:
    """Return the attention of a layer of one token per sequence."""
    predictor, (heads, kv_heads) = shard.predictor, shard.predictor.heads
    item = decode_item(batch, keys, heads, kv_heads, predictor.model.head_dim, predictor.dtype)
    return Check(
        item, "attention", predictor.decode(batch, keys), "",
        _extrapolated(predictor, "decode", item.sizes),
    )  # fmt: skip


def _extrapolated(predictor: Predictor, kind: str, sizes: Mapping[str, float]) -> tuple[str, ...]:
    """Return the sizes outside the measured range, where the device has a fit of its own at this type."""
    fit = predictor.calibration.kernels.get(f"{predictor.device.name}.{kind}.{predictor.dtype}")
    return () if fit is None else tuple(outside(fit, sizes))


def stage_check(shard: Shard, stage: int, mode: str, predicted: float, **fields: Any) -> Check:
    """Return one pass of a stage alone."""
    trained = mode in ("train", "update")
    order = shard.order(stage, do="stage", mode=mode, trained=trained, keys=fields.pop("keys", 0), **fields)
    name = f"stage {stage} {mode}"
    return Check(_item(name, partial(_one_rank, order)), "stage", predicted, shard.note(stage))


def _item(name: str, prepare: Any) -> Item:
    return Item(name, "verify", {}, {}, prepare)


def _one_rank(order: dict[str, Any], bench: Bench) -> Run:
    team = _team(bench)

    def run(loops: int) -> float:
        found = team.call(order | {"loops": loops})
        return float(next(one for one in found if one is not None))

    return run


def together_check(shard: Shard, name: str, predicted: float, order: dict[str, Any]) -> Check:
    """Return something that all stages do together; rank 0 has the time."""
    notes = {shard.note(stage) for stage in range(len(shard.stages))} - {""}
    item = Item(name, "verify", {}, {}, partial(_all_ranks, order), long=True)
    return Check(item, "pipeline", predicted, ", ".join(sorted(notes)))


def _all_ranks(order: dict[str, Any], bench: Bench) -> Run:
    team = _team(bench)

    return lambda loops: together_seconds(order, team.call(order))


def _team(bench: Bench) -> Any:
    if bench.team is None:
        raise UnavailableError("no processes were started")
    return bench.team()


def send_seconds(problem: JobProblem, level: np.ndarray[Any, Any], size: float) -> float:
    """Return the predicted time of a message between neighbouring stages, s."""
    return float(collectives.send(level, problem.fabric, np.asarray([size])).time(size)[0])


def all_reduce_seconds(problem: JobProblem, members: np.ndarray[Any, Any], group: int, size: float) -> float:
    """Return the predicted time of an all-reduce of ``size`` bytes among ``group`` ranks, s."""
    ranks = np.asarray([float(group)])
    return float(collectives.all_reduce(np.asarray([size]), ranks, members[:1], problem.fabric).time(size)[0])
