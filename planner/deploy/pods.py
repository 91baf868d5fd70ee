"""Parts of pods that every workload shares: resources, security, probes, environment, volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.deploy.capacity import MIB
from planner.deploy.names import literal
from planner.deploy.target import GIB, Sizing, Target

Json = dict[str, Any]
PROBE_PERIOD = 10
DRAIN = 10
"""Seconds that a server keeps answering after its removal from the service was announced."""
CACHE = "/cache"
PLAN_FOLDER = "/etc/planner"


def quantity(size: float) -> str:
    """Return bytes as a Kubernetes quantity, rounded up to whole MiB."""
    if size <= 0:
        return "0"
    mebibytes = math.ceil(round(size / MIB, 6))
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def resources(cpu: int, memory: float, storage: float, devices: Mapping[str, int]) -> Json:
    """Return requests and limits that are equal, so that the pod is of class Guaranteed."""
    amounts = {"cpu": str(cpu), "memory": quantity(memory), "ephemeral-storage": quantity(storage)}
    amounts |= {name: str(count) for name, count in sorted(devices.items()) if count}
    return {"requests": amounts, "limits": dict(amounts)}


@dataclass(frozen=True)
class Volume:
    """A volume and where it is mounted."""

    name: str
    path: str
    source: Json
    read_only: bool = False


def shared_memory(size: float) -> Volume:
    """Return ``/dev/shm`` of a stated size; what is written there counts as memory of the writer."""
    return Volume("shm", "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": quantity(size)}})


def scratch_volumes(sizing: Sizing, *, cache: bool) -> list[Volume]:
    """Return the writable folders of a container whose root file system is read-only."""
    volumes = [Volume("tmp", "/tmp", {"emptyDir": {"sizeLimit": quantity(sizing.scratch)}})]
    if cache:
        volumes.append(Volume("cache", CACHE, {"emptyDir": {"sizeLimit": quantity(sizing.cache)}}))
    return volumes


def scratch_bytes(sizing: Sizing, *, cache: bool) -> float:
    """Return the ephemeral storage of such a container, 1 GiB for logs included, bytes."""
    return sizing.scratch + (sizing.cache if cache else 0.0) + GIB


def claim_volume(name: str, path: str, claim: str, *, read_only: bool) -> Volume:
    """Return a persistent volume claim and where it is mounted."""
    return Volume(
        name, path, {"persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}, read_only
    )


def claim_volumes(claims: Mapping[str, str]) -> list[Volume]:
    """Return persistent volume claims by mount path, for reading and writing."""
    return [
        claim_volume(f"claim-{index}", path, claim, read_only=False)
        for index, (path, claim) in enumerate(sorted(claims.items()))
    ]


@dataclass(frozen=True)
class Container:
    """A container, before it is written out.

    Attributes
    ----------
    command, arguments
        Words as they are written, ``$(VARIABLE)`` references included.
    env
        Literal text, or the path of a ``fieldRef`` in a tuple.
    """

    name: str
    image: str
    resources: Json
    command: Sequence[str] = ()
    arguments: Sequence[str] = ()
    env: Mapping[str, str | tuple[str]] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    volumes: Sequence[Volume] = ()
    probes: Json = field(default_factory=dict)
    capabilities: Sequence[str] = ()
    lifecycle: Json = field(default_factory=dict)

    def manifest(self, user: int) -> Json:
        """Return the container as Kubernetes reads it."""
        security: Json = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        if self.capabilities:
            security["capabilities"]["add"] = list(self.capabilities)
        entries: Json = {
            "name": self.name,
            "image": self.image,
            "imagePullPolicy": "Always",
            "command": list(self.command),
            "args": list(self.arguments),
            "ports": [_port(name, number) for name, number in self.ports.items()],
            "env": [_variable(name, value) for name, value in self.env.items()],
            "resources": self.resources,
            "securityContext": security,
            **self.probes,
            "lifecycle": self.lifecycle,
            "volumeMounts": [_mount(volume) for volume in self.volumes],
        }
        return {name: value for name, value in entries.items() if value not in ([], {})}


def _port(name: str, number: int) -> Json:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _variable(name: str, value: str | tuple[str]) -> Json:
    if isinstance(value, tuple):
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": value[0]}}}
    return {"name": name, "value": literal(value)}


def _mount(volume: Volume) -> Json:
    mount: Json = {"name": volume.name, "mountPath": volume.path}
    return mount | {"readOnly": True} if volume.read_only else mount


def pod_spec(
    target: Target,
    account: str,
    containers: Sequence[Container],
    *,
    affinity: Json,
    tolerations: Sequence[Json] = (),
    grace: int = 60,
    restart: str | None = None,
    spread: Sequence[Json] = (),
    priority: str | None = None,
) -> Json:
    """Return the specification of a pod; volumes of equal name are one volume."""
    user = target.user
    volumes = {
        volume.name: {"name": volume.name, **volume.source} for item in containers for volume in item.volumes
    }
    spec: Json = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart,
        "schedulerName": target.scheduler_name,
        "priorityClassName": priority,
        "affinity": affinity,
        "topologySpreadConstraints": list(spread),
        "tolerations": list(tolerations),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": grace,
        "containers": [container.manifest(user) for container in containers],
        "volumes": list(volumes.values()),
    }
    return {name: value for name, value in spec.items() if value not in (None, [], {})}


def http_probes(port: str, budget: float) -> Json:
    """Return the probes of an inference server whose start may take ``budget`` seconds.

    ``/health`` and ``/v1/models`` are served by vLLM once the model is loaded.
    """
    live = {"httpGet": {"path": "/health", "port": port}}
    return {
        "startupProbe": {
            **live,
            "periodSeconds": PROBE_PERIOD,
            "failureThreshold": math.ceil(budget / PROBE_PERIOD),
        },
        "readinessProbe": {
            "httpGet": {"path": "/v1/models", "port": port},
            "periodSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {**live, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def socket_probes(port: str) -> Json:
    """Return the probes of a worker that listens on a port."""
    probe = {"tcpSocket": {"port": port}}
    return {
        "startupProbe": {**probe, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**probe, "periodSeconds": 20, "failureThreshold": 6},
    }


def gpu_environment(order: Sequence[int], vendor: str, *, mig: bool) -> dict[str, str]:
    """Return the variables that number GPUs as the plan's ranks expect.

    A container sees only its own GPUs, numbered from 0 in the order of their bus; MIG slices go by
    identifiers that the plan does not know.
    """
    if mig:
        return {}
    visible = ",".join(str(number) for number in order)
    if vendor == "amd":
        return {"HIP_VISIBLE_DEVICES": visible}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible}


def home_environment() -> dict[str, str]:
    """Return where programs write when they run as a user without an entry and without a home."""
    return {
        "HOME": CACHE,
        "USER": "planner",
        "LOGNAME": "planner",
        "HF_HOME": f"{CACHE}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
        "TRITON_CACHE_DIR": f"{CACHE}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
    }
