"""Small sound files of every format, to be damaged."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

from planner.calibrate.samples import Sampled, Samples
from planner.placement.torchrec_plan import export_plan
from planner.schema import dump_yaml, load, loads, presets
from planner.topology import DeviceCatalogue, TopologyDocument
from planner.topology.importers.nccl_export import to_nccl_xml
from tests.calibrate import test_graphs, test_imported, test_importers
from tests.cli.documents import MACHINE, SERVICE, TRAINING
from tests.placement.test_torchrec_plan import placement
from tests.report import factories, machines, simulations
from tests.simulate import test_replay
from tests.study import test_accuracy
from tests.study.gates.test_judge import simulation
from tests.study.gates.test_verification import verification
from tests.topology.importers import samples, samples_fabric, samples_host, snapshots
from tests.workload import test_hf_config, test_operators

Seeds = tuple[bytes, ...]

CLUSTER = """\
nodes:
- {name: "node-[0-1]", machine: box}
fabric:
  switches:
  - {name: leaf, kind: leaf}
  links:
  - {between: ["node-[0-1]/numa0", leaf], kind: ethernet, bandwidth: 12 GB/s, latency: 2 us}
"""
RECOMMENDER = """\
schema: workload/1
name: ranking
jobs:
- kind: recommender
  name: rank
  global_batch: 1024
  tables:
  - {name: a, rows: 100000, dim: 64, pooling: 2.5, skew: 1.1}
  - {name: b, rows: 5000, dim: 128, pooling: 1}
"""
MODEL = """\
schema: models/1
models:
- {name: small, layers: 4, hidden: 256, ffn: 1024, heads: 8, kv_heads: 2, head_dim: 32, vocab: 1000}
"""
STUDY = """\
schema: study/1
name: sweep
topology: dgx-h100
workload: llama3-70b-serving
vary:
- {parameter: "topology.machines[0].links[kind=nvlink].bandwidth", label: nvlink, factors: [1, 0.5]}
- {parameter: "workload.jobs[chat].traffic.rate", label: rate, values: [1 req/s, 2 req/s]}
options: {time_limit: 20 s, requests: 60}
"""
GATES = """\
schema: gates/1
name: roll-out
checks:
- {name: tail, metric: simulation.latency.p99, max: 2 s, job: chat}
- {name: gap, metric: plan.gap, max: 5 %}
"""
SCENARIO = """\
schema: scenario/1
name: bad day
steps: 100
jitter: 0.05
stragglers:
- {gpus: ["node-0/gpu[0-1]"], slowdown: 1.5}
links:
- {source: a, target: b, share: 0.5}
failures:
- {gpu: node-0/gpu1, at: 3 s}
mean_time_between_failures: 100 h
checkpoints: {interval: 50 s, write: 2 s, restart: 10 s}
"""
TARGET = """\
schema: target/1
kubernetes: "1.35"
namespace: ml
devices: dra
stack: kueue
queue: team
gpu_ids: {node-0/gpu0: GPU-5f1c2a3b-0123-4567-89ab-0123456789ab}
components: [monitoring]
programs:
  chat: {image: "registry/serve:1", command: [serve], env: {A: b}}
"""
MANIFESTS = """\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec:
  containers:
  - name: main
    image: registry/serve:1
    resources: {limits: {nvidia.com/gpu: 2, memory: 4Gi, cpu: 500m}}
