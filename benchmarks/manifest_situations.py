"""The situations that manifests are written for, as plans made by hand on shipped machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.manifest_plans import plan, serving_plan, training_plan
from planner.placement.plan import (
    AnyPlan,
    CpuPlacement,
    Plan,
    PrefillPart,
    Replica,
    ServingPlan,
    Strategy,
    TrainingPlan,
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
    """Return one plan for each of the six situations, one with slices of GPUs and one with two pools."""
    found: Mapping[str, tuple[str, AnyPlan]] = {
        "single-node service": ("hgx-h200", _serving(["hgx-h200/gpu[0-3]", "hgx-h200/gpu[4-7]"], tp=4)),
        "multi-node service": ("dgx-h100-x8", _serving(["node-[0-1]/gpu[0-7]"], tp=8, pp=2)),
        "gang training": ("dgx-h100-x8", _training("node-[0-7]/gpu[0-7]", 8)),
        "CPU stage": ("hgx-h200", _serving(["hgx-h200/gpu[0-3]"], tp=4, stages=True)),
        "embedding server": ("dgx-h100-x8", _tables(["node-[0-1]/gpu[0-7]"])),
        "NVLink domain": ("gb200-nvl72", _serving(["tray-[0-3]/gpu[0-3]"], tp=16)),
        "two pools": ("dgx-h100-x8", _pools()),
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
    return plan(job, name=name.replace(" ", "-"))


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
    job = serving_plan(replicas, name="serve", tp=tp, pp=pp, mig=mig, bound=[], model="llm")
    return job.model_copy(update={"priority": "high"})


def _pools() -> ServingPlan:
    """Return a service in two pools: prompts on two halves of a node, answers on all of another one."""
    answers, prompts = (
        _serving(["node-1/gpu[0-7]"], tp=8),
        _serving(["node-0/gpu[0-3]", "node-0/gpu[4-7]"], tp=4),
    )
    part = PrefillPart(
        cache_move=0.01,
        **{name: getattr(prompts, name) for name in PrefillPart.model_fields if name != "cache_move"},
    )
    return answers.model_copy(update={"prefill": part})


def _training(devices: str, nodes: int) -> TrainingPlan:
    strategy = Strategy(tp=8, pp=2, dp=nodes // 2)
    return training_plan(strategy, [devices], name="train", bound=[])


def _memory(stages: int) -> list[StageMemory]:
    return [StageMemory(stage=one, parts={"weights": 30 * GIB}, capacity=80 * GIB) for one in range(stages)]


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
