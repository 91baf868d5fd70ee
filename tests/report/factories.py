"""Hand-made machines, plans and simulations for the tests of the reports."""

from __future__ import annotations

import random
from collections.abc import Mapping

from planner.placement.plan import (
    Baseline,
    Batching,
    Binding,
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
    StageMemory,
    Strategy,
    TrainingPlan,
    TrainingPrediction,
    Transfer,
)
from planner.schema import BandwidthFigure, BytesFigure, FlopsFigure, LatencyFigure, PriceFigure, RatioFigure, compress
from planner.simulate.result import JobSimulation, LinkUse, Percentiles, SimulationResult, TimelineSpan
from planner.topology import (
    Device,
    Fabric,
    FabricLayout,
    Gpu,
    Link,
    Machine,
    Mesh,
    Nic,
    NodeGroup,
    NumaDomain,
    Switch,
    Topology,
    TopologyDocument,
    resolve,
)
from planner.workload.jobs import (
    CpuStage,
    Lengths,
    ModelReference,
    ServingJob,
    Slo,
    Traffic,
    TrainingJob,
    WorkloadDocument,
)

GB = 1e9
HOSTILE = "<script>alert(\"x\")</script>'&\u202e\u0001é😀"


def rate(gigabytes: float, provenance: str = "vendor") -> BandwidthFigure:
    """Return a rate of some GB/s."""
    return BandwidthFigure.of(gigabytes * GB, provenance, "data sheet")  # type: ignore[arg-type]


def latency(seconds: float) -> LatencyFigure:
    """Return a latency."""
    return LatencyFigure.of(seconds, "assumed", "a guess")


def h100(name: str = "h100-sxm") -> Device:
    """Return a GPU model."""
    return Device(
        name=name,
        architecture="hopper",
        peak={"bf16": FlopsFigure.of(989e12, "vendor", "data sheet")},
        memory=BytesFigure.of(80 * 2**30, "vendor", "data sheet"),
        memory_bandwidth=rate(3350),
    )


def numa(name: str, arch: str = "x86-64", cores: int = 56, cpu: str | None = "Xeon Platinum 8480C") -> NumaDomain:
    """Return a NUMA domain."""
    return NumaDomain(
        name=name,
        arch=arch,
        cpu=cpu,
        cores=cores,
        core_speed=RatioFigure.of(1.0, "measured", "own run"),
        vector_bits=512,
        memory=BytesFigure.of(1.0e12, "vendor", "data sheet"),
        memory_bandwidth=rate(307),
    )


def link(left: str, right: str, kind: str, gigabytes: float, provenance: str = "vendor", *, coherent: bool = False) -> Link:
    """Return a channel."""
    return Link(
        between=(left, right),
        kind=kind,  # type: ignore[arg-type]
        bandwidth=rate(gigabytes, provenance),
        latency=latency(5e-7),
        coherent=coherent,
    )


def dgx() -> Machine:
    """Return a machine of 2 sockets, 8 GPUs, 4 NVSwitches, 4 PCIe switches and 8 ports."""
    return Machine(
        name="dgx-h100",
        numa=[numa("numa[0-1]")],
        gpus=[Gpu(name=f"gpu[{4 * s}-{4 * s + 3}]", device="h100-sxm", numa=f"numa{s}") for s in (0, 1)],
        switches=[
            Switch(name="nvswitch[0-3]", kind="nvswitch", in_switch_reduction=True),
            Switch(name="plx[0-3]", kind="pcie"),
        ],
        nics=[
            Nic(name=f"nic{i}", numa=f"numa{i // 4}", bandwidth=rate(50), rail=i) for i in range(8)
        ],
        links=[
            *(link("gpu[0-7]", f"nvswitch{i}", "nvlink", 112.5) for i in range(4)),
            link("gpu[0-7]", "plx[0-3]", "pcie", 55, "measured"),
            link("nic[0-7]", "plx[0-3]", "pcie", 55),
            link("plx[0-1]", "numa0", "pcie", 55, "measured"),
            link("plx[2-3]", "numa1", "pcie", 55, "measured"),
            link("numa0", "numa1", "socket", 62, "assumed", coherent=True),
        ],
        price=PriceFigure.of(98.32, "vendor", "price list"),
    )  # fmt: skip