---
apiVersion: v1
kind: Node
metadata: {name: node-0, labels: {kubernetes.io/hostname: node-0}}
status: {allocatable: {cpu: "64", memory: 512Gi, nvidia.com/gpu: "8", pods: "110"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: 2
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
"""
WORDS = ("tp=8", "gpus=node-0/gpu[0-3]", "chat.pp=2")
TABLES = "table,rows,dim,pooling,zipf_alpha\na,1000,64,2,1.1\nb,50000,128,1.5,0.9\n"
REQUESTS = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,100,20\n0.5,200,10\n1.25,50,5\n"
ANSWER = (
    '{"status":"success","data":{"resultType":"vector","result":'
    '[{"metric":{"job":"a"},"value":[1700000000.1,"0.5"]},{"metric":{},"value":[1700000000.1,"NaN"]}]}}'
)
SERVED = (
    "model,gpu,engine,precision,isl,osl,tp,concurrency,ttft_ms,tpot_ms,source\n"
    "meta-llama/Llama-3.1-8B-Instruct,h100_sxm,vLLM 0.12,fp8,1024,256,1,16,60,9.5,mine\n"
)
ROWS = "\n".join(",".join(row) for row in (test_accuracy.COLUMNS, test_accuracy.ROW)) + "\n"


def encoded(*texts: str) -> Seeds:
    """Return texts as the bytes of files."""
    return tuple(text.encode() for text in texts)


def plans() -> Seeds:
    """Return a training and a serving plan."""
    where = machines.topology(nodes=1)
    made = factories.training_plan(where, tp=4, pp=2), factories.serving_plan(where, tp=4)
    return encoded(*map(dump_yaml, made))


def devices() -> Seeds:
    """Return a catalogue of two devices."""
    whole = load(presets.folder("topologies") / "devices.yaml", DeviceCatalogue)
    return encoded(dump_yaml(whole.model_copy(update={"devices": whole.devices[:2]})))


def calibrations() -> Seeds:
    """Return the shorter ones of the shipped calibrations."""
    folder = presets.folder("calibrations")
    return tuple(
        (folder / f"{name}.yaml").read_bytes() for name in ("default", "memory", "host", "inference")
    )


def exported() -> Seeds:
    """Return a topology as NCCL loads it, our document inside."""
    return encoded(to_nccl_xml(loads(MACHINE, TopologyDocument)))


def simulated() -> Seeds:
    """Return results of simulations."""
    plan = factories.training_plan(machines.topology(nodes=1), tp=4, pp=2)
    made = simulations.training_simulation(plan, stages=2, micro=2, links=2), simulation(requests=10)
    return encoded(*map(dump_yaml, made))


def measured() -> Seeds:
    """Return samples and a verification."""
    item = Sampled(item="x", kind="copy", sizes={"bytes": 1e6}, labels={"way": "in"}, seconds=[1e-3, 2e-3])
    return encoded(dump_yaml(Samples(name="a", device="cpu-core", items=[item])))


def verified() -> Seeds:
    """Return a verification."""
    return encoded(dump_yaml(verification(1.0, 1.1)))


def merged() -> Seeds:
    """Return dumps of a host that make a topology by themselves."""
    return encoded(samples.TOPO, samples.NCCL, samples_host.hwloc(), samples_host.LSCPU, samples_host.NUMACTL)


def collectives() -> Seeds:
    """Return outputs that samples can be made of."""
    return tuple(outputs()[place] for place in (0, 2, 4, 5, 7))


def host_dumps() -> Seeds:
    """Return dumps of one host, in every format of text."""
    return encoded(
        samples.TOPO, samples.query(), samples.NVLINK, samples.NCCL, samples_host.hwloc(),
        samples_host.OLD_HWLOC,
        samples_host.LSCPU + samples_host.LSCPU_TABLE, samples_host.RISCV, samples_host.NUMACTL,
    )  # fmt: skip


def fabric_dumps() -> Seeds:
    """Return dumps of fabrics."""
    nodes = [f"node-{index}" for index in range(2)]
    return encoded(
        samples_host.ibnet(), samples_host.SLURM, samples_host.SLURM_BLOCKS, samples_host.SLURM_YAML,
        samples_host.TOPOGRAPH, samples_host.OLD_TOPOGRAPH, samples_host.k8s_nodes(),
        samples_fabric.rail_fabric(nodes, 2),
    )  # fmt: skip


def archives() -> Seeds:
    """Return snapshots of a host, plain and packed."""
    files, links = snapshots.with_pci()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for end in (".tar", ".tar.gz"):
            place = Path(folder) / f"host{end}"
            found.append(snapshots.write_archive(place, files, links).read_bytes())
        plain = Path(folder) / "riscv.tar"
        found.append(snapshots.write_archive(plain, snapshots.riscv()).read_bytes())
    return tuple(found)


def outputs() -> Seeds:
    """Return what benchmarks print."""
    return encoded(*test_importers.SAMPLES, test_imported.NCCL)


def tables() -> Seeds:
    """Return tables of measured kernels."""
    return encoded(
        test_imported.AIC, test_imported.VIDUR, test_imported.AIC_NCCL, test_imported.AIC_ENGINE,
        test_imported.VIDUR_NETWORK, test_imported.VIDUR_MESSAGES, test_imported.LAYERS,
    )  # fmt: skip


def parquet() -> Seeds:
    """Return a table of measured kernels as Parquet."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    table = pyarrow.csv.read_csv(pyarrow.BufferReader(test_imported.AIC.encode()))
    pyarrow.parquet.write_table(table, sink)
    return (sink.getvalue().to_pybytes(),)


def onnx() -> Seeds:
    """Return a small ONNX model."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "m.onnx"
        test_graphs.onnx_model(place)
        return (place.read_bytes(),)


def flows() -> Seeds:
    """Return a flow trace."""
    return encoded(json.dumps(test_replay.document()))


def packed_flows() -> Seeds:
    """Return a flow trace packed by gzip."""
    return tuple(gzip.compress(seed) for seed in flows())


def configs() -> Seeds:
    """Return configurations of models as Hugging Face has them."""
    known = test_hf_config.LLAMA, test_hf_config.MOE, test_hf_config.DEEPSEEK, test_hf_config.GPT2
    return encoded(*map(json.dumps, known))


def graphs() -> Seeds:
    """Return operator graphs."""
    return encoded(json.dumps(test_operators.document()))


def runs() -> Seeds:
    """Return tables of measured runs, of training and of inference."""
    return encoded(ROWS, SERVED)


def sharding() -> Seeds:
    """Return a plan of embedding tables of another planner."""
    return encoded(export_plan([placement("table_wise", "fused"), placement("row_wise", "fused", "u")], 2))


TOPOLOGIES = encoded(MACHINE, MACHINE + CLUSTER)
WORKLOADS = encoded(SERVICE, TRAINING, RECOMMENDER)
