"""Plans, topologies and workloads built by hand, small enough to read."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.manifest_plans import GB, plan, serving_plan, training_plan
from planner.placement.plan import (
    CpuPlacement,
    Plan,
    Replica,
    Strategy,
    Transfer,
)
from planner.placement.records import Binding
from planner.topology import (
    Device,
    Machine,
    NodeGroup,
    Topology,
    TopologyDocument,
    resolve,
)
from planner.workload import (
    CpuStage,
    Experts,
    Lengths,
    ModelReference,
    ServingJob,
    Traffic,
    TrainingJob,
    Transformer,
    WorkloadDocument,
)
from planner.workload.resolve import ResolvedJob, Workload

GIB = float(2**30)


@dataclass(frozen=True)
class Case:
    """A plan with what it was made from."""

    plan: Plan
    topology: Topology
    workload: Workload


def device(vendor: str = "nvidia") -> Device:
    return Device.model_validate(
        {
            "name": "accelerator",
            "vendor": vendor,
            "architecture": "test",
            "peak": {"bf16": 1e15},
            "memory": 80 * GB,
            "memory_bandwidth": 3e12,
        }
    )


def machine(
    name: str = "box",
    *,
    gpus: int = 8,
    cores: int = 56,
    arch: str = "x86_64",
    nic: str = "mlx5_",
    domains: int = 2,
) -> Machine:
    """Return a machine whose GPUs and ports are shared out evenly among its NUMA domains."""
    each = max(1, gpus // domains)
    rates = {"core_speed": 1.0, "memory": 1024 * GIB, "memory_bandwidth": 300 * GB}
    wire = {"kind": "pcie", "bandwidth": 50 * GB, "latency": 1e-6}
    homes = [f"numa{index // each}" for index in range(gpus)]
    return Machine.model_validate(
        {
            "name": name,
            "numa": [{"name": f"numa{i}", "arch": arch, "cores": cores, **rates} for i in range(domains)],
            "gpus": [
                {"name": f"gpu{i}", "device": "accelerator", "numa": home} for i, home in enumerate(homes)
            ],
            "nics": [
                {"name": f"{nic}{i}", "numa": home, "bandwidth": 50 * GB} for i, home in enumerate(homes)
            ],
            "links": [{"between": (f"gpu{i}", home), **wire} for i, home in enumerate(homes)],
        }
    )


def topology(*groups: NodeGroup, machines: list[Machine] | None = None, vendor: str = "nvidia") -> Topology:
    document = TopologyDocument(
        name="cluster", devices=[device(vendor)], machines=machines or [machine()], nodes=list(groups)
    )
    return resolve(document, {"accelerator": device(vendor)})


def nodes(pattern: str, machine_name: str = "box", **labels: str) -> NodeGroup:
    return NodeGroup(name=pattern, machine=machine_name, labels=labels)


def transformer() -> Transformer:
    return Transformer(
        name="toy", layers=80, hidden=8192, ffn=28672, heads=64, kv_heads=8, head_dim=128, vocab=128256
    )


def experts() -> Transformer:
    moe = Experts(num_experts=64, top_k=4, ffn=2048, shared_ffn=4096, first_dense=3)
    return transformer().model_copy(update={"name": "toy-moe", "experts": moe})


def workload(*jobs: ServingJob | TrainingJob, model: Transformer | None = None) -> Workload:
    document = WorkloadDocument(name="work", jobs=list(jobs))
    resolved = tuple(ResolvedJob(job, model or transformer()) for job in jobs)
    return Workload(document, resolved, "sha256:" + "0" * 64)


def serving_job(name: str = "chat", *, stages: tuple[str, ...] = (), parallel: int = 1) -> ServingJob:
    return ServingJob(
        kind="serving",
        name=name,
        model=ModelReference(dims=transformer()),
        traffic=Traffic(rate=4.0, prompt=Lengths(mean=1000), output=Lengths(mean=200)),
        before=[
            CpuStage(name=stage, work=0.01, bytes_in=1e5, bytes_out=6e5, memory=2 * GB, parallel=parallel)
            for stage in stages
        ],
    )


def training_job(name: str = "pretrain", *, global_batch: int = 1024) -> TrainingJob:
    return TrainingJob(
        kind="training",
        name=name,
        model=ModelReference(dims=transformer()),
        sequence=4096,
        global_batch=global_batch,
    )


def single_node_service() -> Case:
    """Return two nodes with two replicas each, tensor degree 4: one Deployment of four pods."""
    replicas = [
        Replica(
            name=f"replica-{index}",
            node=f"node-{index // 2}",
            devices=[_half(f"node-{index // 2}", index % 2)],
        )
        for index in range(4)
    ]
    return Case(plan(serving_plan(replicas)), topology(nodes("node-[0-1]")), workload(serving_job()))


def _half(node: str, half: int) -> str:
    return f"{node}/gpu[{4 * half}-{4 * half + 3}]"


def multi_node_service() -> Case:
    """Return one replica of two pipeline stages with uneven layers on two nodes."""
    replica = Replica(name="replica-0", node="node-3", devices=["node-3/gpu[0-7]", "node-1/gpu[0-7]"])
    job = serving_plan([replica], name="large", tp=8, pp=2, layers=[38, 42])
    return Case(plan(job), topology(nodes("node-[0-3]")), workload(serving_job("large")))


def training(count: int) -> Case:
    """Return a training job on ``count`` whole nodes, ranks in the order of the nodes."""
    strategy = Strategy(tp=8, pp=4, dp=count // 4, sharding="optimizer", sequence_parallel=True)
    job = training_plan(strategy, [f"node-[0-{count - 1}]/gpu[0-7]"])
    return Case(
        plan(job), topology(nodes(f"node-[0-{count - 1}]")), workload(training_job(global_batch=8 * count))
    )


def scattered_training() -> Case:
    """Return two nodes whose ranks alternate, stage by stage, on half of each node."""
    strategy = Strategy(tp=2, pp=2, dp=2)
    devices = [
        "node-0/gpu[0-1]",
        "node-1/gpu[0-1]",
        "node-0/gpu3",
        "node-0/gpu2",
        "node-1/gpu[2-3]",
    ]
    return Case(
        plan(training_plan(strategy, devices)), topology(nodes("node-[0-1]")), workload(training_job())
    )


def riscv_stages(*, elsewhere: bool = False) -> Case:
    """Return a service with two CPU stages on riscv64: on the GPU's host, or on another node."""
    gpu_box = machine("gpu-box", gpus=2, cores=64, arch="amd64" if elsewhere else "riscv64", domains=1)
    cpu_box = machine("cpu-box", gpus=0, cores=64, arch="riscv64", domains=1)
    prefix = "host-1/" if elsewhere else ""
    stages = [
        CpuPlacement(
            stage="decode",
            numa=f"{prefix}numa0",
            cores=16,
            core_list="0-15",
            prefetch=3,
            utilisation=0.5,
            latency=0.01,
        ),
        CpuPlacement(
            stage="resize", numa=f"{prefix}numa0", cores=8, core_list="16-23", utilisation=0.5, latency=0.01
        ),
    ]
    move = Transfer(
        name="images",
        source="numa0",
        target="gpu0",
        size=6e5,
        mode="pinned-copy",
        seconds=1e-4,
        runner_up="managed",
    )
    replica = Replica(name="r0", node="host-0", devices=["host-0/gpu[0-1]"], stages=stages, transfers=[move])
    bound = [
        Binding(gpu=f"gpu{index}", numa="numa0", cores=f"{32 + 16 * index}-{47 + 16 * index}")
        for index in range(2)
    ]
    job = serving_plan([replica], name="vision", tp=2, bound=bound)
    return Case(
        plan(job),
        topology(nodes("host-0", "gpu-box"), nodes("host-1", "cpu-box"), machines=[gpu_box, cpu_box]),
        workload(serving_job("vision", stages=("decode", "resize"), parallel=2)),
    )


def all_cases() -> dict[str, Case]:
    """Return every case by name."""
    return {
        "single-node service": single_node_service(),
        "multi-node service": multi_node_service(),
        "training on 8 nodes": training(8),
        "scattered training": scattered_training(),
        "training on 2048 nodes": training(2048),
        "stages on riscv64": riscv_stages(),
        "stages elsewhere": riscv_stages(elsewhere=True),
    }