def superchip(sockets: int = 4) -> Machine:
    """Return a machine of Grace Hopper superchips with direct NVLink between the GPUs."""
    last = sockets - 1
    return Machine(
        name="gh200-quad",
        numa=[numa(f"cpu[0-{last}]", "aarch64", 72, "Grace")],
        gpus=[Gpu(name=f"gpu[0-{last}]", device="h100-sxm", numa=f"cpu[0-{last}]", addressing="ats")],
        nics=[Nic(name=f"nic[0-{last}]", numa=f"cpu[0-{last}]", bandwidth=rate(25))],
        links=[
            link(f"cpu[0-{last}]", f"gpu[0-{last}]", "nvlink-c2c", 380, "measured", coherent=True),
            link(f"cpu[0-{last}]", f"nic[0-{last}]", "pcie", 55),
        ],
        meshes=[
            Mesh(among=[f"gpu[0-{last}]"], kind="nvlink", bandwidth=rate(150), latency=latency(7e-7)),
            Mesh(among=[f"cpu[0-{last}]"], kind="socket", bandwidth=rate(50), latency=latency(7e-7), coherent=True),
        ],
    )  # fmt: skip


def riscv_host() -> Machine:
    """Return a RISC-V host with two PCIe GPUs and no switch."""
    return Machine(
        name="riscv-pcie",
        numa=[numa("numa0", "riscv64", 64, None)],
        gpus=[Gpu(name="gpu[0-1]", device="h100-sxm", numa="numa0", addressing="hmm")],
        nics=[Nic(name="nic0", numa="numa0", bandwidth=rate(12.5, "assumed"))],
        links=[link("gpu[0-1]", "numa0", "pcie", 25, "assumed"), link("nic0", "numa0", "pcie", 12.5, "assumed")],
    )  # fmt: skip


def topology(
    machine: Machine | None = None,
    nodes: int = 1,
    *,
    pod: int = 32,
    shape: str = "rail-optimised",
    name: str = "test-cluster",
    node_name: str = "node-",
    more: Mapping[str, Machine] | None = None,
) -> Topology:
    """Return a cluster of equal nodes on a regular fabric, and ``more`` single nodes by name."""
    machine = machine or dgx()
    pattern = f"{node_name}[0-{nodes - 1}]" if nodes > 1 else node_name + "0"
    extra = dict(more or {})
    layout = FabricLayout(
        shape=shape,  # type: ignore[arg-type]
        nodes_per_leaf=pod,
        hop_latency=latency(6e-7),
        oversubscription=RatioFigure.of(2.0, "assumed", "a guess"),
    )
    fabric = Fabric(layout=layout) if nodes + len(extra) > 1 else None
    groups = [NodeGroup(name=pattern, machine=machine.name)]
    groups += [NodeGroup(name=key, machine=spec.name) for key, spec in extra.items()]
    machines = list({spec.name: spec for spec in (machine, *extra.values())}.values())
    document = TopologyDocument(
        name=name, machines=machines, nodes=groups, fabric=fabric, sources={"data sheet": "the vendor's data sheet, 2023"}
    )
    return resolve(document, {"h100-sxm": h100()})


def nvlink_domain(nodes: int = 4) -> Topology:
    """Return nodes of two GPUs whose NVLink switches are outside the nodes."""
    tray = superchip(2).model_copy(update={"meshes": [], "name": "tray"})
    document = TopologyDocument(
        name="rack",
        machines=[tray],
        nodes=[NodeGroup(name=f"tray-[0-{nodes - 1}]", machine="tray")],
        fabric=Fabric(
            switches=[Switch(name="nvs-[0-17]", kind="nvswitch", in_switch_reduction=True)],
            links=[link(f"tray-[0-{nodes - 1}]/gpu[0-1]", f"nvs-{s}", "nvlink", 50) for s in range(18)],
        ),
    )
    return resolve(document, {"h100-sxm": h100()})


