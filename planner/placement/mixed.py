"""Training over several device models at once: the problem, and the judge of a placement.

A *cell* is one pipeline stage of one replica: tp x cp GPUs of one device model. Stages have the same layers
in all replicas; replicas may take different numbers of micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planner.costs import Calibration, Spans, StageCosts, stage_costs
from planner.costs.measured_host import as_measured
from planner.costs.pipeline import in_flight, stage_memory, stage_times, sync_times, update_times
from planner.errors import WorkloadError
from planner.placement.groups import training_spans
from planner.placement.job_problem import gpus_within
from planner.placement.plan import Strategy
from planner.placement.problem import Problem, TrainingProblem
from planner.placement.training import RULES, as_candidates, broken_rules
from planner.topology import Hierarchy, Topology
from planner.workload import TrainingJob, Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EVEN_RULE = "dp x micro-batch divides the global batch"
MANY = 10**9


@dataclass(frozen=True)
class MixedTrainingProblem:
    """A training job on GPUs of several device models.

    Attributes
    ----------
    kinds
        The problem on each device model. All share the domains of the whole cluster; links inside a node have
        the rate of the model's own machines, links between nodes that of the slowest port.
    kind_of : ndarray, shape (num_gpus,)
        Number of the kind of every GPU.
    """

    job: TrainingJob
    model: Transformer
    topology: Topology
    kinds: tuple[TrainingProblem, ...]
    kind_of: IntArray

    @property
    def hierarchy(self) -> Hierarchy:
        """Locality of all GPUs."""
        return self.topology.hierarchy

    @cached_property
    def position(self) -> dict[str, int]:
        """Number of every GPU."""
        return {gpu: index for index, gpu in enumerate(self.hierarchy.gpus)}

    @cached_property
    def num_gpus(self) -> int:
        """Number of GPUs that may be used."""
        return gpus_within(self.job.budget, self.topology, self.hierarchy.gpus)


AnyProblem = Problem | MixedTrainingProblem
"""What a plan may be judged by."""


@dataclass(frozen=True)
class MixedPlacement:
    """Every decision of a mixed plan; ranks are ordered as in :class:`planner.placement.plan.TrainingPlan`.

    Attributes
    ----------
    layers
        Layers of each stage, the same in every replica.
    micro_batches
        Micro-batches of each replica in a step.
    """

    strategy: Strategy
    layers: tuple[int, ...]
    micro_batches: tuple[int, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True)
class MixedOutcome:
    """What the judge computes.

    Attributes
    ----------
    times : ndarray, shape (pp, dp)
        Time of every cell for one micro-batch, s.
    pipelines : ndarray, shape (dp,)
        Time of every replica until its last micro-batch is done, s.
    tails : ndarray, shape (pp, dp)
        Exposed synchronisation and update of every cell, s.
    memory : ndarray, shape (pp, dp)
        Bytes per device of every cell.
    kinds : ndarray, shape (pp, dp)
        Kind of every cell.
    """

    step_time: float
    times: FloatArray
    pipelines: FloatArray
    tails: FloatArray
    memory: FloatArray
    kinds: IntArray


def make_mixed_problem(
    job: TrainingJob, model: Transformer, topology: Topology, calibration: Calibration
) -> MixedTrainingProblem:
    """Return the problem of a job on all GPUs of a topology.

    Raises
    ------
    WorkloadError
        If the topology has no GPU, or the model has experts: the judge knows dense models only.
    """
    topology = as_measured(topology, calibration)
    if not topology.gpus:
        raise WorkloadError(f"job {job.name!r} needs a GPU and topology {topology.name!r} has none")
    if model.experts is not None:
        raise WorkloadError(
            f"job {job.name!r}: a model with experts trains on GPUs of one model; choose them"
        )
    devices = {topology.device(gpu).name: topology.device(gpu) for gpu in topology.gpus}
    names = list(devices)
    kinds = tuple(
        TrainingProblem(job, model, topology, own_rates(topology, name), device, calibration)
        for name, device in devices.items()
    )
    kind_of = np.asarray([names.index(topology.device(gpu).name) for gpu in topology.gpus], dtype=np.int64)
    return MixedTrainingProblem(job, model, topology, kinds, kind_of)


def own_rates(topology: Topology, device: str) -> Hierarchy:
    """Return the hierarchy of a cluster, levels inside nodes as the machines of a device model have them."""
    own = tuple(node for node in topology.nodes if any(gpu.device == device for gpu in node.machine.gpus))
    part = Topology(topology.document, own, None, (), topology.sources)
    inside = {level.name: level for level in part.hierarchy.levels}
    levels = tuple(
        replace(
            level,
            rate=max(level.rate, inside[level.name].rate),
            latency=min(level.latency, inside[level.name].latency),
            in_switch_reduction=inside[level.name].in_switch_reduction,
        )
        if level.name in inside
        else level
        for level in topology.hierarchy.levels
    )
    return replace(topology.hierarchy, levels=levels)


def judge_mixed(problem: MixedTrainingProblem, placement: MixedPlacement) -> MixedOutcome:
    """Return time and memory of a placement.

    Raises
    ------
    KeyError
        If a device is not one of the problem's.
    """
    gpus = np.asarray([problem.position[name] for name in placement.devices], dtype=np.int64)
    spans = training_spans(placement.strategy, gpus, problem.hierarchy)
    cells = problem.kind_of[gpus].reshape(placement.strategy.pp, placement.strategy.dp, -1)[:, :, 0]
    return judge_cells(problem, placement.strategy, placement.layers, placement.micro_batches, cells, spans)


def stage_costs_of(problem: MixedTrainingProblem, placement: MixedPlacement) -> list[StageCosts]:
    """Return the costs of a placement's stages were they of each kind."""
    gpus = np.asarray([problem.position[name] for name in placement.devices], dtype=np.int64)
    spans = training_spans(placement.strategy, gpus, problem.hierarchy)
    many = as_candidates(placement.strategy)
    return [
        stage_costs(kind.shape, many, spans, kind.kernels, kind.fabric, kind.calibration)
        for kind in problem.kinds
    ]


