"""The six situations that manifests are written for, as plans made by hand on shipped machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.placement.plan import (
    AnyPlan,
    Batching,
    CpuPlacement,
    InputReference,
    Inputs,
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
from planner.placement.recommender_plan import HostMemory, PlacedTable, RecommenderPlan, RecommenderPrediction
from planner.placement.records import StageMemory
from planner.topology import Topology, load_topology
from planner.workload.jobs import WorkloadDocument
from planner.workload.resolve import Workload

GIB = float(2**30)


@dataclass(frozen=True)
class Situation:
    """A plan and the machine that it was made for."""

    name: str
    plan: Plan
    topology: Topology
    workload: Workload


def situations() -> list[Situation]:
    """Return one plan for each of the situations, and one with slices of GPUs."""
    found: Mapping[str, tuple[str, AnyPlan]] = {
        "single-node service": ("hgx-h200", _serving(["hgx-h200/gpu[0-3]", "hgx-h200/gpu[4-7]"], tp=4)),
        "multi-node service": ("dgx-h100-x8", _serving(["node-[0-1]/gpu[0-7]"], tp=8, pp=2)),
        "gang training": ("dgx-h100-x8", _training("node-[0-7]/gpu[0-7]", 8)),
        "CPU stage": ("hgx-h200", _serving(["hgx-h200/gpu[0-3]"], tp=4, stages=True)),
        "embedding server": ("dgx-h100-x8", _tables(["node-[0-1]/gpu[0-7]"])),
        "NVLink domain": ("gb200-nvl72", _serving(["tray-[0-3]/gpu[0-3]"], tp=16)),
        "slices of GPUs": ("hgx-h200", _serving(["hgx-h200/gpu0"], tp=1, mig="3g.71gb")),
    }
    return [
        Situation(name, _plan(name, job), load_topology(topology), _nothing())
        for name, (topology, job) in found.items()
    ]


def _nothing() -> Workload:
    """Return a workload that says nothing beyond the plan: sizes are then those of the target."""
    return Workload(WorkloadDocument.model_construct(name="none", jobs=[]), (), "sha256:" + "0" * 64)


def _plan(name: str, job: AnyPlan) -> Plan:
    reference = InputReference(name="input", digest="sha256:" + "1" * 64)
    return Plan(
        name=name.replace(" ", "-"),
        inputs=Inputs(topology=reference, workload=reference, calibration=reference),
        solver=Solver(
            planner="0.1.0", engine="hand", seed=0, time_limit=1.0, seconds=0.0, candidates=1, visited=1
        ),
        status="feasible",
        proof="made by hand",
        objective=Objective(name="time", value=1.0, unit="s"),
        bound=0.0,
        gap=1.0,
        jobs=[job],
        assumed_share=0.0,
    )


def _memory(stages: int) -> list[StageMemory]:
    return [StageMemory(stage=one, parts={"weights": 30 * GIB}, capacity=80 * GIB) for one in range(stages)]


def _serving(
    groups: list[str], *, tp: int, pp: int = 1, mig: str | None = None, stages: bool = False
) -> ServingPlan:
    pinned = CpuPlacement(
        stage="tokenize", numa="numa0", cores=4, core_list="0-3", utilisation=0.5, latency=0.01
    )
    replicas = [
        Replica(
            name=f"replica-{index}",
            node=group.partition("/")[0].replace("[0-1]", "0").replace("[0-3]", "0"),
            devices=[group],
            stages=[pinned] if stages else [],
        )
        for index, group in enumerate(groups)
    ]
    prediction = ServingPrediction(
        rate=4.0, throughput_tokens_per_second=800.0, batch=4.0, ttft_mean=0.1, ttft_p99=0.3, tpot_mean=0.02,
        tpot_p99=0.03, latency_mean=4.0, latency_p99=6.0, utilisation=0.4, breakdown={},
    )  # fmt: skip
    return ServingPlan(
        name="serve", model="llm", strategy=Strategy(tp=tp, pp=pp, dp=len(groups)), layers=[80 // pp] * pp,
        replicas=replicas, bindings=[], batching=Batching(max_batch=64, max_tokens=8192), mig=mig,
        priority="high", memory=_memory(pp), prediction=prediction,
    )  # fmt: skip


def _training(devices: str, nodes: int) -> TrainingPlan:
    prediction = TrainingPrediction(
        step_time=1.0,
        tokens_per_second=1e6,
        model_flops_utilisation=0.4,
        bubble=0.1,
        breakdown={"compute": 1.0},
    )
    return TrainingPlan(
        name="train", model="llm", strategy=Strategy(tp=8, pp=2, dp=nodes // 2), num_micro_batches=8,
        layers=[40, 40], devices=[devices], bindings=[], memory=_memory(2), prediction=prediction,
    )  # fmt: skip


def _tables(devices: list[str]) -> RecommenderPlan:
    table = PlacedTable(
        table="clicks", sharding="table_wise", tier="host", kernel="fused", columns=[64], rows=[1000000],
        ranks=[3],
        gpu_bytes=0.0, host_bytes=64 * GIB, seconds=1e-3,
    )  # fmt: skip
    prediction = RecommenderPrediction(
        embedding_time=1e-3, dense_time=1e-3, iteration_time=2e-3, samples_per_second=1e6,
        breakdown={"compute": 2e-3}, rank_seconds=[1e-3] * 16,
    )  # fmt: skip
    return RecommenderPlan(
        name="tables", model="dlrm", costs="torchrec", devices=devices, tables=[table],
        host_memory=[HostMemory(numa="node-0/numa0", used=64 * GIB, capacity=900 * GIB)],
        memory=_memory(1), prediction=prediction,
    )  # fmt: skip
