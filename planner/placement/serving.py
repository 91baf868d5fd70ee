"""The judge of serving plans: latency of the model, of the CPU stages and of the transfers; what is legal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from planner.costs import ServingCandidates, ServingCosts, ServingModel, TransferOption, transfer_options
from planner.costs.host import pool_latency, service_time, traffic
from planner.costs.transfers import domain_copy
from planner.placement.groups import serving_spans
from planner.placement.job_problem import free_cores
from planner.placement.plan import Replica, ServingPlan, ServingPrediction, Strategy
from planner.placement.problem import TYPES, ServingProblem, allowed_types, gpu_numbers
from planner.placement.records import StageMemory
from planner.topology import MachineType, NumaDomain, machine_route
from planner.workload import CpuStage, Transformer

HOST_BANDWIDTH_SHARE = 0.8
"""Share of a NUMA domain's memory rate that stages may be planned to use."""
TOKEN_BYTES = 4.0
SERVED = {"tp", "pp", "dp", "ep", "adp", *TYPES}
"""Fields of a strategy that a service has; the others are for training."""


def serving_candidates(strategy: Strategy) -> ServingCandidates:
    """Return a strategy as candidate arrays with one row; ``dp`` counts the replicas."""
    numbers = (strategy.dp, strategy.tp, strategy.pp, strategy.ep, strategy.adp)
    return ServingCandidates(*(np.asarray([number], dtype=np.int64) for number in numbers))


def serving_model(problem: ServingProblem, strategy: Strategy, devices: list[str]) -> ServingModel:
    """Return the cost model of a placed strategy, its replicas laid out one after the other."""
    spans = serving_spans(strategy, gpu_numbers(problem, devices), problem.hierarchy)
    problem = problem.in_types(strategy)
    return ServingModel(
        problem.job,
        problem.model,
        serving_candidates(strategy),
        spans,
        problem.rates,
        problem.fabric,
        problem.calibration,
    )


def stage_latency(stage: CpuStage, domain: NumaDomain, rate: float, cores: int) -> float:
    """Return the 99th percentile of a stage on ``cores`` of a domain at ``rate`` requests/s, s."""
    workers = cores // stage.parallel
    return pool_latency(service_time(stage, domain), rate, workers) if workers else float("inf")


def transfer_sizes(problem: ServingProblem) -> tuple[float, float]:
    """Return the bytes that go to the GPU and that come back, per request.

    Without a CPU stage on a side, the tokens themselves cross the host link.
    """
    job = problem.job
    inwards = job.before[-1].bytes_out if job.before else job.traffic.prompt.mean * TOKEN_BYTES
    outwards = job.after[0].bytes_in if job.after else job.traffic.output.mean * TOKEN_BYTES
    return inwards, outwards


def host_options(
    problem: ServingProblem,
    machine: MachineType,
    numa: str,
    gpu: str,
    size: float,
    direction: Literal["in", "out"],
) -> list[TransferOption]:
    """Return the legal ways to move ``size`` bytes between a NUMA domain and a GPU, fastest first."""
    ends = (numa, gpu) if direction == "in" else (gpu, numa)
    way = machine_route(machine, *ends)
    if way is None:
        return []
    addressing = next(part.addressing for part in machine.gpus if part.name == gpu)
    return transfer_options(size, way, addressing, problem.calibration)


def hand_over(problem: ServingProblem, machine: MachineType, first: str, second: str, size: float) -> float:
    """Return the time for one stage to hand ``size`` bytes to the next, s; 0 within a NUMA domain."""
    if first == second:
        return 0.0
    way = machine_route(machine, first, second)
    return float("inf") if way is None else domain_copy(size, way, problem.calibration)


@dataclass(frozen=True)
class ServingOutcome:
    """What the judge computes for a placed serving plan.

    Attributes
    ----------
    host
        99th percentile spent in CPU stages and transfers by replica, s.
    """

    model: ServingCosts
    host: dict[str, float]

    @property
    def latency_p99(self) -> float:
        """99th percentile of the end-to-end latency of the slowest replica, s."""
        return float(self.model.latency_p99[0]) + max(self.host.values())

    @property
    def parts(self) -> dict[str, float]:
        """What the mean latency consists of, CPU stages and transfers left out, s."""
        costs = self.model
        first, step, prefill = (float(one[0]) for one in (costs.ttft_mean, costs.decode, costs.prefill))
        rest = float(costs.latency_mean[0]) - first
        return {"wait for prefill": first - prefill - step, "prefill": prefill, "decode": rest + step}

    @property
    def ttft_p99(self) -> float:
        """99th percentile of the time to the first token, CPU stages before the model included, s."""
        return float(self.model.ttft_p99[0]) + max(self.host.values())


def judge_serving(problem: ServingProblem, strategy: Strategy, replicas: list[Replica]) -> ServingOutcome:
    """Return the predicted behaviour of a placed strategy.

    Raises
    ------
    KeyError
        If a device is not one of the problem's.
    """
    devices = [gpu for replica in replicas for gpu in replica.gpus()]
    costs = serving_model(problem, strategy, devices).costs()
    rate = problem.job.traffic.rate / strategy.dp
    return ServingOutcome(costs, {replica.name: host_latency(problem, replica, rate) for replica in replicas})