def training_workload() -> WorkloadDocument:
    """Return a training workload."""
    return WorkloadDocument(
        name="llama3-70b-pretraining",
        sources={"batch": "a choice"},
        jobs=[
            TrainingJob(
                kind="training", name="pretrain", model=ModelReference(preset="llama3-70b"), sequence=8192, global_batch=64
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


def training_plan(where: Topology, *, tp: int = 8, pp: int = 4, name: str = "pretrain", micro: int = 16) -> Plan:
    """Return a plan of one training job over all GPUs."""
    gpus = list(where.gpus)
    dp = max(1, len(gpus) // (tp * pp))
    used = gpus[: tp * pp * dp]
    folded = used if any("[" in gpu for gpu in used) else compress(used)
    strategy = Strategy(tp=tp, pp=pp, dp=dp, recompute="selective", sharding="optimizer", sequence_parallel=True)
    memory = [
        StageMemory(
            stage=stage,
            parts={
                "weights": 4.4e9, "gradients": 8.8e9, "optimizer": 13e9, "activations": (24 - 4 * min(stage, 4)) * 1e9,
                "workspace": 1.2e9, "communicators": 0.9e9, "reserve": 2.5e9,
            },
            capacity=80 * 2**30,
        )
        for stage in range(pp)
    ]  # fmt: skip
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
            breakdown={"compute": 8.1, "tensor parallel": 1.3, "pipeline": 0.32, "bubble": 1.87, "data parallel": 0.25},
        ),
    )
    return _plan("llama3-70b-on-cluster", [job], where, Objective(name="step_time", value=11.84, unit="s"), training_links(where))


def training_links(where: Topology) -> list[LinkLoad]:
    """Return loads of some links of the first node, and of the fabric."""
    node = where.nodes[0]
    loads = []
    for edge in node.machine.edges:
        share = {"nvlink": 0.63, "pcie": 0.31, "socket": 0.02, "nvlink-c2c": 0.4}.get(edge.kind, 0.1)
        share *= 1.0 if edge.source < edge.target else 0.6
        loads.append(
            LinkLoad(
                source=f"{node.name}/{edge.source}", target=f"{node.name}/{edge.target}", kind=edge.kind,
                rate=edge.rate, load=share * edge.rate, utilisation=share,
            )
        )  # fmt: skip
    for index, nic in enumerate(node.machine.nics if where.fabric else ()):
        leaf = f"leaf-0-rail-{index}"
        for ends, share in (((f"{node.name}/{nic.name}", leaf), 0.97), ((leaf, "spine"), 0.82)):
            loads.append(
                LinkLoad(
                    source=ends[0], target=ends[1], kind="infiniband", rate=50 * GB, load=share * 50 * GB, utilisation=share
                )
            )
    return loads


def serving_plan(where: Topology, *, tp: int = 2, name: str = "chat") -> Plan:
    """Return a plan of one serving job: replicas of ``tp`` GPUs with CPU stages and transfers."""
    replicas = []
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
                stage=0, parts={"weights": 8e9, "kv cache": 52e9, "activations": 2e9, "reserve": 3e9}, capacity=80 * 2**30
            )
        ],
        prediction=ServingPrediction(
            rate=40.0, throughput_tokens_per_second=8800.0, batch=17.3, ttft_mean=0.081, ttft_p99=0.31,
            tpot_mean=0.0141, tpot_p99=0.021, latency_mean=3.1, latency_p99=5.2, utilisation=0.61,
            breakdown={"cpu": 0.01, "queue": 0.4, "transfer": 0.002, "prefill": 0.2, "decode": 4.588},
        ),
    )  # fmt: skip
    return _plan("chat-on-cluster", [job], where, Objective(name="p99_latency", value=5.2, unit="s"), training_links(where))


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
                name="prompt", source=f"{node}/{home}", target=gpus[0], size=8192, mode="pinned-copy", seconds=8e-6,
                runner_up="managed", runner_up_seconds=3e-5,
            )
        ],
    )  # fmt: skip


