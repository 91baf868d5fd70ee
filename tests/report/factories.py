"""Hand-made workloads and plans for the tests of the reports."""

from __future__ import annotations

from planner.placement.plan import (
    Baseline,
    Batching,
    CpuPlacement,
    Decision,
    InputReference,
    Inputs,
    LinkLoad,
    Objective,
    Plan,
    Replica,
    ServingPlan,
    ServingPrediction,
    Solver,
    Strategy,
    TrainingPlan,
    TrainingPrediction,
    Transfer,
)
from planner.placement.records import Binding, StageMemory
from planner.schema import compress
from planner.topology import Topology
from planner.workload import CpuStage
from planner.workload.jobs import (
    Lengths,
    ModelReference,
    ServingJob,
    Slo,
    Traffic,
    TrainingJob,
    WorkloadDocument,
)
from tests.report.machines import GB


def training_workload() -> WorkloadDocument:
    """Return a training workload."""
    return WorkloadDocument(
        name="llama3-70b-pretraining",
        sources={"batch": "a choice"},
        jobs=[
            TrainingJob(
                kind="training",
                name="pretrain",
                model=ModelReference(preset="llama3-70b"),
                sequence=8192,
                global_batch=64,
            )
        ],
    )


def serving_workload() -> WorkloadDocument:
    """Return a serving workload with limits and two CPU stages."""
    return WorkloadDocument(
        name="chat",
        jobs=[
            ServingJob(
                kind="serving",
                name="chat",
                model=ModelReference(preset="llama3-8b"),
                traffic=Traffic(rate=40.0, prompt=Lengths(mean=900), output=Lengths(mean=220)),
                slo=Slo(ttft_p99=0.5, latency_p99=6.0),
                before=[CpuStage(name="tokenize", work=0.002, bytes_out=8192)],
                after=[CpuStage(name="detokenize", work=0.001, access="control")],
            )
        ],
    )


