"""Small clusters and workloads, as documents and loaded."""

from __future__ import annotations

from planner.costs import load_calibration
from planner.schema import loads
from planner.study import Documents
from planner.topology import Topology, TopologyDocument
from planner.topology import resolve as resolve_topology
from planner.workload import Workload, WorkloadDocument
from planner.workload import resolve as resolve_workload

PORT = "{value: 50 GB/s, provenance: assumed, source: test}"
BOX = """
- name: {name}
  numa:
  - name: numa0
    arch: x86_64
    cores: {cores}
    core_speed: 1.0
    memory: 256 GiB
    memory_bandwidth: 200 GB/s
  gpus:
  - {{name: "gpu[0-{last}]", device: {device}, numa: numa0}}
  nics:
  - {{name: nic0, numa: numa0, bandwidth: 50 GB/s}}
  links:
  - {{between: ["gpu[0-{last}]", numa0], kind: pcie, bandwidth: 50 GB/s, latency: 500 ns}}
  - {{between: [nic0, numa0], kind: pcie, bandwidth: 50 GB/s, latency: 500 ns}}
"""


def box(name: str = "box", device: str = "h100-sxm-80", gpus: int = 2, cores: int = 12) -> str:
    """Return a machine of one NUMA domain."""
    return BOX.format(name=name, device=device, last=gpus - 1, cores=cores).strip("\n")


def topology(*machines: str, nodes: str = "", fabric: bool = True) -> Topology:
    """Return a topology; several nodes hang on one switch."""
    text = "schema: topology/1\nname: small\nmachines:\n" + "\n".join(machines) + "\n"
    if nodes:
        text += f"nodes: {nodes}\n"
    if nodes and fabric:
        text += "fabric: {layout: {shape: single-switch, nodes_per_leaf: 64, hop_latency: 600 ns}}\n"
    return resolve_topology(loads(text, TopologyDocument))


def serving(name: str, model: str = "llama3-8b", rate: float = 1.0) -> str:
    """Return a serving job with one CPU stage."""
    return (
        f"- {{kind: serving, name: {name}, model: {model}, "
        f"traffic: {{rate: {rate} req/s, prompt: {{mean: 300}}, output: {{mean: 30}}}}, "
        "before: [{name: tokenise, work: 2 ms, bytes_in: 2 kB, bytes_out: 2 kB}]}"
    )


def training(name: str, model: str = "llama3-8b", batch: int = 32) -> str:
    """Return a training job with a small space of strategies."""
    return (
        f"- {{kind: training, name: {name}, model: {model}, sequence: 2048, global_batch: {batch}, "
        "degrees: {cp: [1], virtual: [1], micro_batch: [1], recompute: [full]}}"
    )


def workload(*jobs: str) -> Workload:
    """Return a workload of several jobs."""
    text = "schema: workload/1\nname: jobs\njobs:\n" + "\n".join(jobs) + "\n"
    return resolve_workload(loads(text, WorkloadDocument))


def documents(machine: Topology, *jobs: str) -> Documents:
    """Return the inputs of a study with the default coefficients."""
    return Documents(machine, workload(*jobs), load_calibration())