def _plan(name: str, jobs: list[TrainingPlan] | list[ServingPlan], where: Topology, objective: Objective, links: list[LinkLoad]) -> Plan:
    return Plan(
        name=name,
        inputs=Inputs(
            topology=InputReference(name=where.name, digest=where.digest, path="cluster.yaml"),
            workload=InputReference(name="workload", digest="sha256:" + "ab" * 32, path="workload.yaml"),
            calibration=InputReference(name="vendor-peaks", digest="sha256:" + "cd" * 32),
        ),
        solver=Solver(
            planner="0.1.0", engine="CP-SAT 9.14", seed=0, time_limit=60.0, seconds=7.31, candidates=1840, visited=23
        ),
        status="feasible",
        proof="every strategy whose bound is below the incumbent was placed; the gap is that of the placement",
        objective=objective,
        bound=0.97 * objective.value,
        gap=0.03,
        jobs=list(jobs),
        links=links,
        baselines=[
            Baseline(name="greedy", value=objective.value * 1.21, ratio=1.21),
            Baseline(name="topology-blind", value=objective.value * 1.64, ratio=1.64, note="tensor parts cross nodes"),
            Baseline(name="even split", value=None, ratio=None, note="stage 0 does not fit in memory"),
        ],
        why=[
            Decision(
                decision="tensor degree", chosen="8", alternative="4", loss=0.12,
                reason="TP 4 needs full recompute to fit, which costs a third more compute",
            ),
            Decision(
                decision="pipeline degree", chosen="4", alternative="2", loss=None, reason="stage 0 would need 121 GB of 85.9 GB"
            ),
            Decision(
                decision="rank order", chosen="tensor inside a node", alternative="tensor across nodes", loss=0.64,
                reason="the tensor group's all-reduce would cross 50 GB/s ports instead of NVLink",
            ),
        ],
        assumed_share=0.18,
    )  # fmt: skip


def training_simulation(plan: Plan, *, stages: int = 4, micro: int = 16, links: int = 12) -> SimulationResult:
    """Return a simulation of one 1F1B step."""
    job = JobSimulation(
        name=plan.jobs[0].name,
        kind="training",
        step_time=12.1,
        critical_path=11.2,
        bubble=0.161,
        throughput=43300.0,
        utilisation={f"stage {s}": 0.84 - 0.01 * s for s in range(stages)},
        timeline=pipeline_spans(stages, micro),
    )
    return SimulationResult(
        plan=plan.name, plan_digest="sha256:" + "ef" * 32, seed=0, horizon=12.1, jobs=[job], links=link_uses(plan, links, 12.1)
    )


def pipeline_spans(stages: int, micro: int) -> list[TimelineSpan]:
    """Return the spans of a 1F1B schedule: forward takes 0.15 s, backward 0.3 s."""
    spans: list[TimelineSpan] = []
    done: dict[tuple[str, int, int], float] = {}
    orders = [_one_f_one_b(stage, stages, micro) for stage in range(stages)]
    at = [0.0] * stages
    place = [0] * stages
    while any(place[s] < len(orders[s]) for s in range(stages)):
        for s in range(stages):
            while place[s] < len(orders[s]):
                kind, m = orders[s][place[s]]
                before = (
                    ("F", m, s - 1) if kind == "F" and s > 0
                    else ("B", m, s + 1) if kind == "B" and s < stages - 1
                    else ("F", m, s) if kind == "B" else None
                )  # fmt: skip
                if before is not None and before not in done:
                    break
                start = max(at[s], done.get(before, 0.0) + 0.01 if before else 0.0)
                end = start + (0.15 if kind == "F" else 0.3)
                done[kind, m, s], at[s] = end, end
                spans.append(
                    TimelineSpan(
                        track=f"stage {s}", name=f"{kind}{m}", category="forward" if kind == "F" else "backward",
                        start=start, end=end,
                    )
                )  # fmt: skip
                place[s] += 1
    for s in range(stages):
        spans.append(TimelineSpan(track=f"stage {s}", name="reduce gradients", category="communication", start=at[s] - 0.2, end=at[s] + 0.3))
        spans.append(TimelineSpan(track=f"stage {s}", name="optimizer", category="optimizer", start=at[s] + 0.3, end=at[s] + 0.5))
    return spans


