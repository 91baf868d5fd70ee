"""Rules of the API server, one refusal each; the same document without the mistake is taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.deploy.apiserver import problems_of
from planner.deploy.apiserver.metadata import metadata
from planner.deploy.apiserver.syntax import dns_label, label_value, port_name, qualified_name
from tests.deploy.apiserver.documents import claim, container, deployment, of, pod

HTTP = {"httpGet": {"path": "/", "port": 80}}
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
GOOD: dict[str, Any] = {
    "pod": pod(),
    "probe": container(livenessProbe=HTTP),
    "deployment": deployment(),
    "claim": claim(),
    "service": of("Service", "v1", {"ports": [{"port": 80}]}),
    "headless": of("Service", "v1", {"clusterIP": "None"}),
    "policy": of("NetworkPolicy", "networking.k8s.io/v1", {"ingress": [{"from": [{"podSelector": {}}]}]}),
    "budget": of("PodDisruptionBudget", "policy/v1", {"minAvailable": "50%"}),
    "job": of("Job", "batch/v1", {"template": {"spec": {**pod()["spec"], "restartPolicy": "Never"}}}),
    "role": of("Role", "rbac.authorization.k8s.io/v1", rules=[RULE]),
    "map": of("ConfigMap", "v1", data={"a.txt": "text"}),
    "selector": claim(selectors=[{"cel": {"expression": 'device.attributes["a.example"].b == "c"'}}]),
}
BAD: dict[str, tuple[Any, str]] = {
    "no containers": (pod(containers=[]), "containers: Required"),
    "container name": (container(name="Bad_Name"), "RFC 1123"),
    "no image": (container(image=""), "image: Required"),
    "pull policy": (container(imagePullPolicy="Sometimes"), "Unsupported"),
    "port number": (container(ports=[{"containerPort": 70000}]), "at most 65535"),
    "port name": (container(ports=[{"containerPort": 80, "name": "Upper"}]), "port name"),
    "two handlers": (container(livenessProbe={**HTTP, "grpc": {"port": 80}}), "one handler"),
    "no handler": (container(livenessProbe={"periodSeconds": 3}), "handler type"),
    "liveness twice": (container(livenessProbe={**HTTP, "successThreshold": 2}), "must be 1"),
    "missing volume": (container(volumeMounts=[{"name": "a", "mountPath": "/a"}]), "Not found"),
    "request over limit": (
        container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}),
        "less than or equal",
    ),
    "half a GPU": (container(resources={"limits": {"nvidia.com/gpu": "1.5"}}), "integer"),
    "GPU request alone": (container(resources={"requests": {"nvidia.com/gpu": "1"}}), "Limit must be set"),
    "unqualified resource": (container(resources={"limits": {"gpu": "1"}}), "standard resource"),
    "unknown claim": (container(resources={"claims": [{"name": "gpus"}]}), "Not found"),
    "open escalation": (
        container(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
        "contradicts",
    ),
    "two volume sources": (
        pod(volumes=[{"name": "a", "emptyDir": {}, "configMap": {"name": "b"}}]),
        "more than 1 volume type",
    ),
    "empty terms": (
        pod(
            affinity={
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
            }
        ),
        "at least one",
    ),
    "toleration": (pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), "must be empty"),
    "skew": (
        pod(
            topologySpreadConstraints=[
                {"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        ),
        "greater than zero",
    ),
    "selector and labels": (deployment(selector={"matchLabels": {"app": "two"}}), "does not match"),
    "empty selector": (deployment(selector={}), "empty selector"),
    "negative replicas": (deployment(replicas=-1), "at least 0"),
    "recreate rolling": (deployment(strategy={"type": "Recreate", "rollingUpdate": {}}), "Forbidden"),
    "no room to roll": (
        deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        "may not be 0",
    ),
    "job restarts": (of("Job", "batch/v1", {"template": {"spec": pod()["spec"]}}), "restartPolicy"),
    "service port": (of("Service", "v1", {"ports": [{"port": 0}]}), "between 1 and 65535"),
    "service without ports": (of("Service", "v1", {}), "ports: Required"),
    "two unnamed ports": (of("Service", "v1", {"ports": [{"port": 1}, {"port": 2}]}), "name: Required"),
    "empty peer": (of("NetworkPolicy", "networking.k8s.io/v1", {"ingress": [{"from": [{}]}]}), "a peer"),
    "both budgets": (
        of("PodDisruptionBudget", "policy/v1", {"minAvailable": 1, "maxUnavailable": 1}),
        "both set",
    ),
    "more than all": (of("PodDisruptionBudget", "policy/v1", {"minAvailable": "150%"}), "100%"),
    "no verbs": (of("Role", "rbac.authorization.k8s.io/v1", rules=[{**RULE, "verbs": []}]), "verbs"),
    "file key": (of("ConfigMap", "v1", data={"a/b": "text"}), "a key has only"),
    "claim without class": (claim(deviceClassName=""), "deviceClassName"),
    "claim mode": (claim(allocationMode="Some"), "Unsupported"),
    "claim of no bool": (claim(selectors=[{"cel": {"expression": "1 + 1"}}]), "bool"),
    "claim syntax": (claim(selectors=[{"cel": {"expression": "device.attributes["}}]), "compilation failed"),
    "claim field": (claim(selectors=[{"cel": {"expression": "device.nosuch == 1"}}]), "undefined field"),
    "high priority": (of("PriorityClass", "scheduling.k8s.io/v1", value=2 * 10**9), "maximum allowed"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_taken(name: str) -> None:
    """A small correct document has no problem."""
    assert problems_of(GOOD[name]) == [] and list(metadata(GOOD[name])) == []


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_with_its_reason(name: str) -> None:
    """One mistake gives a problem that names it."""
    document, words = BAD[name]
    assert any(words in problem for problem in problems_of(document)), problems_of(document)


@given(st.text(max_size=70))
def test_words_are_judged_whatever_they_are(text: str) -> None:
    """No text makes a rule of names fail, and nothing but ASCII is a name."""
    for rule in (dns_label, label_value, port_name, qualified_name):
        assert isinstance(rule(text), str)
        if not text.isascii():
            assert rule(text)
