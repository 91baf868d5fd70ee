"""Rules for containers: names, images, ports, variables, mounts, security."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.amounts import resources
from planner.deploy.apiserver.environment import environment
from planner.deploy.apiserver.probes import handler, probes
from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    at_least,
    dns_label,
    named,
    one_of,
    port_name,
    required,
    unique,
)

Json = Mapping[str, Any]
LARGEST_ID = 2**31 - 1
GRACE = 30
"""Seconds that a pod has to end where it does not say."""


def containers(spec: Json, path: str) -> Problems:
    """Yield what is wrong with the containers of a pod."""
    every = [(f"{path}.{field}[{index}]", one) for field in ("initContainers", "containers")
             for index, one in enumerate(spec.get(field) or [])]  # fmt: skip
    yield from required(f"{path}.containers", spec.get("containers"))
    if spec.get("ephemeralContainers"):
        yield f"{path}.ephemeralContainers: Forbidden: cannot be set on create"
    yield from unique(f"{path}.containers", [one.get("name") for _, one in every])
    for where, one in every:
        yield from container(one, spec, where, starts=".initContainers[" in where)
    yield from _host_ports(spec, path)


def container(one: Json, spec: Json, path: str, *, starts: bool) -> Problems:
    """Yield what is wrong with a container; ``starts`` for one that runs before the others."""
    yield from named(f"{path}.name", one.get("name"), dns_label)
    image = one.get("image") or ""
    yield from required(f"{path}.image", image)
    if image != image.strip():
        yield f"{path}.image: must not have leading or trailing whitespace"
    yield from one_of(
        f"{path}.imagePullPolicy", one.get("imagePullPolicy"), "Always", "IfNotPresent", "Never"
    )
    yield from one_of(
        f"{path}.terminationMessagePolicy",
        one.get("terminationMessagePolicy"),
        "File",
        "FallbackToLogsOnError",
    )
    yield from _ports(one.get("ports") or [], path)
    yield from environment(one, path, {volume.get("name") for volume in spec.get("volumes") or []})
    yield from _mounts(one, spec.get("volumes") or [], path)
    stays = not starts or one.get("restartPolicy") == "Always"
    grace = spec.get("terminationGracePeriodSeconds", GRACE)
    yield from probes(one, path, allowed=stays)
    yield from _lifecycle(one.get("lifecycle") or {}, grace, f"{path}.lifecycle", allowed=stays)
    yield from _restarts(one, path)
    yield from resources(one.get("resources") or {}, spec.get("resourceClaims") or [], f"{path}.resources")
    yield from _security(one.get("securityContext") or {}, f"{path}.securityContext")


def _ports(ports: Sequence[Json], path: str) -> Problems:
    yield from unique(f"{path}.ports", [one.get("name") for one in ports])
    for index, one in enumerate(ports):
        where = f"{path}.ports[{index}]"
        if one.get("name"):
            yield from at(f"{where}.name", port_name(one["name"]))
        yield from required(f"{where}.containerPort", one.get("containerPort") or None)
        yield from at_least(where, one, 0, "containerPort", "hostPort", most=65535)
        yield from one_of(f"{where}.protocol", one.get("protocol"), "TCP", "UDP", "SCTP")


def _host_ports(spec: Json, path: str) -> Problems:
    ports = [port for one in spec.get("containers") or [] for port in one.get("ports") or []]
    used = [
        (port["hostPort"], port.get("protocol", "TCP"), port.get("hostIP"))
        for port in ports
        if port.get("hostPort")
    ]
    yield from unique(f"{path}.containers.ports.hostPort", used)
    if spec.get("hostNetwork"):
        for port in ports:
            if port.get("hostPort") not in (None, port.get("containerPort")):
                yield f"{path}.containers.ports.hostPort: must match containerPort where hostNetwork is true"


def _lifecycle(value: Json, grace: int, path: str, *, allowed: bool) -> Problems:
    for moment in ("postStart", "preStop"):
        action = value.get(moment)
        if action is None:
            continue
        if not allowed:
            yield f"{path}: Forbidden: may not be set for init containers without restartPolicy Always"
        yield from handler(action, f"{path}.{moment}")
        if (action.get("sleep") or {}).get("seconds", 0) > grace:
            yield f"{path}.{moment}.sleep: must not exceed terminationGracePeriodSeconds ({grace})"


def _restarts(one: Json, path: str) -> Problems:
    yield from one_of(f"{path}.restartPolicy", one.get("restartPolicy"), "Always", "OnFailure", "Never")
    rules = one.get("restartPolicyRules") or []
    if rules and not one.get("restartPolicy"):
        yield f"{path}.restartPolicy: must be set where restartPolicyRules are"
    for index, rule in enumerate(rules):
        where, codes = f"{path}.restartPolicyRules[{index}]", rule.get("exitCodes")
        yield from required(f"{where}.action", rule.get("action"))
        yield from one_of(f"{where}.action", rule.get("action"), "Restart", "RestartAllContainers")
        yield from required(f"{where}.exitCodes", codes)
        operator = (codes or {}).get("operator")
        yield from one_of(f"{where}.exitCodes.operator", operator, "In", "NotIn")
    policies = one.get("resizePolicy") or []
    yield from unique(f"{path}.resizePolicy", [rule.get("resourceName") for rule in policies])
    for index, rule in enumerate(policies):
        where = f"{path}.resizePolicy[{index}]"
        yield from required(f"{where}.resourceName", rule.get("resourceName"))
        yield from one_of(f"{where}.resourceName", rule.get("resourceName"), "cpu", "memory")
        yield from required(f"{where}.restartPolicy", rule.get("restartPolicy"))
        yield from one_of(
            f"{where}.restartPolicy", rule.get("restartPolicy"), "NotRequired", "RestartContainer"
        )


def _mounts(container: Json, volumes: Sequence[Json], path: str) -> Problems:
    mounts: Sequence[Json] = container.get("volumeMounts") or []
    known = {volume.get("name") for volume in volumes}
    privileged = bool((container.get("securityContext") or {}).get("privileged"))
    yield from unique(f"{path}.volumeMounts.mountPath", [one.get("mountPath") for one in mounts])
    yield from _block_devices(container, volumes, path)
    for index, one in enumerate(mounts):
        where = f"{path}.volumeMounts[{index}]"
        yield from required(f"{where}.name", one.get("name"))
        if one.get("name") not in known:
            yield f"{where}.name: Not found: {one.get('name')!r}"
        yield from required(f"{where}.mountPath", one.get("mountPath"))
        if one.get("subPath") and one.get("subPathExpr"):
            yield f"{where}.subPathExpr: subPathExpr and subPath are mutually exclusive"
        if one.get("mountPropagation") == "Bidirectional" and not privileged:
            yield f"{where}.mountPropagation: Bidirectional is available only to privileged containers"
        yield from one_of(
            f"{where}.recursiveReadOnly", one.get("recursiveReadOnly"), "Disabled", "IfPossible", "Enabled"
        )
        if one.get("recursiveReadOnly") in ("IfPossible", "Enabled") and not one.get("readOnly"):
            yield f"{where}.recursiveReadOnly: may only be specified when readOnly is true"
        for field in ("subPath", "subPathExpr"):
            inner = one.get(field) or ""
            if inner.startswith("/") or ".." in inner.split("/"):
                yield f"{where}.{field}: must be a relative path without '..'"
        yield from one_of(
            f"{where}.mountPropagation",
            one.get("mountPropagation"),
            "None",
            "HostToContainer",
            "Bidirectional",
        )


def _block_devices(container: Json, volumes: Sequence[Json], path: str) -> Problems:
    mounts, devices = container.get("volumeMounts") or [], container.get("volumeDevices") or []
    yield from unique(f"{path}.volumeDevices.devicePath", [one.get("devicePath") for one in devices])
    claimed = {
        volume.get("name") for volume in volumes if {"persistentVolumeClaim", "ephemeral"} & set(volume)
    }
    for index, one in enumerate(devices):
        where = f"{path}.volumeDevices[{index}]"
        yield from required(f"{where}.name", one.get("name"))
        yield from required(f"{where}.devicePath", one.get("devicePath"))
        if one.get("name") not in claimed:
            yield f"{where}.name: {one.get('name')!r} is no claim of a volume of the pod"
        if one.get("name") in {mount.get("name") for mount in mounts}:
            yield f"{where}.name: {one.get('name')!r} must not already exist in volumeMounts"


def _security(context: Json, path: str) -> Problems:
    yield from at_least(path, context, 0, "runAsUser", "runAsGroup", most=LARGEST_ID)
    yield from one_of(f"{path}.procMount", context.get("procMount"), "Default", "Unmasked")
    if context.get("allowPrivilegeEscalation") is False:
        added = (context.get("capabilities") or {}).get("add") or []
        if context.get("privileged") or {"SYS_ADMIN", "CAP_SYS_ADMIN"} & set(added):
            yield f"{path}: allowPrivilegeEscalation false contradicts privileged and SYS_ADMIN"
    yield from profiles(context, path)


def profiles(context: Json, path: str) -> Problems:
    """Yield what is wrong with the seccomp and AppArmor profiles of a security context."""
    for field in ("seccompProfile", "appArmorProfile"):
        profile = context.get(field)
        if profile is None:
            continue
        where, kind = f"{path}.{field}", profile.get("type")
        yield from required(f"{where}.type", kind)
        yield from one_of(f"{where}.type", kind, "Localhost", "RuntimeDefault", "Unconfined")
        if (kind == "Localhost") != bool(profile.get("localhostProfile")):
            yield f"{where}.localhostProfile: must be set for type Localhost, and only there"
