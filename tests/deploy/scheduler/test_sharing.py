"""What pods and claims share: ports of a host, namespaces, devices that are tainted, far away or in use."""

from __future__ import annotations

from typing import Any

from planner.deploy.scheduler import Cluster, schedule
from tests.deploy.scheduler.test_decide import CLAIMING, claim, devices, node, pod, reason, topology

Object = dict[str, Any]


def with_port(one: Object, number: int, **more: Any) -> Object:
    one["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": number, **more}]
    return one


def test_a_port_of_the_host_goes_to_one_pod() -> None:
    """The same port and protocol are taken on every address; another port, protocol or address is free."""
    there = with_port(pod("there", bound="n0"), 8080, hostIP="10.0.0.1")
    assert "free ports" in reason(with_port(pod(), 8080), node(), there)
    assert "free ports" in reason(with_port(pod(), 8080, hostIP="10.0.0.1"), node(), there)
    for free in (
        {"number": 8081},
        {"number": 8080, "protocol": "UDP"},
        {"number": 8080, "hostIP": "10.0.0.2"},
    ):
        assert reason(with_port(pod(), **free), node(), there) == ""


def test_gates_hold_a_pod_back() -> None:
    """A pod with a scheduling gate goes nowhere until it is lifted."""
    assert "gates" in reason(pod(schedulingGates=[{"name": "example.org/wait"}]), node())


def test_the_default_scheduler_does_not_look_at_numa() -> None:
    """It sends a pod where the kubelet then turns it away; another scheduler's profile refuses at once."""
    objects = [node(), topology("container", "2", "2")]
    assert not schedule(pod(), Cluster(objects)).scheduled
    assert schedule(pod(), Cluster(objects), kubelet=False).scheduled
    aware = pod(schedulerName="topo-aware-scheduler")
    assert not schedule(aware, Cluster(objects), kubelet=False).scheduled


def apart(**term: Any) -> Object:
    selected = {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}
    return pod(
        affinity={
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{**selected, **term}]}
        }
    )


def test_namespaces_are_chosen_by_their_labels() -> None:
    """A term means pods of the namespaces that its selector picks, by their name label among others."""
    other = pod("other", bound="n0", labels={"app": "a"})
    other["metadata"]["namespace"] = "far"
    far = {"kind": "Namespace", "metadata": {"name": "far", "labels": {"team": "x"}}}
    assert reason(apart(), node(), other, far) == ""
    assert "anti-affinity" in reason(
        apart(namespaceSelector={"matchLabels": {"team": "x"}}), node(), other, far
    )
    assert reason(apart(namespaceSelector={"matchLabels": {"team": "y"}}), node(), other, far) == ""
    by_name = {"matchLabels": {"kubernetes.io/metadata.name": "far"}}
    assert "anti-affinity" in reason(apart(namespaceSelector=by_name), node(), other)


def test_tainted_devices_need_a_toleration() -> None:
    """A device under maintenance is passed over, but by a request that tolerates its taint."""
    slice_ = devices("a", "b")
    slice_["spec"]["devices"][0]["taints"] = [{"key": "example.org/broken", "effect": "NoSchedule"}]
    assert schedule(CLAIMING, Cluster([node(), slice_, claim()])).devices == ("gpu-1",)
    bearing = claim(tolerations=[{"key": "example.org/broken", "operator": "Exists"}])
    assert schedule(CLAIMING, Cluster([node(), slice_, bearing])).devices == ("gpu-0",)


def test_slices_reach_the_nodes_that_they_name() -> None:
    """By a selector of nodes, for everything or device by device."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}
    chosen = {"nodeSelectorTerms": [term]}
    shared = devices("a")
    del shared["spec"]["nodeName"]
    shared["spec"]["nodeSelector"] = chosen
    assert schedule(CLAIMING, Cluster([node("n0"), node("n1"), shared, claim()])).node == "n1"
    each = devices("a", "b")
    del each["spec"]["nodeName"]
    each["spec"]["perDeviceNodeSelection"] = True
    each["spec"]["devices"][0]["nodeName"], each["spec"]["devices"][1]["nodeSelector"] = "n2", chosen
    verdict = schedule(CLAIMING, Cluster([node("n0"), node("n1"), each, claim()]))
    assert (verdict.node, verdict.devices) == ("n1", ("gpu-1",))


def held_claim() -> Object:
    held = claim()
    held["metadata"] = {"name": "held"}
    result = {"driver": "gpu.nvidia.com", "pool": "n0", "device": "gpu-0", "request": "g"}
    held["status"] = {"allocation": {"devices": {"results": [result]}}}
    return held


def test_all_devices_means_all() -> None:
    """A request for all devices is refused while one is in use, unless it only looks on."""
    objects = [node(), devices("a", "b"), held_claim()]
    assert reason(CLAIMING, *objects, claim(allocationMode="All")) == "cannot allocate all claims"
    watching = claim(allocationMode="All", adminAccess=True)
    assert schedule(CLAIMING, Cluster([*objects, watching])).devices == ("gpu-0", "gpu-1")


def test_a_claim_stays_where_its_devices_are() -> None:
    """A claim that is allocated is used on the nodes that its allocation names."""
    held = held_claim()
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    held["status"]["allocation"]["nodeSelector"] = {"nodeSelectorTerms": [term]}
    user = pod(resourceClaims=[{"name": "g", "resourceClaimName": "held"}])
    assert schedule(user, Cluster([node("n0"), node("n1"), held])).node == "n1"
