"""Rules of the API server, by the field that breaks them; each beside a document that keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from planner.deploy.apiserver import problems_of
from tests.deploy.apiserver.documents import claim, container, deployment, of, pod

VOLUME = {"name": "a", "emptyDir": {}}
MOUNT = {"name": "a", "mountPath": "/a"}
SLEEP = {"preStop": {"sleep": {"seconds": 60}}}
RULE = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}


def mounted(**fields: Any) -> Any:
    found = container(volumeMounts=[{**MOUNT, **fields}])
    found["spec"]["volumes"] = [VOLUME]
    return found


def job(**spec: Any) -> Any:
    inner = {"spec": {**pod()["spec"], "restartPolicy": "Never"}}
    return of("Job", "batch/v1", {"template": inner, **spec})


def stateful(**spec: Any) -> Any:
    return {**deployment(**spec), "kind": "StatefulSet"}


def daemon(**rolling: Any) -> Any:
    return {**deployment(updateStrategy={"rollingUpdate": rolling}), "kind": "DaemonSet"}


def service(**spec: Any) -> Any:
    return of("Service", "v1", {"ports": [{"port": 80}], **spec})


def spread(**fields: Any) -> Any:
    one = {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", **fields}
    return pod(topologySpreadConstraints=[one])


def variable(**source: Any) -> Any:
    return container(env=[{"name": "A", "valueFrom": source}])


def downward(**item: Any) -> Any:
    return pod(volumes=[{"name": "a", "downwardAPI": {"items": [{"path": "x", **item}]}}])


def preferred(*values: str, operator: str = "In") -> Any:
    term = {"matchExpressions": [{"key": "a", "operator": operator, "values": list(values)}]}
    weighed = [{"weight": 1, "preference": term}]
    return pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighed}})


def device(**body: Any) -> Any:
    spec = {
        "driver": "gpu.example.org",
        "nodeName": "n",
        "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "d", **body}],
    }
    return of("ResourceSlice", "resource.k8s.io/v1", spec)


PAIRS: dict[str, tuple[Any, Any]] = {
    "sleep beyond grace": (container(lifecycle=SLEEP), pod(terminationGracePeriodSeconds=60)),
    "restart policy": (container(restartPolicy="Sometimes"), container(restartPolicy="Never")),
    "resize policy": (
        container(resizePolicy=[{"resourceName": "disk", "restartPolicy": "NotRequired"}]),
        container(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
    ),
    "two sub paths": (mounted(subPath="a", subPathExpr="b"), mounted(subPath="a")),
    "propagation": (mounted(mountPropagation="Bidirectional"), mounted(mountPropagation="HostToContainer")),
    "recursive": (mounted(recursiveReadOnly="Enabled"), mounted(recursiveReadOnly="Enabled", readOnly=True)),
    "block device": (container(volumeDevices=[{"name": "a", "devicePath": "/dev/a"}]), container()),
    "header": (
        container(livenessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}}),
        container(livenessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "A-b", "value": ""}]}}),
    ),
    "amount of": (
        variable(resourceFieldRef={"resource": "limits.disk"}),
        variable(resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"}),
    ),
    "divisor": (
        variable(resourceFieldRef={"resource": "limits.cpu", "divisor": "1Mi"}),
        variable(resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}),
    ),
    "key without a map": (
        variable(configMapKeyRef={"key": "a"}),
        variable(configMapKeyRef={"key": "a", "name": "b"}),
    ),
    "field of the pod": (
        downward(fieldRef={"fieldPath": "spec.nodeName"}, resourceFieldRef={"resource": "limits.cpu"}),
        downward(fieldRef={"fieldPath": "metadata.labels"}),
    ),
    "ephemeral claim": (
        pod(volumes=[{"name": "a", "ephemeral": {}}]),
        pod(volumes=[{"name": "a", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]),
    ),
    "relative share": (
        pod(volumes=[{"name": "a", "nfs": {"server": "s", "path": "p"}}]),
        pod(volumes=[{"name": "a", "nfs": {"server": "s", "path": "/p"}}]),
    ),
    "users and the network": (pod(hostUsers=False, hostNetwork=True), pod(hostUsers=False)),
    "shared processes": (
        pod(shareProcessNamespace=True, hostPID=True),
        pod(shareProcessNamespace=True),
    ),
    "pod resources": (
        pod(resources={"limits": {"nvidia.com/gpu": "1"}}),
        pod(resources={"limits": {"cpu": "1"}}),
    ),
    "keys twice": (
        spread(labelSelector={"matchLabels": {"k": "v"}}, matchLabelKeys=["k"]),
        spread(labelSelector={"matchLabels": {"k": "v"}}, matchLabelKeys=["l"]),
    ),
    "keys without a selector": (spread(matchLabelKeys=["k"]), spread()),
    "two values to compare": (preferred("1", "2", operator="Gt"), preferred("1", operator="Gt")),
    "claims of a set": (
        stateful(volumeClaimTemplates=[{"metadata": {"name": "a"}, "spec": {}}]),
        stateful(volumeClaimTemplates=[{"metadata": {"name": "a"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]),
    ),
    "service name": (stateful(serviceName="Not_A_Label"), stateful(serviceName="one")),
    "on delete": (
        stateful(updateStrategy={"type": "OnDelete", "rollingUpdate": {}}),
        stateful(updateStrategy={"type": "OnDelete"}),
    ),
    "surge of daemons": (daemon(maxSurge=1), daemon(maxSurge=1, maxUnavailable=0)),
    "no daemon moves": (daemon(maxUnavailable=0), daemon(maxUnavailable=1)),
    "long index": (
        {**job(completionMode="Indexed", completions=1000), "metadata": {"name": "a" * 60}},
        {**job(completionMode="Indexed", completions=10), "metadata": {"name": "a" * 60}},
    ),
    "failed indexes": (
        job(completionMode="Indexed", completions=1, maxFailedIndexes=1),
        job(completionMode="Indexed", completions=1, maxFailedIndexes=1, backoffLimitPerIndex=1),
    ),
    "exit codes": (
        job(podFailurePolicy={"rules": [{**RULE, "onExitCodes": {"operator": "In", "values": [0]}}]}),
        job(podFailurePolicy={"rules": [RULE]}),
    ),
    "node port": (
        service(ports=[{"port": 80, "nodePort": 30080}]),
        service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
    ),
    "traffic from outside": (
        service(externalTrafficPolicy="Local"),
        service(type="LoadBalancer", externalTrafficPolicy="Local"),
    ),
    "session": (
        service(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10}}),
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10}}),
    ),
    "except": (
        of("NetworkPolicy", "networking.k8s.io/v1", {"ingress": [{"from": [{"ipBlock": {
            "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}),
        of("NetworkPolicy", "networking.k8s.io/v1", {"ingress": [{"from": [{"ipBlock": {
            "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}),
    ),
    "keys of TLS": (
        of("Secret", "v1", type="kubernetes.io/tls", data={"tls.crt": ""}),
        of("Secret", "v1", type="kubernetes.io/tls", data={"tls.crt": "", "tls.key": ""}),
    ),
    "half a pod": (
        of("ResourceQuota", "v1", {"hard": {"pods": "1.5"}}),
        of("ResourceQuota", "v1", {"hard": {"pods": "2", "cpu": "1.5"}}),
    ),
    "capacity": (
        claim(capacity={"requests": {"memory": "-1Gi"}}),
        claim(capacity={"requests": {"memory": "1Gi"}}),
    ),
    "toleration of a device": (
        claim(tolerations=[{"operator": "Equal", "value": "a"}]),
        claim(tolerations=[{"operator": "Exists"}]),
    ),
    "two values": (
        device(attributes={"a": {"int": 1, "string": "b"}}),
        device(attributes={"a": {"int": 1}}),
    ),
    "version": (
        device(attributes={"a": {"version": "1.2"}}),
        device(attributes={"a": {"version": "1.2.0"}}),
    ),
    "attribute name": (device(attributes={"a-b": {"int": 1}}), device(attributes={"x.org/ab": {"int": 1}})),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_rule_refuses_what_breaks_it_and_nothing_else(name: str) -> None:
    """Of two documents that differ in one field, one is refused and the other taken."""
    wrong, right = PAIRS[name]
    assert problems_of(right) == []
    assert problems_of(wrong) != []


def test_a_preference_may_name_any_value() -> None:
    """Values that no label can have are refused where a term is required, and taken where it is preferred."""
    required = {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}]
    }
    strict = pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})
    assert problems_of(preferred("b c")) == [] and problems_of(strict) != []
