"""Random small machines and jobs, made feasible by construction or not, for laws of the solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from planner.costs import load_calibration
from planner.placement import Problem, make_problem
from planner.schema import BandwidthFigure, BytesFigure, FlopsFigure, LatencyFigure, RatioFigure
from planner.topology import (
    Device,
    Fabric,
    FabricLayout,
    Gpu,
    Link,
    Machine,
    Nic,
    NodeGroup,
    NumaDomain,
    Switch,
    Topology,
    TopologyDocument,
    resolve,
)
from planner.workload import (
    CpuStage,
    Degrees,
    Experts,
    Lengths,
    ModelReference,
    ServingJob,
    Slo,
    Traffic,
    TrainingJob,
    Transformer,
)

GB = 1e9


@dataclass(frozen=True)
class Box:
    """One kind of node: islands of GPUs on their own NVSwitch, joined over PCIe, one port for all."""

    islands: tuple[int, ...]
    nvlink: float
    pcie: float
    port: float


@dataclass(frozen=True)
class MachineCase:
    """A whole machine: boxes, device memory, bytes."""

    boxes: tuple[Box, ...]
    memory: float
    sockets: int = 1
    prefix: str = "node"
    gpu: str = "gpu"


def topology_of(case: MachineCase) -> Topology:
    """Return the topology of a case; every GPU is of one model."""
    card = Device(
        name="card", architecture="none", peak={"bf16": FlopsFigure.of(1e14)},
        memory=BytesFigure.of(case.memory), memory_bandwidth=BandwidthFigure.of(1000 * GB),
    )  # fmt: skip
    machines = [machine_of(f"box{index}", box, case) for index, box in enumerate(case.boxes)]
    nodes = [
        NodeGroup(name=f"{case.prefix}-{index}", machine=f"box{index}") for index in range(len(machines))
    ]
    layout = FabricLayout(shape="single-switch", hop_latency=LatencyFigure.of(1e-6))
    document = TopologyDocument(
        schema_="topology/1",
        name="small",
        devices=[card],
        machines=machines,
        nodes=nodes,
        fabric=Fabric(layout=layout),
    )
    return resolve(document)


def machine_of(name: str, box: Box, case: MachineCase, device: str = "card") -> Machine:
    """Return one kind of node of a case, its GPUs of a model."""
    sockets = case.sockets
    numa = [
        NumaDomain(
            name=f"cpu{s}", arch="riscv64", cores=6, core_speed=RatioFigure.of(1.0),
            memory=BytesFigure.of(64 * GB), memory_bandwidth=BandwidthFigure.of(100 * GB),
        )
        for s in range(sockets)
    ]  # fmt: skip
    gpus, switches, links = [], [], []
    for number, size in enumerate(box.islands):
        switches.append(Switch(name=f"nvs{number}", kind="nvswitch"))
        for member in range(size):
            home = f"cpu{number % sockets}"
            gpu = f"{case.gpu}{number}x{member}"
            gpus.append(Gpu(name=gpu, device=device, numa=home))
            links.append(_link(gpu, f"nvs{number}", "nvlink", box.nvlink, 0.3e-6))
            links.append(_link(gpu, home, "pcie", box.pcie, 0.5e-6))
    links += [_link(f"cpu{s}", f"cpu{s + 1}", "socket", box.pcie, 0.3e-6) for s in range(sockets - 1)]
    links.append(_link("port", "cpu0", "pcie", box.port, 0.5e-6))
    port = Nic(name="port", numa="cpu0", bandwidth=BandwidthFigure.of(box.port * GB))
    return Machine(name=name, numa=numa, gpus=gpus, switches=switches, nics=[port], links=links)


def _link(left: str, right: str, kind: Any, rate: float, latency: float) -> Link:
    return Link(
        between=(left, right),
        kind=kind,
        bandwidth=BandwidthFigure.of(rate * GB),
        latency=LatencyFigure.of(latency),
    )


def boxes() -> st.SearchStrategy[Box]:
    """Draw one kind of node."""
    return st.builds(
        Box,
        islands=st.sampled_from([(1,), (2,), (3,), (1, 1), (2, 1), (2, 2)]),
        nvlink=st.sampled_from([100.0, 300.0]),
        pcie=st.sampled_from([10.0, 40.0]),
        port=st.sampled_from([2.0, 20.0]),
    )


def machine_cases() -> st.SearchStrategy[MachineCase]:
    """Draw machines of one to three nodes and at most six GPUs."""
    return (
        st.lists(boxes(), min_size=1, max_size=3)
        .filter(lambda items: sum(sum(box.islands) for box in items) <= 6)
        .flatmap(
            lambda items: st.builds(
                MachineCase,
                boxes=st.just(tuple(items)),
                memory=st.sampled_from([6 * GB, 8 * GB, 12 * GB, 30 * GB]),
            )
        )
    )


@st.composite
def models(draw: st.DrawFn) -> Transformer:
    """Draw a tiny dense or mixture-of-experts model."""
    layers = draw(st.integers(2, 5))
    experts = None
    if draw(st.booleans()):
        experts = Experts(
            num_experts=4,
            top_k=2,
            ffn=1024,
            shared_ffn=draw(st.sampled_from([0, 512])),
            first_dense=draw(st.integers(0, 1)),
        )
    return Transformer(
        name="tiny", layers=layers, hidden=1024, ffn=draw(st.sampled_from([2048, 8192])),
        heads=8, kv_heads=4, head_dim=128, vocab=draw(st.sampled_from([1024, 65536])), experts=experts,
    )  # fmt: skip


OPTIONS: list[dict[str, Any]] = [
    {},
    {"recompute": ["none", "block"]},
    {"recompute": ["block"], "recompute_layers": [1, 2, 3], "overlap": ["gradients"]},
    {"overlap": ["none", "gradients"]},
    {"recompute": ["full", "block"], "recompute_layers": [0, 2], "offload": ["none", "optimizer"]},
    {"offload": ["activations", "none"]},
    {"offload": ["weights"], "overlap": ["data"]},
]
"""Lists of the switches that leave most jobs alone; few at a time, as brute force walks all combinations."""


@st.composite
def training_jobs(draw: st.DrawFn) -> TrainingJob:
    """Draw a training job whose whole space brute force can walk."""
    degrees = Degrees(
        tp=[1, 2], pp=[1, 2, 3], dp=[1, 2], cp=draw(st.sampled_from([[1], [1, 2]])), ep=[1, 2],
        virtual=[1, 2], micro_batch=[1, 2],
        sharding=["none", draw(st.sampled_from(["optimizer", "parameters"]))],
        **{"recompute": ["none", "full"], **draw(st.sampled_from(OPTIONS))},
    )  # fmt: skip
    return TrainingJob(
        kind="training", name="job", model=ModelReference(dims=draw(models())), sequence=2048,
        global_batch=draw(st.sampled_from([4, 6])), degrees=degrees,
    )  # fmt: skip


@st.composite
def serving_jobs(draw: st.DrawFn) -> ServingJob:
    """Draw a serving job with CPU stages whose whole space brute force can walk."""
    model = Transformer(
        name="tiny", layers=4, hidden=1024, ffn=4096, heads=8, kv_heads=4, head_dim=128, vocab=32000
    )
    sizes = st.sampled_from([1e5, 1e7])
    stages = [
        CpuStage(
            name=f"stage{index}",
            work=draw(st.sampled_from([2e-3, 2e-2])),
            bytes_in=1e5,
            bytes_out=draw(sizes),
        )
        for index in range(draw(st.integers(0, 2)))
    ]
    split = draw(st.integers(0, len(stages)))
    return ServingJob(
        kind="serving", name="job", model=ModelReference(dims=model),
        traffic=Traffic(
            rate=draw(st.sampled_from([5.0, 40.0])),
            prompt=Lengths(mean=512, cv=0.5), output=Lengths(mean=32, cv=0.5),
        ),
        slo=draw(st.sampled_from([Slo(), Slo(latency_p99=0.4), Slo(ttft_p99=0.2, tpot_p99=0.01)])),
        before=stages[:split], after=stages[split:],
        objective=draw(st.sampled_from(["p99_latency", "gpus"])),
        degrees=Degrees(tp=[1, 2], pp=[1, 2], replicas=[1, 2, 3]),
    )  # fmt: skip


NARROW: dict[str, Any] = {name: ["bf16", "fp8"] for name in ("kv_precision", "expert_precision")}
"""Data types to choose from, by component."""


@st.composite
def expert_jobs(draw: st.DrawFn) -> ServingJob:
    """Draw a service of a small model with experts, attention of which may be repeated."""
    model = Transformer(
        name="experts", layers=4, hidden=1024, ffn=2048, heads=8, kv_heads=draw(st.sampled_from([1, 4])),
        head_dim=128, vocab=32000,
        experts=Experts(num_experts=8, top_k=2, ffn=1024, shared_ffn=0, first_dense=1),
    )  # fmt: skip
    traffic = Traffic(
        rate=draw(st.sampled_from([40.0, 400.0])),
        prompt=Lengths(mean=512, cv=0.5), output=Lengths(mean=draw(st.sampled_from([32, 512])), cv=0.5),
    )  # fmt: skip
    return ServingJob(
        kind="serving", name="job", model=ModelReference(dims=model), traffic=traffic,
        slo=draw(st.sampled_from([Slo(), Slo(tpot_p99=0.01)])),
        objective=draw(st.sampled_from(["p99_latency", "gpus"])),
        degrees=Degrees(
            tp=[1, 2, 4], pp=[1], replicas=[1, 2], ep=[1, 2, 4], adp=[1, 2, 4],
            **draw(st.sampled_from([{}, NARROW])),
        ),
    )  # fmt: skip


SEVERAL: list[dict[str, Any]] = [
    {},
    {"pp": [1, 2]},
    {"ep": [1, 2], "adp": [1, 2]},
    {"ep": [2], "adp": [2], "expert_precision": ["bf16", "fp8"]},
    {"precision": ["bf16", "fp8"], "replicas": [1]},
    {"kv_precision": ["bf16", "fp8"], "replicas": [1]},
]
"""Choices that pools have beside tensor parallelism and their ratio, a few at a time."""


@st.composite
def pool_jobs(draw: st.DrawFn, pools: list[str]) -> ServingJob:
    """Draw a service without CPU stages whose replicas may be divided in two pools.

    Some have experts with copies of attention, some a choice of data types or pipeline stages.
    """
    several = draw(st.sampled_from(SEVERAL))
    experts = Experts(num_experts=8, top_k=2, ffn=1024, shared_ffn=0, first_dense=1)
    model = Transformer(
        name="tiny", layers=4, hidden=1024, ffn=4096, heads=8, kv_heads=draw(st.sampled_from([1, 4])),
        head_dim=128, vocab=32000, experts=experts if "adp" in several else None,
    )  # fmt: skip
    traffic = Traffic(
        rate=draw(st.sampled_from([5.0, 40.0, 150.0])), prompt=Lengths(mean=2000, cv=0.5),
        output=Lengths(mean=draw(st.sampled_from([32, 256])), cv=0.3),
    )  # fmt: skip
    limits = [Slo(), Slo(ttft_p99=0.2, tpot_p99=0.005), Slo(tpot_p99=0.002), Slo(latency_p99=1.0)]
    return ServingJob(
        kind="serving", name="job", model=ModelReference(dims=model), traffic=traffic,
        slo=draw(st.sampled_from(limits)), objective=draw(st.sampled_from(["p99_latency", "gpus"])),
        degrees=Degrees.model_validate(
            {"tp": [1, 2], "pp": [1], "replicas": [1, 2], "pools": pools, **several}
        ),
    )  # fmt: skip


def problem_of(job: TrainingJob | ServingJob, case: MachineCase) -> Problem:
    """Return the problem of a job on a machine."""
    assert job.model.dims is not None
    return make_problem(job, job.model.dims, topology_of(case), load_calibration())
