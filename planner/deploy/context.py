"""What every object of a bundle needs: the plan and its inputs, the target, names, labels and annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from planner import __version__
from planner.deploy.capacity import Capacity
from planner.deploy.equivalence import Kinds
from planner.deploy.errors import DeployError
from planner.deploy.names import dns_label
from planner.deploy.shares import Reader, Share
from planner.deploy.target import Target
from planner.placement.plan import JobPlan, Plan
from planner.schema import compress
from planner.topology.cluster import Topology
from planner.workload import AnyJob, Transformer
from planner.workload.resolve import Workload

Json = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """A plan on its way into files.

    Attributes
    ----------
    shares
        What the pods of a template have of their nodes, by the labels ``instance`` and ``component``; noted
        by what writes the template.
    whole_pods
        Nodes whose kubelets align pods as a whole, so that stages lie beside their GPUs.
    """

    plan: Plan
    topology: Topology
    workload: Workload
    target: Target
    shares: dict[tuple[str, str], list[Share]] = field(default_factory=dict)
    whole_pods: set[str] = field(default_factory=set)

    def note(self, labels: Mapping[str, str], shares: Sequence[Share]) -> None:
        """Remember what the pods with some labels have of their nodes."""
        self.shares.setdefault(template_key(labels), []).extend(shares)

    @cached_property
    def jobs(self) -> Mapping[str, AnyJob]:
        """Jobs of the workload by name."""
        return {resolved.job.name: resolved.job for resolved in self.workload.jobs}

    @cached_property
    def models(self) -> Mapping[str, Transformer]:
        """Shape of the model of each job that runs a transformer."""
        return {
            resolved.job.name: resolved.model
            for resolved in self.workload.jobs
            if isinstance(resolved.model, Transformer)
        }

    @cached_property
    def capacity(self) -> Capacity:
        """What the nodes have to give."""
        return Capacity(self.plan, self.topology, self.jobs, self.target.sizing)

    @cached_property
    def kinds(self) -> Kinds:
        """Kinds of the machines and of sets of their GPUs."""
        return Kinds()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan's decisions."""
        return self.plan.content_digest

    @cached_property
    def _readers(self) -> Mapping[str, Reader]:
        return {job.name: Reader(job.name, job.bindings, self.topology) for job in self.plan.jobs}

    def reader(self, job: JobPlan) -> Reader:
        """Return what reads the job's names against the topology."""
        return self._readers[job.name]

    def labels(self, name: str, instance: str, component: str, part_of: str) -> dict[str, str]:
        """Return the recommended labels of an object."""
        return {
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/instance": instance,
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/part-of": part_of,
            "app.kubernetes.io/managed-by": "planner",
        }

    def annotations(self, job: JobPlan, **more: str) -> dict[str, str]:
        """Return the annotations that say where an object comes from.

        They stay on the object: on the pod template a new digest alone would restart every pod.
        """
        own = {
            "plan": f"job {job.name} of plan {self.plan.name}",
            "plan-digest": self.digest,
            "planner-version": f"v{__version__}",
            **{name.replace("_", "-"): text for name, text in more.items()},
        }
        return {self.target.key(name): text for name, text in own.items()}

    def meta(
        self, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
    ) -> Json:
        """Return the metadata of an object; what starts pods has annotations, and goes through the queue."""
        meta: Json = {"name": name, "namespace": self.target.namespace, "labels": dict(labels)}
        if annotations is None:
            return meta
        if self.target.queue is not None:
            meta["labels"]["kueue.x-k8s.io/queue-name"] = self.target.queue
        return meta | {"annotations": dict(annotations)}

    def vendor(self, job: JobPlan, shares: Sequence[Share]) -> str:
        """Return the vendor of the job's GPUs.

        Raises
        ------
        DeployError
            If they are of several vendors.
        """
        found = sorted(
            {share.machine.device_of(place.gpu).vendor for share in shares for place in share.places}
        )
        if len(found) != 1:
            raise DeployError(f"job {job.name!r} uses GPUs of several vendors ({', '.join(found)}) at once")
        return found[0]


def template_key(labels: Mapping[str, str]) -> tuple[str, str]:
    """Return what tells the pod templates of a bundle apart."""
    return labels["app.kubernetes.io/instance"], labels["app.kubernetes.io/component"]


def show_share(share: Share) -> str:
    """Return a share as short text: ``node-0/gpu[0-3]``."""
    names = [f"{share.node.name}/{place.gpu}" for place in share.places]
    try:
        return ",".join(compress(names))
    except ValueError:
        return ",".join(names)


def job_name(job: JobPlan) -> str:
    """Return the name of a job's objects."""
    return dns_label(job.name)


def numbered(name: str, index: int, count: int) -> str:
    """Return the name of the ``index``-th of ``count`` like objects; the plain name where there is one."""
    return name if count == 1 else dns_label(f"{name}-{index}")
