"""Rules for pods: containers, volumes and everything about where they may run (core ``validation.go``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.deploy.apiserver.amounts import HUGE, quantity_problem, resource_name, resources
from planner.deploy.apiserver.containers import containers, profiles
from planner.deploy.apiserver.neighbours import affinity, spread, tolerations
from planner.deploy.apiserver.syntax import (
    Problems,
    address,
    amount,
    at,
    at_least,
    dns_label,
    dns_subdomain,
    labels,
    named,
    one_of,
    qualified_name,
    required,
    unique,
)
from planner.deploy.apiserver.volumes import volumes

Json = Mapping[str, Any]
LARGEST_ID = 2**31 - 1
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9]")


def pod_spec(
    spec: Json, path: str, *, restarts: tuple[str, ...] = ("Always", "OnFailure", "Never")
) -> Problems:
    """Yield what is wrong with the specification of a pod.

    Parameters
    ----------
    restarts
        Restart policies that the owner of the pod allows.
    """
    yield from volumes(spec.get("volumes") or [], f"{path}.volumes")
    yield from _claims(spec, path)
    yield from containers(spec, path)
    yield from one_of(f"{path}.restartPolicy", spec.get("restartPolicy") or "Always", *restarts)
    yield from _dns(spec, path)
    yield from at_least(path, spec, 0, "terminationGracePeriodSeconds")
    yield from at_least(path, spec, 1, "activeDeadlineSeconds", most=2**31 - 1)
    yield from labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    for field in ("nodeName", "serviceAccountName", "priorityClassName", "runtimeClassName"):
        if spec.get(field):
            yield from at(f"{path}.{field}", dns_subdomain(spec[field]))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            yield from at(f"{path}.{field}", dns_label(spec[field]))
    yield from one_of(
        f"{path}.preemptionPolicy", spec.get("preemptionPolicy"), "Never", "PreemptLowerPriority"
    )
    yield from one_of(f"{path}.os.name", (spec.get("os") or {}).get("name"), "linux", "windows")
    yield from _security(spec, path)
    yield from affinity(spec.get("affinity") or {}, f"{path}.affinity")
    yield from tolerations(spec.get("tolerations") or [], f"{path}.tolerations")
    yield from spread(spec.get("topologySpreadConstraints") or [], f"{path}.topologySpreadConstraints")
    yield from _lists(spec, path)
    yield from _host(spec, path)
    yield from _amounts(spec, path)


def _claims(spec: Json, path: str) -> Problems:
    claims = spec.get("resourceClaims") or []
    yield from unique(f"{path}.resourceClaims", [one.get("name") for one in claims])
    for index, one in enumerate(claims):
        where = f"{path}.resourceClaims[{index}]"
        yield from named(f"{where}.name", one.get("name"), dns_label)
        sources = [one[field] for field in ("resourceClaimName", "resourceClaimTemplateName") if field in one]
        if len(sources) != 1:
            yield f"{where}: must specify exactly one of resourceClaimName and resourceClaimTemplateName"
        for name in sources:
            yield from at(where, dns_subdomain(name))
    group = (spec.get("schedulingGroup") or {}).get("podGroupName")
    if group is not None:
        yield from at(f"{path}.schedulingGroup.podGroupName", dns_subdomain(group))


def _dns(spec: Json, path: str) -> Problems:
    policy = spec.get("dnsPolicy")
    yield from one_of(
        f"{path}.dnsPolicy", policy, "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"
    )
    servers = (spec.get("dnsConfig") or {}).get("nameservers") or []
    searches = (spec.get("dnsConfig") or {}).get("searches") or []
    if len(searches) > 32:
        yield f"{path}.dnsConfig.searches: must not have more than 32"
    for one in searches:
        plain = one.rstrip(".").replace("_", "a")
        yield from at(f"{path}.dnsConfig.searches", dns_subdomain(plain) if one != "." else "")
    for index, one in enumerate((spec.get("dnsConfig") or {}).get("options") or []):
        yield from required(f"{path}.dnsConfig.options[{index}].name", one.get("name"))
    if policy == "None" and not servers:
        yield f"{path}.dnsConfig.nameservers: must provide at least one where dnsPolicy is None"
    if len(servers) > 3:
        yield f"{path}.dnsConfig.nameservers: must not have more than 3"
    for one in servers:
        yield from at(f"{path}.dnsConfig.nameservers", address(one))
    for index, alias in enumerate(spec.get("hostAliases") or []):
        yield from at(f"{path}.hostAliases[{index}].ip", address(alias.get("ip") or ""))
        for name in alias.get("hostnames") or []:
            yield from at(f"{path}.hostAliases[{index}].hostnames", dns_subdomain(name))


def _security(spec: Json, path: str) -> Problems:
    context: Json = spec.get("securityContext") or {}
    where = f"{path}.securityContext"
    yield from at_least(where, context, 0, "runAsUser", "runAsGroup", "fsGroup", most=LARGEST_ID)
    for number in context.get("supplementalGroups") or []:
        if not 0 <= number <= LARGEST_ID:
            yield f"{where}.supplementalGroups: {number} must be between 0 and {LARGEST_ID}"
    yield from one_of(
        f"{where}.fsGroupChangePolicy", context.get("fsGroupChangePolicy"), "OnRootMismatch", "Always"
    )
    yield from one_of(
        f"{where}.supplementalGroupsPolicy", context.get("supplementalGroupsPolicy"), "Merge", "Strict"
    )
    yield from profiles(context, where)
    sysctls = context.get("sysctls") or []
    yield from unique(f"{where}.sysctls", [one.get("name") for one in sysctls])
    for index, one in enumerate(sysctls):
        yield from named(f"{where}.sysctls[{index}].name", one.get("name"), _sysctl)


def _sysctl(name: str) -> str:
    return "" if _SYSCTL.fullmatch(name) and len(name) <= 253 else f"{name!r} names no kernel parameter"


def _host(spec: Json, path: str) -> Problems:
    """Yield namespaces of the host that exclude one another."""
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        yield f"{path}.shareProcessNamespace: ShareProcessNamespace and HostPID cannot both be enabled"
    if spec.get("hostUsers") is False:
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield f"{path}.{field}: Forbidden: when hostUsers is false"
        return
    for field in ("containers", "initContainers"):
        for index, one in enumerate(spec.get(field) or []):
            if (one.get("securityContext") or {}).get("procMount") == "Unmasked":
                where = f"{path}.{field}[{index}].securityContext.procMount"
                yield f"{where}: `hostUsers` must be false to use `Unmasked`"


def _amounts(spec: Json, path: str) -> Problems:
    """Yield what is wrong with the resources of a pod as a whole."""
    whole: Json = spec.get("resources") or {}
    where = f"{path}.resources"
    if whole.get("claims"):
        yield f"{where}.claims: Forbidden: claims may not be specified for a pod as a whole"
    for word in ("limits", "requests"):
        for name in whole.get(word) or {}:
            if name not in ("cpu", "memory") and not name.startswith(HUGE):
                yield f"{where}.{word}: {name!r} is not supported for a pod as a whole"
    yield from resources({key: value for key, value in whole.items() if key != "claims"}, [], where)
    for name, value in (spec.get("overhead") or {}).items():
        yield from at(f"{path}.overhead[{name}]", resource_name(name) or quantity_problem(name, value))
    for name, limit in (whole.get("requests") or {}).items():
        asked = [
            amount(one["resources"]["requests"][name]) or 0
            for one in spec.get("containers") or []
            if name in ((one.get("resources") or {}).get("requests") or {})
        ]
        if sum(asked) > (amount(limit) or 0):
            yield f"{where}.requests[{name}]: must be at least what its containers request together"


def _lists(spec: Json, path: str) -> Problems:
    for index, gate in enumerate(spec.get("readinessGates") or []):
        yield from at(f"{path}.readinessGates[{index}]", qualified_name(gate.get("conditionType") or ""))
    gates = [gate.get("name") or "" for gate in spec.get("schedulingGates") or []]
    yield from unique(f"{path}.schedulingGates", gates)
    for name in gates:
        yield from at(f"{path}.schedulingGates", qualified_name(name))
    if gates and spec.get("nodeName"):
        yield f"{path}.nodeName: cannot be set until all schedulingGates are cleared"
