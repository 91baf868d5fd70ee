"""Plans made by hand: parts of `benchmarks.manifest_situations` and of the tests of the deploy room."""

from __future__ import annotations

from planner.placement.plan import (
    Batching,
    InputReference,
    Inputs,
    JobPlan,
    Objective,
    Plan,
    Replica,
    ServingPlan,
    ServingPrediction,
    Solver,
    Strategy,
    TrainingPlan,
    TrainingPrediction,
)
from planner.placement.records import Binding, StageMemory

GB = 1e9


def plan(*jobs: JobPlan, name: str = "plan") -> Plan:
    """Return a plan of some jobs."""
    reference = InputReference(name="input", digest="sha256:" + "1" * 64)
    return Plan(
        name=name,
        inputs=Inputs(topology=reference, workload=reference, calibration=reference),
        solver=Solver(
            planner="0.1.0", engine="hand", seed=0, time_limit=1.0, seconds=0.1, candidates=1, visited=1
        ),
        status="optimal",
        proof="by hand",
        objective=Objective(name="step_time", value=1.0, unit="s"),
        bound=1.0,
        gap=0.0,
        jobs=list(jobs),
        assumed_share=0.0,
    )


def bindings(
    gpus: int = 8, *, cores: int = 56, domains: int = 2, nic: str = "mlx5_", node: str = ""
) -> list[Binding]:
    """Return one binding per GPU of a machine: an even part of the cores of its domain, and its own port."""
    each, prefix = gpus // domains, f"{node}/" if node else ""
    width = cores // each
    found = []
    for index in range(gpus):
        first = (index // each) * cores + (index % each) * width
        found.append(
            Binding(
                gpu=f"{prefix}gpu{index}",
                numa=f"numa{index // each}",
                cores=f"{first}-{first + width - 1}",
                nic=f"{nic}{index}",
            )
        )
    return found


def prediction() -> ServingPrediction:
    """Return the prediction of a service."""
    return ServingPrediction(
        rate=4.0,
        throughput_tokens_per_second=800.0,
        batch=4.0,
        ttft_mean=0.1,
        ttft_p99=0.3,
        tpot_mean=0.02,
        tpot_p99=0.03,
        latency_mean=4.0,
        latency_p99=6.0,
        utilisation=0.4,
        breakdown={},
    )


def serving_plan(
    replicas: list[Replica],
    *,
    name: str = "chat",
    tp: int = 4,
    pp: int = 1,
    ep: int = 1,
    layers: list[int] | None = None,
    mig: str | None = None,
    bound: list[Binding] | None = None,
    model: str = "toy",
) -> ServingPlan:
    """Return a serving job of some replicas."""
    return ServingPlan(
        name=name,
        model=model,
        strategy=Strategy(tp=tp, pp=pp, dp=max(1, len(replicas)), ep=ep),
        layers=layers or [80 // pp] * pp,
        replicas=replicas,
        bindings=bindings() if bound is None else bound,
        batching=Batching(max_batch=64, max_tokens=8192, graph_shapes=[8, 1, 2, 4]),
        mig=mig,
        memory=[
            StageMemory(stage=stage, parts={"weights": 35 * GB / pp, "kv cache": 20 * GB}, capacity=80 * GB)
            for stage in range(pp)
        ],
        prediction=prediction(),
    )


def training_plan(
    strategy: Strategy,
    devices: list[str],
    *,
    name: str = "pretrain",
    layers: list[int] | None = None,
    bound: list[Binding] | None = None,
) -> TrainingPlan:
    """Return a training job on some GPUs."""
    return TrainingPlan(
        name=name,
        model="toy",
        strategy=strategy,
        num_micro_batches=8,
        layers=layers or [80 // strategy.pp] * strategy.pp,
        devices=devices,
        bindings=bindings() if bound is None else bound,
        memory=[
            StageMemory(
                stage=stage,
                parts={"parameters and optimizer": 30 * GB, "activations": 20 * GB},
                capacity=80 * GB,
            )
            for stage in range(strategy.pp)
        ],
        prediction=TrainingPrediction(
            step_time=1.0,
            tokens_per_second=1e6,
            model_flops_utilisation=0.4,
            bubble=0.1,
            breakdown={"compute": 1.0},
        ),
    )
