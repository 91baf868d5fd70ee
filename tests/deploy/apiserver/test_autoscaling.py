"""Rules for autoscalers, Jobs, schedules and Services: what breaks each, beside what keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from planner.deploy.apiserver import problems_of
from tests.deploy.apiserver.documents import container, of, pod


def scaler(**spec: Any) -> Any:
    whole = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"}, **spec}
    return of("HorizontalPodAutoscaler", "autoscaling/v2", whole)


def measured(kind: str, target: Any, **source: Any) -> Any:
    field = kind[0].lower() + kind[1:]
    return scaler(metrics=[{"type": kind, field: {**source, "target": target}}])


def speed(**rules: Any) -> Any:
    return scaler(behavior={"scaleUp": rules})


def policy(**fields: Any) -> Any:
    return speed(policies=[{"type": "Pods", "value": 1, "periodSeconds": 60, **fields}])


def indexed(**spec: Any) -> Any:
    inner = {"spec": {**pod()["spec"], "restartPolicy": "Never"}}
    whole = {"template": inner, "completionMode": "Indexed", "completions": 4, **spec}
    return of("Job", "batch/v1", whole)


def succeeds(**rule: Any) -> Any:
    return indexed(successPolicy={"rules": [rule]})


def cron(schedule: str, **spec: Any) -> Any:
    whole = {"schedule": schedule, "jobTemplate": {"spec": indexed()["spec"]}, **spec}
    return of("CronJob", "batch/v1", whole)


def service(**spec: Any) -> Any:
    return of("Service", "v1", {"ports": [{"port": 80}], **spec})


def node_ports(first: int, second: int) -> Any:
    ports = [{"name": "a", "port": 1, "nodePort": first}, {"name": "b", "port": 2, "nodePort": second}]
    return service(type="NodePort", ports=ports)


def open_to(**port: Any) -> Any:
    return of("NetworkPolicy", "networking.k8s.io/v1", {"podSelector": {}, "egress": [{"ports": [port]}]})


def sysctl(name: str) -> Any:
    return pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})


def unmasked(**spec: Any) -> Any:
    found = container(securityContext={"procMount": "Unmasked"})
    found["spec"] |= spec
    return found


def restarts(**rule: Any) -> Any:
    return container(restartPolicy="Never", restartPolicyRules=[rule])


def fails(*codes: int, times: int = 1) -> Any:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(codes)}}
    return indexed(podFailurePolicy={"rules": [rule] * times})


def projected(first: str, second: str) -> Any:
    sources = [
        {"configMap": {"name": "a", "items": [{"key": "k", "path": first}]}},
        {"secret": {"name": "b", "items": [{"key": "k", "path": second}]}},
    ]
    return pod(volumes=[{"name": "a", "projected": {"sources": sources}}])


def quota(name: str) -> Any:
    return of("ResourceQuota", "v1", {"hard": {name: "1"}})


HALF = {"type": "Utilization", "averageUtilization": 50}
MEAN = {"type": "AverageValue", "averageValue": "1"}
CODES = {"operator": "In", "values": [1]}
CPU = measured("Resource", HALF, name="cpu")
PAIRS: dict[str, tuple[Any, Any]] = {
    "target of nothing": (measured("Resource", {"type": "Utilization"}, name="cpu"), CPU),
    "target of zero": (measured("Resource", {**HALF, "averageUtilization": 0}, name="cpu"), CPU),
    "two targets": (measured("Resource", {**HALF, "averageValue": "1"}, name="cpu"), CPU),
    "type of target": (measured("Resource", {**HALF, "type": "Half"}, name="cpu"), CPU),
    "name of resource": (measured("Resource", HALF), CPU),
    "container": (
        measured("ContainerResource", HALF, name="cpu"),
        measured("ContainerResource", HALF, name="cpu", container="main"),
    ),
    "mean of pods": (
        measured("Pods", {"type": "Value", "value": "1"}, metric={"name": "a"}),
        measured("Pods", MEAN, metric={"name": "a"}),
    ),
    "name of metric": (measured("Pods", MEAN, metric={}), measured("Pods", MEAN, metric={"name": "a"})),
    "described object": (
        measured("Object", MEAN, metric={"name": "a"}, describedObject={"kind": "Service"}),
        measured("Object", MEAN, metric={"name": "a"}, describedObject={"kind": "Service", "name": "b"}),
    ),
    "another source": (
        scaler(metrics=[{"type": "Resource", "resource": {"name": "cpu", "target": HALF}, "external": {}}]),
        CPU,
    ),
    "window": (speed(stabilizationWindowSeconds=3601), speed(stabilizationWindowSeconds=3600)),
    "choice of policy": (speed(selectPolicy="Most"), speed(selectPolicy="Max")),
    "type of policy": (policy(type="Nodes"), policy(type="Percent")),
    "value of policy": (policy(value=0), policy()),
    "period of policy": (policy(periodSeconds=1801), policy(periodSeconds=1800)),
    "indexed parallelism": (indexed(parallelism=100_001), indexed(parallelism=100_000)),
    "failed indexes": (
        indexed(backoffLimitPerIndex=1, maxFailedIndexes=5),
        indexed(backoffLimitPerIndex=1, maxFailedIndexes=4),
    ),
    "success of nothing": (succeeds(), succeeds(succeededCount=4)),
    "success of too many": (succeeds(succeededCount=5), succeeds(succeededCount=1)),
    "success of fewer": (
        succeeds(succeededIndexes="0,2", succeededCount=3),
        succeeds(succeededIndexes="0,2", succeededCount=2),
    ),
    "indexes descend": (succeeds(succeededIndexes="3-1"), succeeds(succeededIndexes="1-3")),
    "index beyond": (succeeds(succeededIndexes="0,4"), succeeds(succeededIndexes="0,3")),
    "manager": (indexed(managedBy="mine"), indexed(managedBy="example.org/mine")),
    "rules of failure": (fails(1, times=21), fails(1, times=20)),
    "codes of failure": (fails(*range(1, 257)), fails(*range(1, 256))),
    "minute": (cron("60 0 * * *"), cron("59 0 * * *")),
    "day of the week": (cron("0 0 * * 7"), cron("0 0 * * sun")),
    "range of hours": (cron("0 5-3 * * *"), cron("0 3-5/2 * * *")),
    "step": (cron("*/0 * * * *"), cron("*/5 * * * *")),
    "time zone": (cron("0 0 * * *", timeZone="Local"), cron("0 0 * * *", timeZone="Etc/UTC")),
    "port of node": (node_ports(30000, 30000), node_ports(30000, 30001)),
    "address twice": (
        service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.2"]),
        service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"]),
    ),
    "family": (service(ipFamilies=["IPv4", "IPv4"]), service(ipFamilies=["IPv4", "IPv6"])),
    "loopback": (service(externalIPs=["127.0.0.1"]), service(externalIPs=["192.0.2.1"])),
    "end port": (open_to(port=80, endPort=65536), open_to(port=80, endPort=65535)),
    "kernel parameter": (sysctl("net core"), sysctl("net.core.somaxconn")),
    "rule of restart": (
        restarts(action="Stop", exitCodes=CODES),
        restarts(action="Restart", exitCodes=CODES),
    ),
    "file twice": (projected("p", "p"), projected("p", "q")),
    "name of quota": (quota("disks"), quota("requests.nvidia.com/gpu")),
    "no policies": (speed(policies=[]), speed(selectPolicy="Max")),
    "bare proc": (unmasked(), unmasked(hostUsers=False)),
    "failures of many indexes": (
        indexed(completions=100_001, backoffLimitPerIndex=1),
        indexed(completions=100_001, backoffLimitPerIndex=1, maxFailedIndexes=10_000),
    ),
    "too many failures": (
        indexed(completions=100_001, backoffLimitPerIndex=1, maxFailedIndexes=10_001),
        indexed(completions=100_000, backoffLimitPerIndex=1, maxFailedIndexes=10_001),
    ),
    "codes of restart": (restarts(action="Restart"), restarts(action="Restart", exitCodes=CODES)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_rule_refuses_what_breaks_it_and_nothing_else(name: str) -> None:
    """Of two documents that differ in one value, one is refused and the other taken."""
    wrong, right = PAIRS[name]
    assert problems_of(right) == []
    assert problems_of(wrong) != []


def test_many_pods_at_once_are_no_fault_of_a_plain_job() -> None:
    """The limit of parallelism is one of indexed Jobs alone."""
    plain = indexed(parallelism=100_001, completionMode="NonIndexed")
    assert problems_of(plain) == []
