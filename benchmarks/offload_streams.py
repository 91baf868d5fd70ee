"""Tokens of a model whose weights exceed a GPU's memory: some layers are fetched from the host every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.offload_steps import VARIANTS, Simulation, Visit
from benchmarks.recommender_study import with_host_link
from planner.calibrate.verify_predict import Predictor
from planner.costs import Access, Calibration, HostPath, load_calibration, mode_times
from planner.topology import Topology, load_topology, route
from planner.workload import Transformer
from planner.workload.resolve import model_presets

MODEL, DTYPE, BATCH, KEYS = "llama3-70b", "bf16", 16, 2048
ROOM = 0.85
"""Share of a GPU's memory for weights and cached keys and values."""
ELEMENT = 2.0


@dataclass(frozen=True)
class Stream:
    """One machine; times of a token of every sequence, s.

    Attributes
    ----------
    streamed
        Share of the layers that are fetched for every token.
    mode
        Best way to bring a layer to the GPU by its access pattern, a stream that is used once.
    """

    site: str
    streamed: float
    mode: str
    predicted: float
    simulated: dict[str, float]

    @property
    def gain(self) -> float:
        """By how much a token comes sooner than with naive copies, a ratio of the latter."""
        return 1.0 - self.simulated["planned"] / self.simulated["naive"]


@dataclass(frozen=True)
class Token:
    """The layers of a model on one GPU, those on the host spread evenly among the others."""

    topology: Topology
    calibration: Calibration
    ranks: Sequence[str]
    visits: Sequence[Visit]
    update: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rest: float = 0.0


def machines() -> Iterator[tuple[str, Topology]]:
    """Yield one hypothetical RISC-V host with three links, and shipped machines."""
    for name, rate in (("C2C", None), ("PCIe 5", 55.4e9), ("PCIe 4", 26.2e9)):
        yield f"RISC-V Fusion host, {name}", with_host_link("riscv-nvlink-fusion", rate)
    yield "2 x GH200, C2C", load_topology("gh200-dual")
    yield "RISC-V SG2044, PCIe 5", load_topology("riscv-sg2044-pcie5")
    yield "DGX H100 (x86), PCIe 5", load_topology("dgx-h100")
    yield "DGX A100 (x86), PCIe 4", load_topology("dgx-a100")


def streams() -> Iterator[Stream]:
    """Yield the study of every machine."""
    for name, topology in machines():
        yield stream_of(name, topology)


def stream_of(name: str, topology: Topology) -> Stream:
    """Return the times of a token on the last GPU of a machine, which the first domain is not next to."""
    calibration, gpu = load_calibration(), topology.gpus[-1]
    model = model_presets()[MODEL]
    device = topology.device(gpu)
    predictor = Predictor(device, calibration, model, 1, DTYPE)
    layer = ELEMENT * (model.attention_parameters + model.dense_mlp_parameters)
    edges = 2.0 * ELEMENT * model.vocab * model.hidden
    room = ROOM * device.memory.value - edges - cache_bytes(model)
    away = min(model.layers, max(0, model.layers - int(room / layer)))
    seconds = predictor.decode_stage(1, BATCH, KEYS, first=False, last=False)
    ends = predictor.decode_stage(0, BATCH, KEYS, first=True, last=True)
    path = host_path(topology, gpu)
    best = mode_times(Access(layer), path, calibration)[0]
    fetched = [
        (place + 1) * away // model.layers > place * away // model.layers for place in range(model.layers)
    ]
    visits = [Visit(seconds, layer if one else 0.0, 0.0) for one in fetched]
    token = Token(topology, calibration, [gpu], visits, rest=ends)
    times = {kind: Simulation(token, copies).seconds() for kind, copies in VARIANTS.items()}
    predicted = max(model.layers * seconds, away * best.seconds) + ends
    return Stream(name, away / model.layers, best.mode, predicted, times)


def cache_bytes(model: Transformer) -> float:
    """Return the bytes of the keys and values of all sequences."""
    return 2.0 * ELEMENT * model.layers * BATCH * KEYS * model.kv_heads * model.head_dim


def host_path(topology: Topology, gpu: str) -> HostPath:
    """Return the way between a GPU and the domain next to it."""
    node, name = gpu.split("/", 1)
    machine = topology.node_of[node].machine
    part = next(one for one in machine.gpus if one.name == name)
    ways = [route(machine.graph, *ends) for ends in ((part.numa, name), (name, part.numa))]
    if ways[0] is None or ways[1] is None:
        raise ValueError(f"{gpu} has no way to {part.numa}")
    rate = machine.numa_named(part.numa).memory_bandwidth.value
    return HostPath(ways[0], ways[1], rate, part.addressing)
