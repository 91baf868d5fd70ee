"""Model configurations of Triton Inference Server for the GPU stages of an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from planner.deploy.maps import ensemble_devices
from planner.deploy.names import dns_label
from planner.placement.ensemble_plan import EnsemblePlan, GpuInstance

FOLDER = "triton"
PRIORITIES = {"high": "PRIORITY_MAX", "normal": "PRIORITY_DEFAULT"}
"""Execution priority of a model: with TensorRT the priority of its CUDA streams."""


def triton_files(job: EnsemblePlan) -> dict[str, str]:
    """Return ``config.pbtxt`` by path: per node a model for every GPU stage and set of classes.

    A stage with instances of its own for some classes is as many models: requests go to the model of their
    class as ``ensemble.json`` says. GPUs are numbered as that file lists the devices of the node: the order
    that ``CUDA_VISIBLE_DEVICES`` has to have.
    """
    devices = ensemble_devices(job)
    files = {}
    for _, members in groupby(job.instances, key=lambda one: (one.group, one.stage, one.classes)):
        instances = list(members)
        name = dns_label(instances[0].name.rsplit("-", 1)[0])
        for node, order in devices.items():
            here = [each for each in instances if each.gpu.split("/", 1)[0] == node]
            if here:
                files[f"{FOLDER}/{node}/{name}/config.pbtxt"] = _config(name, here, order)
    return files


def _config(name: str, instances: Sequence[GpuInstance], devices: Sequence[tuple[str, int | None]]) -> str:
    first = instances[0]
    lines = [
        f"# {first.stage} of {', '.join(first.classes)}; inputs, outputs and platform are the model's own.",
        f'name: "{name}"',
        f"max_batch_size: {first.max_batch}",
        "dynamic_batching {",
        f"  preferred_batch_size: [ {', '.join(map(str, first.preferred_sizes))} ]",
        f"  max_queue_delay_microseconds: {round(first.window * 1e6)}",
        "}",
        *_instance_groups(instances, devices),
        "optimization {",
        f"  priority: {PRIORITIES[first.priority]}",
        *_graphs(first),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _instance_groups(
    instances: Sequence[GpuInstance], devices: Sequence[tuple[str, int | None]]
) -> Iterator[str]:
    """Yield one entry per GPU or slice, with its place in the plan beside it."""
    yield "instance_group ["
    for number, each in enumerate(instances):
        place = each.gpu if each.mig is None else f"{each.gpu}, slice {each.mig} from {each.start}"
        end = "," if number < len(instances) - 1 else ""
        index = devices.index((each.gpu, each.start))
        yield f"  {{ kind: KIND_GPU count: 1 gpus: [ {index} ] }}{end}  # {place}"
    yield "]"


def _graphs(first: GpuInstance) -> Iterator[str]:
    """Yield the batch sizes to capture as CUDA graphs when the model is loaded."""
    if first.graph_shapes:
        yield "  cuda {"
        yield "    graphs: true"
        yield from (f"    graph_spec {{ batch_size: {size} }}" for size in first.graph_shapes)
        yield "  }"