def host_latency(problem: ServingProblem, replica: Replica, rate: float) -> float:
    """Return the 99th percentile that a replica's CPU stages and transfers add, s.

    Percentiles of the parts are added up: an upper estimate of the percentile of the sum.
    """
    machine = problem.topology.node_of[replica.node].machine
    place = {item.stage: item for item in replica.stages}
    total = 0.0
    for side in (problem.job.before, problem.job.after):
        for stage in side:
            chosen = place[stage.name]
            total += stage_latency(stage, machine.numa_named(chosen.numa), rate, chosen.cores)
        for left, right in pairwise(side):
            total += hand_over(
                problem, machine, place[left.name].numa, place[right.name].numa, left.bytes_out
            )
    for transfer in replica.transfers:
        into = transfer.source in {domain.name for domain in machine.numa}
        numa, gpu = (transfer.source, transfer.target) if into else (transfer.target, transfer.source)
        options = host_options(problem, machine, numa, gpu, transfer.size, "in" if into else "out")
        total += next(option.seconds for option in options if option.mode == transfer.mode)
    return total


def limits_broken(problem: ServingProblem, outcome: ServingOutcome) -> list[str]:
    """Return the limits of the job that an outcome breaks, as sentences."""
    slo, model = problem.job.slo, outcome.model
    checks = (
        ("ttft_p99", slo.ttft_p99, outcome.ttft_p99),
        ("tpot_p99", slo.tpot_p99, float(model.tpot_p99[0])),
        ("latency_p99", slo.latency_p99, outcome.latency_p99),
    )
    broken = [
        f"{name} is {value:.4g} s, the limit {limit:.4g} s"
        for name, limit, value in checks
        if limit is not None and value > limit * (1 + 1e-9)
    ]
    if not bool(model.feasible[0]):
        broken.append("the offered rate has no steady state within memory")
    return broken


def serving_memory(
    problem: ServingProblem, strategy: Strategy, model: ServingCosts, max_batch: int
) -> list[StageMemory]:
    """Return the memory per device of every stage, the cache filled by ``max_batch`` sequences."""
    job = problem.job
    images = job.traffic.images * (problem.model.vision.tokens if problem.model.vision else 0)
    length = job.traffic.prompt.mean + images + job.traffic.output.mean
    parts = {
        "weights": float(model.weights[0]),
        "kv cache": float(model.kv_per_token[0]) * length * max_batch / strategy.adp,
        "working": float(model.working[0]),
        "context and buffers": problem.calibration.number("context_bytes"),
    }
    return [
        StageMemory(stage=stage, parts=parts, capacity=problem.device.memory.value)
        for stage in range(strategy.pp)
    ]


def serving_prediction(
    problem: ServingProblem, outcome: ServingOutcome, strategy: Strategy
) -> ServingPrediction:
    """Return the prediction record of an outcome."""
    model, job = outcome.model, problem.job
    host = max(outcome.host.values())
    breakdown = {
        "cpu stages and transfers": host,
        **outcome.parts,
        "variation up to p99": float(model.latency_p99[0] - model.latency_mean[0]),
    }
    return ServingPrediction(
        rate=job.traffic.rate,
        throughput_tokens_per_second=job.traffic.rate * job.traffic.output.mean,
        batch=float(model.batch[0]),
        ttft_mean=float(model.ttft_mean[0]) + host, ttft_p99=outcome.ttft_p99,
        tpot_mean=float(model.tpot_mean[0]), tpot_p99=float(model.tpot_p99[0]),
        latency_mean=float(model.latency_mean[0]) + host, latency_p99=outcome.latency_p99,
        utilisation=float(model.utilisation[0]), breakdown=breakdown,
    )  # fmt: skip


def serving_rules(problem: ServingProblem, strategy: Strategy) -> Iterator[str]:
    """Yield the rules of degrees and data types that a strategy breaks."""
    yield from degree_rules(problem.model, strategy)
    for name, field in Strategy.model_fields.items():
        if name not in SERVED and getattr(strategy, name) != field.default:
            yield f"{name} {getattr(strategy, name)} is for training, a service has {field.default}"
    for name in TYPES:
        if getattr(strategy, name) not in allowed_types(problem.job, name):
            yield f"{name} {getattr(strategy, name)} is none of those that the job allows"


