"""What the files are written for: the cluster, its conventions, and the programs that the jobs run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.deploy.errors import DeployError
from planner.deploy.names import is_dns_label, is_label_value
from planner.deploy.platform import Platform

GIB = float(2**30)
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
"""Kubernetes releases that the files are checked against."""
SERVING_IMAGE = "vllm/vllm-openai:v0.18.0"
TRAINING_IMAGE = "registry.example.org/megatron-lm:core-r0.14.0"
STAGE_IMAGE = "registry.example.org/stage-worker:1.0.0"
PLACEHOLDER = "registry.example.org/"
"""Images under this reserved name have to be replaced before the files can run."""
_IMAGE = re.compile(
    r"[a-z0-9][a-zA-Z0-9._-]*(:[0-9]+)?(/[a-zA-Z0-9._-]+)*(?P<tag>:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+")


def is_pinned_image(image: object) -> bool:
    """Return whether an image reference names one version: a digest, or a tag other than ``latest``."""
    match = _IMAGE.fullmatch(image) if isinstance(image, str) else None
    return match is not None and bool(match["digest"] or match["tag"] not in (None, ":latest"))


@dataclass(frozen=True)
class Sizing:
    """Sizes that no plan states; choices of the platform, not properties of hardware.

    Attributes
    ----------
    load_rate
        Rate at which weights are read from storage, bytes/s; sets the start-up budget of the probes.
    start_overhead
        Time to start besides reading weights (imports, compilation, graph capture), s.
    rank_memory, shm_per_rank
        Host memory of one GPU process, and its part of ``/dev/shm``, bytes.
    cores_per_rank
        Cores of a GPU process whose binding the plan does not state.
    worker_memory
        Memory of a worker of a CPU stage that the workload does not state, bytes.
    cache, scratch
        Ephemeral storage for compiled kernels and downloads, and for ``/tmp``, bytes.
    system_cores
        Cores of each node left to the operating system and the kubelet; fewer, at least one, where the plan
        needs them.
    system_memory
        Share of each node's memory left to them, 0 to 1.
    threads_per_core
        Logical CPUs that Kubernetes counts for one planned core: 2 where the nodes run two threads per core.
    huge_page
        Size of the huge pages, ``2Mi`` or ``1Gi``, that hold embedding tables in host memory; else plain.
    """

    load_rate: float = 1e9
    start_overhead: float = 300.0
    rank_memory: float = 8 * GIB
    shm_per_rank: float = 4 * GIB
    cores_per_rank: int = 8
    worker_memory: float = GIB
    cache: float = 32 * GIB
    scratch: float = 8 * GIB
    system_cores: int = 2
    system_memory: float = 0.05
    threads_per_core: int = 1
    huge_page: str | None = None


@dataclass(frozen=True)
class Program:
    """What a job, or a CPU stage of a job, runs.

    Attributes
    ----------
    image
        Container image with a tag or digest.
    command
        Program and leading arguments; what the plan decides is appended, then ``arguments``.
    model
        Path in the container, or hub name, of the weights.
    claims
        Persistent volume claims by the path where they are mounted for reading and writing.
    """

    image: str | None = None
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    model: str | None = None
    claims: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """The cluster that the files are written for.

    Attributes
    ----------
    version
        Release of Kubernetes, one of `VERSIONS`.
    programs
        What runs, by ``JOB`` or ``JOB/STAGE``.
    domain
        Prefix of the planner's own labels and annotations.
    model_claim
        Persistent volume claim with the weights of served models, mounted read-only at ``/models``.
    machine_labels
        Labels that pick the nodes of a machine type, such as ``nvidia.com/gpu.product``; used where a job has
        more nodes than `most_hostnames`.
    portable
        Whether pods go to any nodes that are as good as the planned ones, rather than to these by name.
    nic_names
        Name in the operating system of a network port of the topology.
    rdma_resource
        Extended resource that gives a pod its RDMA ports, such as ``rdma/hca_shared_devices_a``.
    scheduler
        Name of a topology-aware scheduler; the default scheduler when absent.
    queue
        Kueue queue that the jobs are submitted to.
    topology_label
        Node label whose domain a training job should stay in when it goes through a queue.
    priority_classes
        PriorityClass of the cluster by the plan's priority, ``high`` or ``normal``.
    own_priorities
        Whether the bundle brings priority classes where `priority_classes` names none.
    platform
        How the cluster gives devices, schedules and labels its nodes.
    """

    version: str = "1.34"
    namespace: str = "planner"
    programs: Mapping[str, Program] = field(default_factory=dict)
    domain: str = "planner.example.org"
    model_claim: str | None = "models"
    machine_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    most_hostnames: int = 64
    portable: bool = False
    nic_names: Mapping[str, str] = field(default_factory=dict)
    rdma_resource: str | None = None
    scheduler: str | None = None
    queue: str | None = None
    topology_label: str | None = None
    priority_classes: Mapping[str, str] = field(default_factory=dict)
    user: int = 10001
    port: int = 8000
    sizing: Sizing = Sizing()
    platform: Platform = field(default_factory=Platform)
    own_priorities: bool = False

    def __post_init__(self) -> None:
        reasons = [*self._named_wrongly(), *self._programs_wrong()]
        if self.version not in VERSIONS:
            reasons.append(
                f"Kubernetes {self.version!r} is not supported; choose one of {', '.join(VERSIONS)}"
            )
        else:
            reasons += self.platform.refusals(self.version)
        if self.portable and self.platform.exact:
            reasons.append("exact GPUs are those of named nodes, so that a plan cannot be portable as well")
        if self.user < 1:
            reasons.append(f"user {self.user} is not allowed: containers do not run as root")
        if not 1024 <= self.port <= 8999:
            reasons.append(f"port {self.port} is not between 1024 and 8999")
        if reasons:
            raise DeployError(*reasons)

    def _named_wrongly(self) -> list[str]:
        names = {
            "namespace": self.namespace,
            "scheduler": self.scheduler,
            "queue": self.queue,
            "model claim": self.model_claim,
        }
        names |= {f"priority class of {kind}": name for kind, name in self.priority_classes.items()}
        reasons = [
            f"{what} {name!r} is not a legal name: use lower-case letters, digits and '-'"
            for what, name in sorted(names.items())
            if name is not None and not is_dns_label(name)
        ]
        if not _DOMAIN.fullmatch(self.domain):
            reasons.append(f"domain {self.domain!r} is not a DNS name such as planner.example.org")
        for machine, labels in sorted(self.machine_labels.items()):
            reasons += [
                f"label value {value!r} of machine {machine!r} is not legal"
                for value in labels.values()
                if not is_label_value(value)
            ]
        return reasons

    def _programs_wrong(self) -> list[str]:
        reasons = []
        for name, program in sorted(self.programs.items()):
            if program.image is not None and not is_pinned_image(program.image):
                reasons.append(
                    f"image {program.image!r} of {name!r} needs a tag other than latest, or a digest"
                )
            reasons += [
                f"environment name {key!r} of {name!r} is not legal"
                for key in program.env
                if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key)
            ]
            reasons += [
                f"claim {claim!r} of {name!r} is not a legal name, or its path {path!r} is not absolute"
                for path, claim in program.claims.items()
                if not is_dns_label(claim) or not path.startswith("/")
            ]
        return reasons

    @property
    def scheduler_name(self) -> str | None:
        """Scheduler that pods name; the cluster's default one when absent."""
        return self.scheduler or self.platform.scheduler.scheduler or None

    def priority_class(self, priority: str) -> str | None:
        """Return the class of the pods of a priority of the plan."""
        return self.priority_classes.get(priority, f"planner-{priority}" if self.own_priorities else None)

    def program(self, job: str, stage: str | None = None) -> Program:
        """Return what a job or one of its CPU stages runs."""
        return self.programs.get(job if stage is None else f"{job}/{stage}", Program())

    def key(self, name: str) -> str:
        """Return one of the planner's own label or annotation keys."""
        return f"{self.domain}/{name}"