def _one_f_one_b(stage: int, stages: int, micro: int) -> list[tuple[str, int]]:
    warm = min(stages - stage - 1, micro)
    order = [("F", m) for m in range(warm)]
    for m in range(micro - warm):
        order += [("F", warm + m), ("B", m)]
    return order + [("B", m) for m in range(micro - warm, micro)]


def link_uses(plan: Plan, count: int, horizon: float) -> list[LinkUse]:
    """Return simulated use of the first links of a plan."""
    draw = random.Random(0)
    return [
        LinkUse(
            source=item.source, target=item.target, kind=item.kind, rate=item.rate, carried=item.load * horizon,
            mean=item.utilisation, peak=min(1.0, item.utilisation * 1.5), saturated=max(0.0, item.utilisation - 0.6),
            waiting=item.utilisation * 0.1,
            series=[(horizon * i / 40, min(1.0, item.utilisation * draw.uniform(0.2, 1.5))) for i in range(40)],
        )
        for item in sorted(plan.links, key=lambda each: -each.utilisation)[:count]
    ]  # fmt: skip


def serving_simulation(plan: Plan, *, requests: int = 4000, spans: int = 6000) -> SimulationResult:
    """Return a simulation of a served model with many spans."""
    draw = random.Random(1)
    samples = sorted(1.2 + draw.gammavariate(4.0, 0.45) for _ in range(requests))
    timeline = list(_serving_spans(draw, spans))
    job = JobSimulation(
        name=plan.jobs[0].name,
        kind="serving",
        latency={
            "latency": percentiles(samples),
            "ttft": percentiles([s / 30 for s in samples]),
            "tpot": percentiles([s / 220 for s in samples]),
        },
        split={"queue": 0.31, "batch": 0.02, "transfer": 0.004, "compute": 2.6, "cpu": 0.012},
        throughput=8650.0,
        latency_cdf=[(samples[i], (i + 1) / requests) for i in range(0, requests, 10)],
        slo_met=True,
        utilisation={"gpu": 0.6, "cpu": 0.2, "copy": 0.01},
        timeline=timeline,
    )
    return SimulationResult(
        plan=plan.name, plan_digest="sha256:" + "ef" * 32, seed=0, horizon=120.0, jobs=[job], links=link_uses(plan, 12, 120.0)
    )


def percentiles(samples: list[float]) -> Percentiles:
    """Return the percentiles of a sorted sample with made-up intervals."""
    at = {p: samples[int(p * (len(samples) - 1))] for p in (0.5, 0.95, 0.99)}
    return Percentiles(
        count=len(samples),
        mean=sum(samples) / len(samples),
        p50=at[0.5],
        p95=at[0.95],
        p99=at[0.99],
        p50_interval=(at[0.5] * 0.98, at[0.5] * 1.02),
        p95_interval=(at[0.95] * 0.96, at[0.95] * 1.05),
        p99_interval=(at[0.99] * 0.93, at[0.99] * 1.09),
    )


def _serving_spans(draw: random.Random, count: int) -> list[TimelineSpan]:
    spans: list[TimelineSpan] = []
    clock = dict.fromkeys(("chat-0 GPU", "chat-0 copy", "chat-0 CPU", "chat-1 GPU", "chat-1 copy", "chat-1 CPU"), 0.0)
    for index in range(count):
        track = draw.choice(list(clock))
        start = clock[track] + draw.expovariate(20.0)
        length = draw.uniform(0.002, 0.09)
        category = "cpu" if "CPU" in track else "copy" if "copy" in track else draw.choice(["prefill", "decode", "decode"])
        clock[track] = start + length
        spans.append(TimelineSpan(track=track, name=f"{category} {index}", category=category, start=start, end=start + length))  # type: ignore[arg-type]
    return spans