def degree_rules(model: Transformer, strategy: Strategy) -> Iterator[str]:
    """Yield the degree rules that a strategy breaks."""
    if strategy.tp % strategy.adp:
        yield "adp must divide tp"
        return
    if model.heads % (strategy.tp // strategy.adp) or model.ffn % (strategy.tp // strategy.adp):
        over = "tp" if strategy.adp == 1 else "tp / adp"
        yield f"{over} must divide the attention heads and the MLP width"
    if strategy.pp > model.layers:
        yield "pp exceeds the number of layers"
    if model.experts is None and strategy.ep > 1:
        yield "a dense model has ep 1"
    if model.experts is not None and (strategy.tp % strategy.ep or model.experts.num_experts % strategy.ep):
        yield "ep must divide tp and the experts"
    if strategy.adp > 1 and (model.experts is None or strategy.ep != strategy.tp):
        yield "adp above 1 needs experts, divided among all GPUs of a stage (ep = tp)"
    if strategy.adp > 1 and strategy.pp > 1:
        yield "adp above 1 goes with pp 1"


def serving_problems(problem: ServingProblem, plan: ServingPlan) -> Iterator[str]:
    """Yield every rule that a serving plan breaks, as sentences."""
    strategy, gpus = plan.strategy, plan.gpus()
    known = set(problem.hierarchy.gpus)
    for name in [name for name in gpus if name not in known][:3]:
        yield f"{plan.name}: unknown GPU {name!r}"
    if len(set(gpus)) != len(gpus):
        yield f"{plan.name}: a GPU is used twice"
    if len(plan.replicas) != strategy.dp:
        yield f"{plan.name}: {strategy.dp} replicas stated, {len(plan.replicas)} placed"
    if len(gpus) > problem.num_gpus:
        yield f"{plan.name}: {len(gpus)} GPUs exceed the {problem.num_gpus} that may be used"
    for replica in plan.replicas:
        if len(replica.gpus()) != strategy.tp * strategy.pp:
            expected = strategy.tp * strategy.pp
            yield f"{plan.name}: {replica.name} has {len(replica.gpus())} GPUs, {expected} expected"
    for rule in serving_rules(problem, strategy):
        yield f"{plan.name}: {rule}"
    if len(plan.layers) != strategy.pp or sum(plan.layers) != problem.model.layers:
        split = f"{problem.model.layers} layers in {strategy.pp} stages"
        yield f"{plan.name}: layers {plan.layers} do not split {split}"
    yield from _other_settings(problem, plan)
    yield from _host_problems(problem, plan)


def _other_settings(problem: ServingProblem, plan: ServingPlan) -> Iterator[str]:
    """Yield settings of the batcher that are not those that are priced."""
    chunk = int(problem.calibration.number("prefill_chunk"))
    if plan.batching.max_tokens != chunk:
        yield f"{plan.name}: steps of {plan.batching.max_tokens} tokens stated, those of {chunk} are priced"
    if plan.batching.window > 0.0:
        yield f"{plan.name}: batches wait {plan.batching.window:.4g} s for more requests, which is not priced"


def _host_problems(problem: ServingProblem, plan: ServingPlan) -> Iterator[str]:
    """Yield over-committed cores, memory and memory bandwidth of NUMA domains."""
    cores: dict[tuple[str, str], int] = defaultdict(int)
    memory: dict[tuple[str, str], float] = defaultdict(float)
    moved: dict[tuple[str, str], float] = defaultdict(float)
    rate = problem.job.traffic.rate / plan.strategy.dp
    stages = {stage.name: stage for stage in (*problem.job.before, *problem.job.after)}
    for replica in plan.replicas:
        if replica.node not in problem.topology.node_of:
            yield f"{plan.name}: unknown node {replica.node!r}"
            continue
        if sorted(item.stage for item in replica.stages) != sorted(stages):
            yield f"{plan.name}: {replica.name} does not place every CPU stage once"
            continue
        for item in replica.stages:
            stage, key = stages[item.stage], (replica.node, item.numa)
            cores[key] += item.cores
            memory[key] += stage.memory * (item.cores // stage.parallel)
            moved[key] += traffic(stage) * rate
    for (node, numa), count in cores.items():
        domains = {domain.name: domain for domain in problem.topology.node_of[node].machine.numa}
        if numa not in domains:
            yield f"{plan.name}: unknown NUMA domain {numa!r} on {node!r}"
            continue
        domain = domains[numa]
        free = free_cores(problem, problem.topology.node_of[node].machine, numa)
        if count > free:
            room = f"which has {free} of {domain.cores} free"
            yield f"{plan.name}: {count} cores planned on {node}/{numa}, {room}"
        if memory[node, numa] > domain.memory.value:
            yield f"{plan.name}: CPU stages need more memory than {node}/{numa} has"
        if moved[node, numa] > domain.memory_bandwidth.value * HOST_BANDWIDTH_SHARE:
            yield f"{plan.name}: CPU stages need more memory bandwidth than {node}/{numa} has"


def serving_outcome_problems(
    problem: ServingProblem, plan: ServingPlan, outcome: ServingOutcome
) -> Iterator[str]:
    """Yield broken limits, memory that does not fit, and stated figures that differ from the judge's."""
    for sentence in limits_broken(problem, outcome):
        yield f"{plan.name}: {sentence}"
    memory = serving_memory(problem, plan.strategy, outcome.model, plan.batching.max_batch)
    if memory[0].total > problem.capacity * (1 + 1e-9):
        yield f"{plan.name}: needs {memory[0].total:.4g} bytes of {problem.capacity:.4g}"
    stated = plan.prediction.latency_p99
    if abs(stated - outcome.latency_p99) > 1e-6 * outcome.latency_p99:
        yield f"{plan.name}: p99 latency {stated:.6g} s stated, the judge finds {outcome.latency_p99:.6g} s"
