"""How a cluster gives devices, schedules and labels its nodes; refused where the parts do not go together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from planner.deploy.capabilities import LabelProfile, Stack, capabilities, earlier

_UUID = re.compile(r"(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NUMA_ATTRIBUTE = "resource.kubernetes.io/numaNode"
COMPONENTS = ("monitoring", "canary", "agent")
CpuPolicy = Literal["none", "static"]
MemoryPolicy = Literal["None", "Static"]
TopologyPolicy = Literal["none", "best-effort", "restricted", "single-numa-node"]
TopologyScope = Literal["container", "pod"]


@dataclass(frozen=True)
class Kubelet:
    """Policies of a kubelet, by the words of its KubeletConfiguration; the defaults hold stages in place."""

    cpu_manager: CpuPolicy = "static"
    memory_manager: MemoryPolicy = "Static"
    topology_manager: TopologyPolicy = "single-numa-node"
    topology_scope: TopologyScope = "container"

    def configuration(self) -> dict[str, str]:
        """Return the fields of a KubeletConfiguration."""
        return {
            "cpuManagerPolicy": self.cpu_manager,
            "memoryManagerPolicy": self.memory_manager,
            "topologyManagerPolicy": self.topology_manager,
            "topologyManagerScope": self.topology_scope,
        }


@dataclass(frozen=True)
class Platform:
    """The parts of a cluster that decide which objects a plan becomes.

    Attributes
    ----------
    devices
        ``device-plugin``: extended resources; ``dra``: claims of devices (dynamic resource allocation).
    driver
        Version of NVIDIA's driver for claims; what its GPUs publish decides what claims may ask for.
    stack
        Scheduler: ``core``, ``kueue``, ``kai``, ``volcano`` or ``numa`` (NodeResourceTopologyMatch).
    labels
        Who labels the nodes with their place in the fabric.
    mig_strategy
        How the device plugin names slices: ``mixed`` by profile, ``single`` as GPUs, ``none`` not at all.
    exact
        Whether pods are held to the very GPUs of the plan rather than to equal ones.
    gpu_ids
        UUID of each GPU by ``NODE/GPU``, as the driver reports it; exact claims need those of their GPUs.
    kubelet
        Policies of the kubelets; where absent, those that the plan needs are required of the nodes.
    components
        Optional parts that the root kustomization includes, of `COMPONENTS`.
    """

    devices: Literal["device-plugin", "dra"] = "device-plugin"
    driver: str = "0.4"
    stack: str = "core"
    labels: str = "gfd"
    mig_strategy: Literal["none", "single", "mixed"] = "mixed"
    exact: bool = False
    gpu_ids: Mapping[str, str] = field(default_factory=dict)
    components: tuple[str, ...] = ()
    kubelet: Kubelet | None = None

    @property
    def scheduler(self) -> Stack:
        """What is known of the scheduler."""
        return capabilities().stack(self.stack)

    @property
    def attributes(self) -> frozenset[str]:
        """Attributes that the driver's GPUs have."""
        return frozenset(capabilities().driver(self.driver).attributes)

    def label_keys(self, domain: str) -> LabelProfile:
        """Return the keys of node labels; ``domain`` is that of the planner's own."""
        found = capabilities().profile(self.labels)
        own = {name: getattr(found, name).format(domain=domain) for name in ("accelerator", "leaf", "spine")}
        return found.model_copy(update=own)

    def refusals(self, release: str) -> Iterator[str]:
        """Yield why a cluster of a release cannot be of these parts."""
        stack = self.scheduler
        capabilities().profile(self.labels)
        if self.devices == "dra":
            capabilities().driver(self.driver)
            if earlier(release, "1.34"):
                yield f"claims of devices (resource.k8s.io/v1) need Kubernetes 1.34, not {release}"
            if stack.no_dra:
                yield f"stack {stack.name!r} takes no claims of devices: {stack.no_dra}; use a device plugin"
        elif self.exact:
            yield (
                "exact GPUs need devices: dra; a device plugin picks the GPUs of a pod itself, so that the "
                "plan's own are only a wish"
            )
        if self.exact and not self.gpu_ids:
            yield "exact GPUs need gpu_ids: the UUID of each GPU of the plan by NODE/GPU"
        for gpu, text in sorted(self.gpu_ids.items()):
            if not _UUID.fullmatch(text):
                yield f"gpu_ids: {gpu}: {text!r} is no UUID of a GPU, as nvidia-smi -L shows them"
        for name in self.components:
            if name not in COMPONENTS:
                yield f"component {name!r} is unknown; known: {', '.join(COMPONENTS)}"
