"""The cluster as a document (``target/1``), for what does not fit into options."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from planner.deploy.platform import (
    CpuPolicy,
    Kubelet,
    MemoryPolicy,
    Platform,
    TopologyPolicy,
    TopologyScope,
)
from planner.deploy.target import Program, Sizing, Target
from planner.schema import Document, Record, load


class ProgramRecord(Record):
    """What a job or a CPU stage runs: see `planner.deploy.Program`."""

    image: str | None = None
    command: list[str] = Field(default_factory=list)
    arguments: list[str] = Field(default_factory=list)
    model: str | None = None
    claims: dict[str, str] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)


class KubeletRecord(Record):
    """Policies of the kubelets: see `planner.deploy.kubelet.Kubelet`."""

    cpu_manager: CpuPolicy = "static"
    memory_manager: MemoryPolicy = "Static"
    topology_manager: TopologyPolicy = "single-numa-node"
    topology_scope: TopologyScope = "container"


class TargetDocument(Document):
    """Document ``target/1``: release, devices, scheduler, labels of a cluster, and what runs on it.

    Attributes
    ----------
    kubernetes
        Release, 1.34 to 1.37.
    portable
        Whether pods go to any nodes of equal parts and links, by the label ``kind`` that the agent writes.
    gpu_ids
        UUID of each GPU by ``NODE/GPU``, which exact claims need.
    kubelet
        Policies of the kubelets; what a plan needs is required of the nodes where this is absent.
    mig_strategy
        Of the device plugin: ``mixed`` names slices by profile, ``single`` counts them as GPUs, ``none`` has
        none, so that plans with slices are refused.
    programs
        What runs, by ``JOB`` or ``JOB/STAGE``.
    """

    kind: ClassVar[str] = "target"
    version: ClassVar[int] = 1
    kubernetes: str = "1.34"
    namespace: str = "planner"
    devices: Literal["device-plugin", "dra"] = "device-plugin"
    driver: str = "0.4"
    stack: Literal["core", "kueue", "kai", "volcano", "numa"] = "core"
    labels: str = "gfd"
    mig_strategy: Literal["none", "single", "mixed"] = "mixed"
    kubelet: KubeletRecord | None = None
    exact: bool = False
    portable: bool = False
    gpu_ids: dict[str, str] = Field(default_factory=dict)
    components: list[Literal["monitoring", "canary", "agent"]] = Field(default_factory=list)
    domain: str = "planner.example.org"
    queue: str | None = None
    scheduler: str | None = None
    topology_label: str | None = None
    model_claim: str | None = "models"
    rdma_resource: str | None = None
    huge_page: Literal["2Mi", "1Gi"] | None = None
    own_priorities: bool = False
    priority_classes: dict[str, str] = Field(default_factory=dict)
    machine_labels: dict[str, dict[str, str]] = Field(default_factory=dict)
    nic_names: dict[str, str] = Field(default_factory=dict)
    programs: dict[str, ProgramRecord] = Field(default_factory=dict)

    def target(self) -> Target:
        """Return the target.

        Raises
        ------
        DeployError
            If its parts do not go together.
        """
        platform = Platform(
            devices=self.devices, driver=self.driver, stack=self.stack, labels=self.labels, exact=self.exact,
            mig_strategy=self.mig_strategy, gpu_ids=self.gpu_ids, components=tuple(self.components),
            kubelet=None if self.kubelet is None else Kubelet(**self.kubelet.model_dump()),
        )  # fmt: skip
        return Target(
            version=self.kubernetes, namespace=self.namespace, domain=self.domain, queue=self.queue,
            scheduler=self.scheduler, topology_label=self.topology_label, model_claim=self.model_claim,
            rdma_resource=self.rdma_resource, own_priorities=self.own_priorities,
            priority_classes=self.priority_classes, machine_labels=self.machine_labels,
            portable=self.portable,
            nic_names=self.nic_names,
            sizing=Sizing(huge_page=self.huge_page), platform=platform,
            programs={name: _program(one) for name, one in self.programs.items()},
        )  # fmt: skip


def _program(one: ProgramRecord) -> Program:
    return Program(one.image, tuple(one.command), tuple(one.arguments), one.model, one.claims, one.env)


def load_target(path: Path) -> Target:
    """Return the target of a document."""
    return load(path, TargetDocument).target()
