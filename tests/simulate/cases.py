"""Small machines, jobs and plans made by hand, and judged figures filled in by the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.costs import Calibration, load_calibration
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
    ServingPrediction,
    ServingProblem,
    Solver,
    Strategy,
    TrainingPlan,
    TrainingProblem,
    Transfer,
    judge_training,
    memory_records,
    prediction,
    transfer_sizes,
)
from planner.placement.plan import PrefillPart
from planner.placement.problem import make_problem
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
    Lengths,
    ModelReference,
    ServingJob,
    Slo,
    Traffic,
    TrainingJob,
    Transformer,
)

GB = 1e9
MODEL = Transformer(
    name="small", layers=8, hidden=1024, ffn=4096, heads=16, kv_heads=16, head_dim=64, vocab=8192
)


def rate(gigabytes: float) -> BandwidthFigure:
    """Return a rate of some GB/s."""
    return BandwidthFigure.of(gigabytes * GB)


def delay(seconds: float) -> LatencyFigure:
    """Return a latency."""
    return LatencyFigure.of(seconds)


def cluster(
    nodes: int = 1,
    gpus: int = 4,
    *,
    nics: int = 1,
    nvlink: float = 100.0,
    port: float = 10.0,
    pcie: float = 20.0,
) -> Topology:
    """Return equal nodes on one switch: GPUs on an NVSwitch and, by PCIe, on a NUMA domain; rates in GB/s."""
    device = Device(
        name="card",
        architecture="none",
        peak={"bf16": FlopsFigure.of(2e14)},
        memory=BytesFigure.of(80 * GB),
        memory_bandwidth=rate(2000.0),
    )
    cpu = NumaDomain(
        name="cpu[0-1]",
        arch="x86_64",
        cores=16,
        core_speed=RatioFigure.of(1.0),
        vector_bits=512,
        memory=BytesFigure.of(256 * GB),
        memory_bandwidth=rate(200.0),
    )
    machine = Machine(
        name="box",
        numa=[cpu],
        gpus=[Gpu(name=f"gpu[0-{gpus - 1}]", device="card", numa="cpu0")],
        switches=[Switch(name="fast", kind="nvswitch")],
        nics=[Nic(name=f"nic[0-{nics - 1}]", numa="cpu0", bandwidth=rate(port))],
        links=[
            Link(
                between=(f"gpu[0-{gpus - 1}]", "fast"),
                kind="nvlink",
                bandwidth=rate(nvlink),
                latency=delay(5e-7),
            ),
            Link(
                between=(f"gpu[0-{gpus - 1}]", "cpu0"), kind="pcie", bandwidth=rate(pcie), latency=delay(5e-7)
            ),
            Link(
                between=(f"nic[0-{nics - 1}]", "cpu0"),
                kind="pcie",
                bandwidth=rate(4 * port),
                latency=delay(5e-7),
            ),
            Link(between=("cpu0", "cpu1"), kind="socket", bandwidth=rate(30.0), latency=delay(1e-7)),
        ],
    )
    layout = FabricLayout(shape="single-switch", hop_latency=delay(1e-6))
    names = [NodeGroup(name=f"node-[0-{nodes - 1}]", machine="box")]
    return resolve(
        TopologyDocument(
            name="small", devices=[device], machines=[machine], nodes=names,
            fabric=Fabric(layout=layout) if nodes > 1 else None,
        )
    )  # fmt: skip


def calibration(**numbers: float) -> Calibration:
    """Return the default coefficients with some of them replaced."""
    base = load_calibration()
    changed = {
        name: base.coefficients[name].model_copy(update={"value": value}) for name, value in numbers.items()
    }
    return base.model_copy(update={"coefficients": {**base.coefficients, **changed}})


def training_problem(
    topology: Topology,
    *,
    batch: int = 32,
    model: Transformer = MODEL,
    coefficients: Calibration | None = None,
) -> TrainingProblem:
    """Return a training job on all GPUs of a machine."""
    job = TrainingJob(
        kind="training", name="train", model=ModelReference(dims=model), sequence=1024, global_batch=batch
    )
    problem = make_problem(job, model, topology, coefficients or calibration())
    assert isinstance(problem, TrainingProblem)
    return problem


def training_plan(
    problem: TrainingProblem,
    strategy: Strategy,
    layers: Sequence[int] | None = None,
    devices: Sequence[str] | None = None,
    again: Sequence[int] = (),
) -> TrainingPlan:
    """Return a plan with even layers on the first GPUs, unless told otherwise."""
    split = list(layers or [problem.model.layers // strategy.pp] * strategy.pp)
    ranks = list(devices or problem.hierarchy.gpus[: strategy.num_ranks])
    outcome = judge_training(problem, strategy, split, ranks, again)
    return TrainingPlan(
        name=problem.job.name,
        model=problem.model.name,
        strategy=strategy,
        num_micro_batches=problem.job.global_batch // strategy.dp // strategy.micro_batch,
        layers=split,
        devices=ranks,
        bindings=[],
        memory=memory_records(problem, outcome),
        prediction=prediction(problem, strategy, outcome),
        recompute_layers=list(again),
    )


TOKENISE = CpuStage(name="tokenise", work=0.004, bytes_in=4e3, bytes_out=2e6)
DETOKENISE = CpuStage(name="detokenise", work=0.002, bytes_in=1e6, bytes_out=1e3)


def serving_problem(
    topology: Topology,
    *,
    rate: float = 20.0,
    prompt: Lengths = Lengths(mean=400, cv=0.5),  # noqa: B008  # frozen
    output: Lengths = Lengths(mean=60, cv=0.5),  # noqa: B008
    stages: bool = True,
    model: Transformer = MODEL,
    slo: Slo = Slo(),  # noqa: B008
    coefficients: Calibration | None = None,
    **traffic: object,
) -> ServingProblem:
    """Return a serving job on all GPUs of a machine, with one CPU stage on each side of the model."""
    job = ServingJob(
        kind="serving",
        name="serve",
        model=ModelReference(dims=model),
        traffic=Traffic.model_validate({"rate": rate, "prompt": prompt, "output": output, **traffic}),
        slo=slo,
        before=[TOKENISE] if stages else [],
        after=[DETOKENISE] if stages else [],
    )
    problem = make_problem(job, model, topology, coefficients or calibration())
    assert isinstance(problem, ServingProblem)
    return problem


def serving_plan(
    problem: ServingProblem,
    *,
    replicas: int = 1,
    tp: int = 1,
    pp: int = 1,
    cores: int = 2,
    numa: str = "cpu0",
    max_batch: int = 64,
    max_tokens: int = 8192,
    window: float = 0.0,
) -> ServingPlan:
    """Return a plan of equal replicas on the first GPUs, their CPU stages on one NUMA domain."""
    strategy, gpus = Strategy(tp=tp, pp=pp, dp=replicas), problem.hierarchy.gpus
    size = tp * pp
    copies = [
        _replica(problem, f"replica-{index}", gpus[index * size : (index + 1) * size], numa, cores)
        for index in range(replicas)
    ]
    return ServingPlan(
        name=problem.job.name,
        model=problem.model.name,
        strategy=strategy,
        layers=[problem.model.layers // pp] * pp,
        replicas=copies,
        bindings=[],
        batching=Batching(max_batch=max_batch, max_tokens=max_tokens, window=window),
        memory=[],
        prediction=ServingPrediction(
            rate=problem.job.traffic.rate, throughput_tokens_per_second=0.0, batch=0.0, ttft_mean=0.0,
            ttft_p99=0.0, tpot_mean=0.0, tpot_p99=0.0, latency_mean=0.0, latency_p99=0.0, utilisation=0.0,
            breakdown={},
        ),
    )  # fmt: skip


def with_pools(plan: ServingPlan, prefill: int) -> ServingPlan:
    """Return a plan whose first replicas compute prompts only and whose others generate."""
    strategy = plan.strategy.model_copy(update={"dp": prefill})
    part = PrefillPart(
        strategy=strategy, layers=plan.layers, replicas=plan.replicas[:prefill], batching=plan.batching,
        memory=[], cache_move=0.0,
    )  # fmt: skip
    rest = plan.replicas[prefill:]
    own = plan.strategy.model_copy(update={"dp": len(rest)})
    return plan.model_copy(update={"strategy": own, "replicas": rest, "prefill": part})


def _replica(problem: ServingProblem, name: str, gpus: Sequence[str], numa: str, cores: int) -> Replica:
    node, gpu = gpus[0].split("/", 1)
    inwards, outwards = transfer_sizes(problem)
    stages = [
        CpuPlacement(stage=stage.name, numa=numa, cores=cores, core_list="", utilisation=0.0, latency=0.0)
        for stage in (*problem.job.before, *problem.job.after)
    ]
    transfers = [
        Transfer(name="in", source=numa, target=gpu, size=inwards, mode="pinned-copy", seconds=0.0),
        Transfer(name="out", source=gpu, target=numa, size=outwards, mode="pinned-copy", seconds=0.0),
    ]
    return Replica(name=name, node=node, devices=list(gpus), stages=stages, transfers=transfers)


def whole_plan(jobs: Mapping[str, JobPlan]) -> Plan:
    """Return a document that holds some plans of jobs."""
    known = InputReference(name="by hand", digest="sha256:" + "0" * 64)
    return Plan(
        name="by-hand",
        inputs=Inputs(topology=known, workload=known, calibration=known),
        solver=Solver(
            planner="0", engine="none", seed=0, time_limit=1.0, seconds=0.0, candidates=0, visited=0
        ),
        status="feasible",
        proof="none",
        objective=Objective(name="none", value=1.0, unit="s"),
        bound=0.0,
        gap=1.0,
        jobs=list(jobs.values()),
        assumed_share=1.0,
    )