def judge_cells(
    problem: MixedTrainingProblem,
    strategy: Strategy,
    layers: Sequence[int],
    micro_batches: Sequence[int],
    cells: IntArray,
    spans: Spans,
) -> MixedOutcome:
    r"""Return time and memory where the kind of every cell and the spans of the groups are known.

    Replica :math:`d` takes :math:`(m_d - 1) \max_s T_{sd} + \sum_s T_{sd}` (1F1B, see
    :func:`planner.costs.pipeline.step_time`); the step ends with the longest tail after the longest replica.
    A stage's gradients are reduced at the pace of the slowest kind that holds it. A stage keeps activations
    as if its replica had as many micro-batches as the pipeline is deep.

    Parameters
    ----------
    cells : ndarray, shape (pp, dp)
        Kind of every cell.
    """
    present = sorted({int(kind) for kind in cells.ravel()})
    dense = np.asarray(layers, dtype=np.int64)
    none = np.zeros_like(dense)
    rows = {kind: _kind_rows(problem.kinds[kind], strategy, spans, dense, none) for kind in present}
    shape = cells.shape
    times, tails, memory = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for stage in range(shape[0]):
        sync = max(rows[int(kind)].sync[stage] for kind in cells[stage])
        for replica, kind in enumerate(cells[stage]):
            row = rows[int(kind)]
            times[stage, replica] = row.times[stage]
            exposed = max((1.0 - row.costs.overlap) * sync, sync - row.window[stage])
            tails[stage, replica] = exposed + row.update[stage]
            memory[stage, replica] = row.memory[stage]
    count = np.asarray(micro_batches, dtype=float)
    pipelines = (count - 1.0) * times.max(axis=0) + times.sum(axis=0)
    step = float(pipelines.max() + tails.max())
    return MixedOutcome(step, times, pipelines, tails, memory, cells)


@dataclass(frozen=True)
class _KindRows:
    """What every stage would take if it were of one kind; arrays of shape (pp,)."""

    costs: StageCosts
    times: FloatArray
    sync: FloatArray
    window: FloatArray
    update: FloatArray
    memory: FloatArray


