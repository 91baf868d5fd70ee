"""Rules for containers: names, images, ports, variables, mounts, security."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.amounts import resources
from planner.deploy.apiserver.probes import handler, probes
from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    at_least,
    dns_label,
    file_key,
    named,
    one_of,
    port_name,
    qualified_name,
    required,
    unique,
    variable,
)

Json = Mapping[str, Any]
LARGEST_ID = 2**31 - 1
FIELDS = frozenset(
    ["metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
     "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"]
)  # fmt: skip
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


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
    yield from _environment(one, path)
    yield from _mounts(one.get("volumeMounts") or [], spec.get("volumes") or [], path)
    yield from probes(one, path, allowed=not starts or one.get("restartPolicy") == "Always")
    for moment in ("postStart", "preStop"):
        action = (one.get("lifecycle") or {}).get(moment)
        if action is not None:
            yield from handler(action, f"{path}.lifecycle.{moment}")
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


def _environment(one: Json, path: str) -> Problems:
    for index, item in enumerate(one.get("env") or []):
        where, source = f"{path}.env[{index}]", item.get("valueFrom")
        yield from named(f"{where}.name", item.get("name"), variable)
        if source is None:
            continue
        if item.get("value"):
            yield f"{where}.valueFrom: may not be specified when value is not empty"
        given = [name for name in _SOURCES if name in source]
        if len(given) != 1:
            yield f"{where}.valueFrom: must specify exactly one of {', '.join(_SOURCES)}"
        for name in given:
            yield from _source(name, source[name], f"{where}.valueFrom.{name}")
    for index, item in enumerate(one.get("envFrom") or []):
        where, given = (
            f"{path}.envFrom[{index}]",
            [name for name in ("configMapRef", "secretRef") if name in item],
        )
        if len(given) != 1:
            yield f"{where}: must specify exactly one of configMapRef and secretRef"
        for name in given:
            yield from required(f"{where}.{name}.name", item[name].get("name"))


def _source(name: str, value: Json, path: str) -> Problems:
    if name == "fieldRef":
        field = value.get("fieldPath") or ""
        subscript = _SUBSCRIPT.fullmatch(field)
        yield from required(f"{path}.fieldPath", field)
        if subscript:
            yield from at(f"{path}.fieldPath", qualified_name(subscript[2]))
        elif field and field not in FIELDS:
            yield f"{path}.fieldPath: Unsupported value {field!r}"
    elif name == "resourceFieldRef":
        yield from required(f"{path}.resource", value.get("resource"))
    elif name == "fileKeyRef":
        for field in ("volumeName", "path", "key"):
            yield from required(f"{path}.{field}", value.get(field))
    else:
        yield from required(f"{path}.name", value.get("name"))
        yield from named(f"{path}.key", value.get("key"), file_key)


def _mounts(mounts: Sequence[Json], volumes: Sequence[Json], path: str) -> Problems:
    known = {volume.get("name") for volume in volumes}
    yield from unique(f"{path}.volumeMounts.mountPath", [one.get("mountPath") for one in mounts])
    for index, one in enumerate(mounts):
        where = f"{path}.volumeMounts[{index}]"
        yield from required(f"{where}.name", one.get("name"))
        if one.get("name") not in known:
            yield f"{where}.name: Not found: {one.get('name')!r}"
        yield from required(f"{where}.mountPath", one.get("mountPath"))
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
