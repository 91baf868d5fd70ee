"""Rules for Services, NetworkPolicies and Ingresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from planner.deploy.apiserver.syntax import (
    Problems,
    address,
    at,
    at_least,
    dns_label,
    dns_subdomain,
    labels,
    named,
    network,
    one_of,
    port,
    port_number,
    qualified_name,
    required,
    selector,
    unique,
)

Json = Mapping[str, Any]


def service(document: Json) -> Problems:
    """Yield what is wrong with a Service."""
    spec: Json = document.get("spec") or {}
    kind, cluster_ip = spec.get("type") or "ClusterIP", spec.get("clusterIP") or ""
    headless, ports = cluster_ip == "None", spec.get("ports") or []
    yield from one_of("spec.type", kind, "ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
    yield from labels("spec.selector", spec.get("selector"))
    if not ports and not headless and kind != "ExternalName":
        yield "spec.ports: Required value"
    if headless and kind in ("NodePort", "LoadBalancer"):
        yield f"spec.clusterIPs[0]: may not be set to 'None' for {kind} services"
    if cluster_ip not in ("", "None"):
        yield from at("spec.clusterIPs[0]", address(cluster_ip))
    if kind == "ExternalName":
        yield from at("spec.externalName", dns_subdomain((spec.get("externalName") or "").rstrip(".")))
    yield from _typed(spec, kind)
    yield from _session(spec)
    for text in spec.get("externalIPs") or []:
        yield from at("spec.externalIPs", address(text) or _outside(text))
    if (spec.get("clusterIPs") or [cluster_ip])[0] != cluster_ip:
        yield "spec.clusterIPs[0]: must match clusterIP"
    yield from unique("spec.ipFamilies", spec.get("ipFamilies") or [])
    for text in spec.get("loadBalancerSourceRanges") or []:
        yield from at("spec.loadBalancerSourceRanges", network(text))
    for field in ("externalTrafficPolicy", "internalTrafficPolicy"):
        yield from one_of(f"spec.{field}", spec.get(field), "Cluster", "Local")
    families = ("SingleStack", "PreferDualStack", "RequireDualStack")
    yield from one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), *families)
    for family in spec.get("ipFamilies") or []:
        yield from one_of("spec.ipFamilies", family, "IPv4", "IPv6")
    yield from _ports(ports)


def _outside(text: str) -> str:
    """Return what is wrong with an address from outside, which is that of no machine's own loop or link."""
    own = ip_address(text)
    inner = own.is_unspecified or own.is_loopback or own.is_link_local
    return f"{text} may not be unspecified, loopback or link-local" if inner else ""


def _typed(spec: Json, kind: str) -> Problems:
    """Yield fields of a Service that its type does not have."""
    ports = spec.get("ports") or []
    if kind == "ClusterIP":
        for index, one in enumerate(ports):
            if one.get("nodePort"):
                yield f"spec.ports[{index}].nodePort: may not be used when type is 'ClusterIP'"
    if kind != "LoadBalancer":
        for field in ("loadBalancerSourceRanges", "loadBalancerClass", "allocateLoadBalancerNodePorts"):
            if spec.get(field) not in (None, []):
                yield f"spec.{field}: may only be used when type is 'LoadBalancer'"
    outside = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if spec.get("externalTrafficPolicy") and not outside:
        yield "spec.externalTrafficPolicy: may only be set for externally-accessible services"
    if spec.get("healthCheckNodePort") and not (
        kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    ):
        yield "spec.healthCheckNodePort: may only be set for type 'LoadBalancer' and policy 'Local'"
    if kind == "ExternalName" and (spec.get("clusterIP") or spec.get("clusterIPs")):
        yield "spec.clusterIPs: may not be set for ExternalName services"


def _session(spec: Json) -> Problems:
    """Yield what is wrong with where a Service sends the traffic of one client."""
    nearest = ("PreferClose", "PreferSameZone", "PreferSameNode")
    yield from one_of("spec.trafficDistribution", spec.get("trafficDistribution"), *nearest)
    yield from one_of("spec.sessionAffinity", spec.get("sessionAffinity"), "ClientIP", "None")
    config: Json = spec.get("sessionAffinityConfig") or {}
    if config and spec.get("sessionAffinity", "None") != "ClientIP":
        yield "spec.sessionAffinityConfig: must not be set when session affinity is None"
    yield from at_least(
        "spec.sessionAffinityConfig.clientIP", config.get("clientIP") or {}, 1, "timeoutSeconds", most=86400
    )