def _kind_rows(
    kind: TrainingProblem, strategy: Strategy, spans: Spans, dense: IntArray, none: IntArray
) -> _KindRows:
    costs = stage_costs(
        kind.shape, as_candidates(strategy), spans, kind.kernels, kind.fabric, kind.calibration
    )
    times = stage_times(costs, 0, dense, none)
    memory = stage_memory(costs, 0, dense, none, in_flight(strategy.pp, 1, MANY))
    return _KindRows(
        costs,
        times,
        sync_times(costs, 0, dense, none),
        costs.backward_share[0] * times,
        update_times(costs, 0, dense, none),
        np.asarray(sum(memory.values())),
    )


def mixed_rules(problem: MixedTrainingProblem, strategy: Strategy) -> Iterator[str]:
    """Yield the rules of the degrees that a strategy breaks."""
    broken = broken_rules(problem.kinds[0], as_candidates(strategy))[:, 0]
    for rule, is_broken in zip(RULES, broken, strict=True):
        if is_broken and rule != EVEN_RULE:
            yield rule
    if strategy.virtual > 1:
        yield "a mixed pipeline is not interleaved"
    if strategy.recompute == "block" or strategy.overlap != "all" or strategy.offload != "none":
        yield "a mixed plan recomputes whole stages, overlaps all that it can, and offloads nothing"
    if problem.job.global_batch % strategy.micro_batch:
        yield "the micro-batch divides the global batch"
    if strategy.num_ranks > problem.num_gpus:
        yield f"{strategy.num_ranks} ranks exceed the {problem.num_gpus} GPUs that may be used"


def check_mixed(
    problem: MixedTrainingProblem, placement: MixedPlacement, step_time: float | None = None
) -> list[str]:
    """Return every rule that a placement breaks, and a stated step time that is not the judge's."""
    strategy = placement.strategy
    found = list(mixed_rules(problem, strategy))
    unknown = [name for name in placement.devices if name not in problem.position]
    if unknown:
        found.append(f"unknown GPU {unknown[0]!r}")
    if len(set(placement.devices)) != len(placement.devices):
        found.append("a GPU holds two ranks")
    if len(placement.devices) != strategy.num_ranks:
        found.append(f"{strategy.num_ranks} ranks but {len(placement.devices)} GPUs")
    layers, counts = placement.layers, placement.micro_batches
    if len(layers) != strategy.pp or sum(layers) != problem.model.layers or min(layers, default=0) < 1:
        found.append(f"layers {list(layers)} do not split {problem.model.layers} in {strategy.pp} stages")
    needed = problem.job.global_batch // strategy.micro_batch
    if len(counts) != strategy.dp or sum(counts) != needed or min(counts, default=0) < 1:
        found.append(f"micro-batches {list(counts)} do not split {needed} over {strategy.dp} replicas")
    return found or [*_broken_cells(problem, placement), *_broken_figures(problem, placement, step_time)]


def _broken_cells(problem: MixedTrainingProblem, placement: MixedPlacement) -> Iterator[str]:
    gpus = np.asarray([problem.position[name] for name in placement.devices], dtype=np.int64)
    cells = gpus.reshape(placement.strategy.pp * placement.strategy.dp, -1)
    inner = problem.hierarchy.levels[0].domain_of
    for number, cell in enumerate(cells):
        stage, replica = divmod(number, placement.strategy.dp)
        if len(set(problem.kind_of[cell])) > 1:
            yield f"stage {stage} of replica {replica} mixes device models"
        if len(set(inner[cell])) > 1:
            yield f"stage {stage} of replica {replica} leaves its innermost domain"


def _broken_figures(
    problem: MixedTrainingProblem, placement: MixedPlacement, step_time: float | None
) -> Iterator[str]:
    outcome = judge_mixed(problem, placement)
    for stage, replica in np.argwhere(outcome.memory > capacities(problem)[outcome.kinds] * (1 + 1e-9)):
        need, room = outcome.memory[stage, replica], capacities(problem)[outcome.kinds[stage, replica]]
        yield f"stage {stage} of replica {replica} needs {need:.4g} bytes of {room:.4g}"
    if step_time is not None and abs(step_time - outcome.step_time) > 1e-6 * outcome.step_time:
        yield f"step time {step_time:.6g} s stated, the judge finds {outcome.step_time:.6g} s"


def capacities(problem: MixedTrainingProblem) -> FloatArray:
    """Return the bytes that a plan may fill on a device of each kind."""
    return np.asarray([kind.capacity for kind in problem.kinds])
