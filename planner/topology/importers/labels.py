"""What the labels of a Kubernetes node say against a machine."""

from __future__ import annotations

from planner.topology.importers.k8s_nodes import NodeFacts
from planner.topology.importers.rates import same_product
from planner.topology.machine import MachineType

MEMORY_TOLERANCE = 0.12
"""By how much the memory that a node offers may be below that of its machine: what the system keeps."""
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def unlike(facts: NodeFacts, machine: MachineType) -> list[tuple[str, object, object]]:
    """Return what differs, with the value of the label and that of the machine."""
    found: list[tuple[str, object, object]] = []
    arch = _ARCHITECTURES.get(facts.arch or "", facts.arch)
    archs = sorted({domain.arch for domain in machine.numa})
    if arch is not None and arch not in archs:
        found.append(("the architecture", arch, ", ".join(archs)))
    gpus = len(machine.gpus)
    if (facts.gpus is not None and facts.gpus != gpus) or (
        facts.gpus is None and facts.product is None and gpus
    ):
        found.append(("the number of GPUs", facts.gpus or 0, gpus))
    models = sorted({gpu.device for gpu in machine.gpus})
    if facts.product is not None and not all(same_product(facts.product, model) for model in models):
        found.append(("the GPU", facts.product, ", ".join(models)))
    memory = sum(domain.memory.value for domain in machine.numa)
    measured = all(domain.memory.provenance == "measured" for domain in machine.numa)
    if measured and facts.memory and abs(facts.memory - memory) > MEMORY_TOLERANCE * memory:
        found.append(("the memory", f"{facts.memory / 2**30:.0f} GiB", f"{memory / 2**30:.0f} GiB"))
    return found