def _ports(ports: list[Json]) -> Problems:
    yield from unique("spec.ports.name", [one.get("name") for one in ports])
    taken = [(one["nodePort"], one.get("protocol", "TCP")) for one in ports if one.get("nodePort")]
    yield from unique("spec.ports.nodePort", taken)
    yield from unique("spec.ports", [(one.get("port"), one.get("protocol", "TCP")) for one in ports])
    for index, one in enumerate(ports):
        where = f"spec.ports[{index}]"
        if one.get("name"):
            yield from at(f"{where}.name", dns_label(one["name"]))
        elif len(ports) > 1:
            yield f"{where}.name: Required value"
        yield from at(f"{where}.port", port_number(one.get("port", 0)))
        yield from one_of(f"{where}.protocol", one.get("protocol"), "TCP", "UDP", "SCTP")
        target = one.get("targetPort")
        if target not in (None, 0, ""):
            yield from at(f"{where}.targetPort", port(target))
        if not 0 <= one.get("nodePort", 0) <= 65535:
            yield f"{where}.nodePort: must be between 1 and 65535"
        if one.get("appProtocol"):
            yield from at(f"{where}.appProtocol", qualified_name(one["appProtocol"]))


def network_policy(document: Json) -> Problems:
    """Yield what is wrong with a NetworkPolicy."""
    spec: Json = document.get("spec") or {}
    yield from selector("spec.podSelector", spec.get("podSelector"))
    kinds = spec.get("policyTypes") or []
    for kind in kinds:
        if kind not in ("Ingress", "Egress"):
            yield f"spec.policyTypes: Unsupported value {kind!r}"
    if len(kinds) > 2:
        yield "spec.policyTypes: may not specify more than two policyTypes"
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or []):
            where = f"spec.{direction}[{index}]"
            for number, one in enumerate(rule.get("ports") or []):
                yield from _policy_port(one, f"{where}.ports[{number}]")
            for number, one in enumerate(rule.get(side) or []):
                yield from _peer(one, f"{where}.{side}[{number}]")


def _policy_port(one: Json, path: str) -> Problems:
    yield from one_of(f"{path}.protocol", one.get("protocol"), "TCP", "UDP", "SCTP")
    first, last = one.get("port"), one.get("endPort")
    if first is not None:
        yield from at(f"{path}.port", port(first))
    if last is not None and (not isinstance(first, int) or last < first):
        yield f"{path}.endPort: must be at least a numeric port"
    yield from at_least(path, one, 1, "endPort", most=65535)


def _peer(one: Json, path: str) -> Problems:
    if not one:
        yield f"{path}: Required value: must specify a peer"
    yield from selector(f"{path}.podSelector", one.get("podSelector"))
    yield from selector(f"{path}.namespaceSelector", one.get("namespaceSelector"))
    block = one.get("ipBlock")
    if block is not None:
        if len(one) > 1:
            yield f"{path}: may not specify both ipBlock and another peer"
        yield from at(f"{path}.ipBlock.cidr", network(block.get("cidr") or ""))
        for text in block.get("except") or []:
            yield from at(f"{path}.ipBlock.except", network(text) or _inside(text, block.get("cidr") or ""))


def _inside(text: str, whole: str) -> str:
    """Return what is wrong with a network that must be a part of another one, and not all of it."""
    if network(whole):
        return ""
    part, outer = ip_network(text), ip_network(whole)
    inside = part.version == outer.version and part != outer and part.subnet_of(outer)  # type: ignore[arg-type]
    return "" if inside else f"{text} must be a strict subset of {whole}"


def ingress(document: Json) -> Problems:
    """Yield what is wrong with an Ingress."""
    spec: Json = document.get("spec") or {}
    rules, default = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and default is None:
        yield "spec: either defaultBackend or rules must be specified"
    if default is not None:
        yield from _backend(default, "spec.defaultBackend")
    if spec.get("ingressClassName"):
        yield from at("spec.ingressClassName", dns_subdomain(spec["ingressClassName"]))
    for index, rule in enumerate(rules):
        where, host = f"spec.rules[{index}]", rule.get("host") or ""
        if host:
            yield from at(
                f"{where}.host",
                (address(host) == "" and "must be a DNS name") or dns_subdomain(host.removeprefix("*.")),
            )
        paths = (rule.get("http") or {}).get("paths")
        if "http" in rule:
            yield from required(f"{where}.http.paths", paths)
        for number, one in enumerate(paths or []):
            inner, kind = f"{where}.http.paths[{number}]", one.get("pathType")
            yield from required(f"{inner}.pathType", kind)
            yield from one_of(f"{inner}.pathType", kind, "Exact", "Prefix", "ImplementationSpecific")
            if kind in ("Exact", "Prefix") and not (one.get("path") or "").startswith("/"):
                yield f"{inner}.path: must be an absolute path"
            yield from _backend(one.get("backend") or {}, f"{inner}.backend")


def _backend(value: Json, path: str) -> Problems:
    found = [name for name in ("service", "resource") if name in value]
    if len(found) != 1:
        yield f"{path}: exactly one of service and resource is required"
    if "service" in value:
        own, number = value["service"], value["service"].get("port") or {}
        yield from named(f"{path}.service.name", own.get("name"), dns_label)
        if bool(number.get("name")) == bool(number.get("number")):
            yield f"{path}.service.port: either a name or a number is required"


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {
    "/Service": service,
    "networking.k8s.io/NetworkPolicy": network_policy,
    "networking.k8s.io/Ingress": ingress,
}