def training_plan(
    where: Topology, *, tp: int = 8, pp: int = 4, name: str = "pretrain", micro: int = 16
) -> Plan:
    """Return a plan of one training job over all GPUs."""
    gpus = list(where.gpus)
    dp = max(1, len(gpus) // (tp * pp))
    used = gpus[: tp * pp * dp]
    folded = used if any("[" in gpu for gpu in used) else compress(used)
    strategy = Strategy(
        tp=tp, pp=pp, dp=dp, recompute="selective", sharding="optimizer", sequence_parallel=True
    )
    memory = [
        StageMemory(
            stage=stage,
            parts={
                "weights": 4.4e9,
                "gradients": 8.8e9,
                "optimizer": 13e9,
                "activations": (24 - 4 * min(stage, 4)) * 1e9,
                "workspace": 1.2e9,
                "communicators": 0.9e9,
                "reserve": 2.5e9,
            },
            capacity=80 * 2**30,
        )
        for stage in range(pp)
    ]
    job = TrainingPlan(
        name=name,
        model="llama3-70b",
        strategy=strategy,
        num_micro_batches=micro,
        layers=[80 // pp] * pp,
        devices=folded,
        bindings=[Binding(gpu=gpu, numa="numa0", cores="0-13", nic="nic0") for gpu in used[:64]],
        memory=memory,
        prediction=TrainingPrediction(
            step_time=11.84,
            tokens_per_second=44300.0,
            model_flops_utilisation=0.423,
            bubble=0.158,
            breakdown={
                "compute": 8.1,
                "tensor parallel": 1.3,
                "pipeline": 0.32,
                "bubble": 1.87,
                "data parallel": 0.25,
            },
        ),
    )
    return _plan(
        "llama3-70b-on-cluster",
        [job],
        where,
        Objective(name="step_time", value=11.84, unit="s"),
        training_links(where),
    )


def training_links(where: Topology) -> list[LinkLoad]:
    """Return loads of some links of the first node, and of the fabric."""
    node = where.nodes[0]
    loads = []
    for edge in node.machine.edges:
        share = {"nvlink": 0.63, "pcie": 0.31, "socket": 0.02, "nvlink-c2c": 0.4}.get(edge.kind, 0.1)
        share *= 1.0 if edge.source < edge.target else 0.6
        loads.append(
            LinkLoad(
                source=f"{node.name}/{edge.source}",
                target=f"{node.name}/{edge.target}",
                kind=edge.kind,
                rate=edge.rate,
                load=share * edge.rate,
                utilisation=share,
            )
        )
    for index, nic in enumerate(node.machine.nics if where.fabric else ()):
        leaf = f"leaf-0-rail-{index}"
        for ends, share in (((f"{node.name}/{nic.name}", leaf), 0.97), ((leaf, "spine"), 0.82)):
            loads.append(
                LinkLoad(
                    source=ends[0],
                    target=ends[1],
                    kind="infiniband",
                    rate=50 * GB,
                    load=share * 50 * GB,
                    utilisation=share,
                )
            )
    return loads


def serving_plan(where: Topology, *, tp: int = 2, name: str = "chat") -> Plan:
    """Return a plan of one serving job: replicas of ``tp`` GPUs with CPU stages and transfers."""
    replicas: list[Replica] = []
    for node in where.nodes:
        gpus = [f"{node.name}/{gpu.name}" for gpu in node.machine.gpus]
        for index in range(0, len(gpus) - tp + 1, tp):
            home = node.machine.gpus[index].numa
            replicas.append(_replica(node.name, f"{name}-{len(replicas)}", gpus[index : index + tp], home))
    job = ServingPlan(
        name=name,
        model="llama3-8b",
        strategy=Strategy(tp=tp),
        layers=[32],
        replicas=replicas,
        bindings=[],
        batching=Batching(max_batch=64, max_tokens=8192, window=0.004, graph_shapes=[1, 2, 4, 8, 16, 32, 64]),
        priority="high",
        mig="3g.40gb",
        memory=[
            StageMemory(
                stage=0,
                parts={"weights": 8e9, "kv cache": 52e9, "activations": 2e9, "reserve": 3e9},
                capacity=80 * 2**30,
            )
        ],
        prediction=ServingPrediction(
            rate=40.0,
            throughput_tokens_per_second=8800.0,
            batch=17.3,
            ttft_mean=0.081,
            ttft_p99=0.31,
            tpot_mean=0.0141,
            tpot_p99=0.021,
            latency_mean=3.1,
            latency_p99=5.2,
            utilisation=0.61,
            breakdown={"cpu": 0.01, "queue": 0.4, "transfer": 0.002, "prefill": 0.2, "decode": 4.588},
        ),
    )
    return _plan(
        "chat-on-cluster",
        [job],
        where,
        Objective(name="p99_latency", value=5.2, unit="s"),
        training_links(where),
    )


def _replica(node: str, name: str, gpus: list[str], home: str) -> Replica:
    return Replica(
        name=name,
        node=node,
        devices=gpus,
        stages=[
            CpuPlacement(
                stage="tokenize", numa=home, cores=8, core_list="0-7", utilisation=0.41, latency=0.0022
            ),
            CpuPlacement(
                stage="detokenize", numa=home, cores=2, core_list="8-9", utilisation=0.2, latency=0.0011
            ),
        ],
        transfers=[
            Transfer(
                name="prompt",
                source=f"{node}/{home}",
                target=gpus[0],
                size=8192,
                mode="pinned-copy",
                seconds=8e-6,
                runner_up="managed",
                runner_up_seconds=3e-5,
            )
        ],
    )


def _plan(
    name: str,
    jobs: list[TrainingPlan] | list[ServingPlan],
    where: Topology,
    objective: Objective,
    links: list[LinkLoad],
) -> Plan:
    return Plan(
        name=name,
        inputs=Inputs(
            topology=InputReference(name=where.name, digest=where.digest, path="cluster.yaml"),
            workload=InputReference(name="workload", digest="sha256:" + "ab" * 32, path="workload.yaml"),
            calibration=InputReference(name="vendor-peaks", digest="sha256:" + "cd" * 32),
        ),
        solver=Solver(
            planner="0.1.0",
            engine="CP-SAT 9.14",
            seed=0,
            time_limit=60.0,
            seconds=7.31,
            candidates=1840,
            visited=23,
        ),
        status="feasible",
        proof="every strategy whose bound is below the incumbent was placed; the gap is the placement's",
        objective=objective,
        bound=0.97 * objective.value,
        gap=0.03,
        jobs=list(jobs),
        links=links,
        baselines=[
            Baseline(name="greedy", value=objective.value * 1.21, ratio=1.21),
            Baseline(
                name="topology-blind",
                value=objective.value * 1.64,
                ratio=1.64,
                note="tensor parts cross nodes",
            ),
            Baseline(name="even split", value=None, ratio=None, note="stage 0 does not fit in memory"),
        ],
        why=[
            Decision(
                decision="tensor degree",
                chosen="8",
                alternative="4",
                loss=0.12,
                reason="TP 4 needs full recompute to fit, which costs a third more compute",
            ),
            Decision(
                decision="pipeline degree",
                chosen="4",
                alternative="2",
                loss=None,
                reason="stage 0 would need 121 GB of 85.9 GB",
            ),
            Decision(
                decision="rank order",
                chosen="tensor inside a node",
                alternative="tensor across nodes",
                loss=0.64,
                reason="the tensor group's all-reduce would cross 50 GB/s ports instead of NVLink",
            ),
        ],
        assumed_share=0.18,
    )
