"""A tiny machine, jobs and hand-made legal plans for tests of the judge."""

from __future__ import annotations

from functools import cache

from planner.costs import load_calibration
from planner.costs.host import service_time
from planner.placement import (
    Batching,
    CpuPlacement,
    InputReference,
    Inputs,
    JobPlan,
    Objective,
    Plan,
    Replica,
    ServingPlan,
    ServingProblem,
    Solver,
    Strategy,
    TrainingPlan,
    TrainingProblem,
    Transfer,
    host_options,
    judge_serving,
    judge_training,
    make_problem,
    memory_records,
    prediction,
    serving_memory,
    serving_prediction,
    stage_latency,
    transfer_sizes,
)
from planner.topology import load_topology
from planner.workload import CpuStage, Lengths, ModelReference, ServingJob, Traffic, TrainingJob, Transformer

SMALL = Transformer(
    name="small", layers=8, hidden=2048, ffn=8192, heads=16, kv_heads=16, head_dim=128, vocab=32000
)
GPUS = [f"dgx-h100/gpu{index}" for index in range(8)]
STRATEGY = Strategy(tp=2, pp=2, dp=2, micro_batch=1, sharding="optimizer")
REFERENCE = InputReference(name="x", digest="sha256:0")
INPUTS = Inputs(topology=REFERENCE, workload=REFERENCE, calibration=REFERENCE)


@cache
def training_problem() -> TrainingProblem:
    """Return a small training job on one DGX H100."""
    reference = ModelReference(dims=SMALL)
    job = TrainingJob(kind="training", name="pretrain", model=reference, sequence=1024, global_batch=16)
    problem = make_problem(job, SMALL, load_topology("dgx-h100"), load_calibration())
    assert isinstance(problem, TrainingProblem)
    return problem


def training_plan(
    strategy: Strategy = STRATEGY,
    layers: tuple[int, ...] = (4, 4),
    gpus: list[str] | None = None,
    again: tuple[int, ...] = (),
) -> TrainingPlan:
    """Return a plan with the judge's own figures, on the GPUs in order."""
    problem, devices = training_problem(), gpus or GPUS[: strategy.num_ranks]
    outcome = judge_training(problem, strategy, list(layers), devices, again)
    return TrainingPlan(
        name="pretrain", model="small", strategy=strategy, layers=list(layers), devices=devices, bindings=[],
        num_micro_batches=problem.job.global_batch // (strategy.dp * strategy.micro_batch),
        memory=memory_records(problem, outcome), prediction=prediction(problem, strategy, outcome),
        recompute_layers=list(again),
    )  # fmt: skip


@cache
def serving_problem() -> ServingProblem:
    """Return a small serving job with a CPU stage on either side, on one DGX H100."""
    traffic = Traffic(rate=20.0, prompt=Lengths(mean=300), output=Lengths(mean=50))
    job = ServingJob(
        kind="serving", name="chat", model=ModelReference(dims=SMALL), traffic=traffic,
        before=[CpuStage(name="tokenise", work=2e-3, bytes_in=1e3, bytes_out=2e3)],
        after=[CpuStage(name="detokenise", work=1e-3, bytes_in=200.0, bytes_out=1e3)],
    )  # fmt: skip
    problem = make_problem(job, SMALL, load_topology("dgx-h100"), load_calibration())
    assert isinstance(problem, ServingProblem)
    return problem


def replica(index: int, gpus: list[str], cores: int = 2) -> Replica:
    """Return a replica with both stages beside its GPUs."""
    problem = serving_problem()
    machine = problem.topology.node_of["dgx-h100"].machine
    numa, gpu = "numa0" if index == 0 else "numa1", gpus[0].split("/")[1]
    transfers = []
    for name, size in zip(("in", "out"), transfer_sizes(problem), strict=True):
        best = host_options(problem, machine, numa, gpu, size, "in" if name == "in" else "out")[0]
        ends = (numa, gpu) if name == "in" else (gpu, numa)
        transfers.append(
            Transfer(
                name=name, source=ends[0], target=ends[1], size=size, mode=best.mode, seconds=best.seconds
            )
        )
    domain, rate = machine.numa_named(numa), problem.job.traffic.rate / 2
    stages = [
        CpuPlacement(
            stage=stage.name, numa=numa, cores=cores, core_list="",
            utilisation=rate * service_time(stage, domain) / cores,
            latency=stage_latency(stage, domain, rate, cores),
        )
        for stage in (*problem.job.before, *problem.job.after)
    ]  # fmt: skip
    return Replica(name=f"r{index}", node="dgx-h100", devices=gpus, stages=stages, transfers=transfers)


def serving_plan(replicas: list[Replica] | None = None) -> ServingPlan:
    """Return two replicas of two GPUs, one per socket, with the judge's own figures."""
    problem, strategy = serving_problem(), Strategy(tp=2, dp=2)
    chosen = replicas or [replica(0, GPUS[:2]), replica(1, GPUS[4:6])]
    outcome = judge_serving(problem, strategy, chosen)
    return ServingPlan(
        name="chat", model="small", strategy=strategy, layers=[8], replicas=chosen, bindings=[],
        batching=Batching(max_batch=64, max_tokens=8192),
        memory=serving_memory(problem, strategy, outcome.model, 64),
        prediction=serving_prediction(problem, outcome, strategy),
    )  # fmt: skip


def whole(job: JobPlan, value: float, bound: float | None = None) -> Plan:
    """Return a plan document around one job's plan."""
    least = value if bound is None else bound
    return Plan(
        schema_="plan/1", name="test", inputs=INPUTS,
        solver=Solver(planner="0", engine="hand", seed=0, time_limit=1, seconds=0, candidates=1, visited=1),
        status="feasible", proof="none", objective=Objective(name="x", value=value, unit="s"),
        bound=least, gap=0.0, jobs=[job], assumed_share=0.0,
    )  # fmt: skip
