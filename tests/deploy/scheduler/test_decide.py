from pathlib import Path
from typing import Any

import pytest

from benchmarks.scheduler_agreement import run
from planner.deploy.scheduler import Cluster, schedule
from planner.deploy.scheduler.quantities import quantity
from planner.deploy.scheduler.requests import pod_requests, quality
from planner.errors import UnitError

Object = dict[str, Any]


def node(name: str = "n0", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    room = {"cpu": "16", "memory": "64Gi", "pods": "10", "nvidia.com/gpu": "4"}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
    return {"kind": "Node", "metadata": metadata, "spec": spec, "status": {"allocatable": room}}


def pod(
    name: str = "p", bound: str | None = None, labels: dict[str, str] | None = None, **spec: Any
) -> Object:
    container = {
        "name": "c",
        "resources": {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
    }
    body = {"containers": [container], **spec} | ({"nodeName": bound} if bound else {})
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": body}


def reason(one: Object, *objects: Object) -> str:
    """Return the only reason of a refusal, empty for a pod that is scheduled."""
    verdict = schedule(one, Cluster(objects))
    return "" if verdict.scheduled else ", ".join(sorted(verdict.reasons))


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "1/2"), ("2", "2"), ("64Gi", str(64 * 2**30)), ("1e3", "1000"), ("0.5k", "500")],
)
def test_quantities_are_exact(text: str, value: str) -> None:
    """Thousandths, binary and decimal suffixes, exponents."""
    assert str(quantity(text)) == value


@pytest.mark.parametrize("text", ["", "64 Gi", "5x", "1ee3", "1Kii", "--1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """With the forms that are known."""
    with pytest.raises(UnitError, match="64Gi"):
        quantity(text)


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [("In", ["b", "c"], True), ("In", ["a"], False), ("NotIn", ["a"], True), ("Exists", [], True),
     ("DoesNotExist", [], False), ("Gt", ["3"], False), ("Lt", ["3"], False)],
)  # fmt: skip
def test_required_affinity_selects_by_operator(operator: str, values: list[str], fits: bool) -> None:
    """The label is ``b``, which is no number, so that order matches nothing."""
    term = {"matchExpressions": [{"key": "kind", "operator": operator, "values": values}]}
    affinity: Object = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    assert (reason(pod(affinity=affinity), node(labels={"kind": "b"})) == "") is fits


def test_an_empty_term_matches_no_node() -> None:
    """Unlike an empty label selector."""
    affinity: Object = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}
    }
    assert "affinity/selector" in reason(pod(affinity=affinity), node())


def test_taints_need_a_toleration_of_their_key_value_and_effect() -> None:
    """A toleration without a key covers all, one with another value does not."""
    tainted = node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert "taint" in reason(pod(), tainted)
    assert "taint" in reason(pod(tolerations=[{"key": "gpu", "value": "no"}]), tainted)
    assert reason(pod(tolerations=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]), tainted) == ""
    assert reason(pod(tolerations=[{"operator": "Exists"}]), tainted) == ""


def test_bound_pods_take_their_share() -> None:
    """Sixteen cores hold four pods of four; the fifth names what is short."""
    bound = [pod(f"b{i}", "n0") for i in range(4)]
    assert reason(pod(), node(), *bound[:3]) == ""
    assert reason(pod(), node(), *bound) == "Insufficient cpu"


def test_peak_of_init_containers_and_sidecars() -> None:
    """A sidecar runs beside the containers; an init container alone, with the sidecars started before it."""

    def container(cpu: str, **more: str) -> Object:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [container("1", restartPolicy="Always"), container("9")],
        "containers": [container("2"), container("3")],
        "overhead": {"cpu": "250m"},
    }
    assert pod_requests(spec)["cpu"] == quantity("10.25")


def test_quality_of_service() -> None:
    """Guaranteed when each container's limits are its requests; what the server noted counts first."""
    one = pod()
    assert quality(one) == "Guaranteed"
    one["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "8"
    assert quality(one) == "Burstable"
    assert quality(one | {"status": {"qosClass": "Guaranteed"}}) == "Guaranteed"
    assert quality({"spec": {"containers": [{"name": "c"}]}}) == "BestEffort"


def topology(scope: str, *cores: str) -> Object:
    memory = {"name": "memory", "available": "64Gi"}
    zones = [
        {"name": f"node-{i}", "type": "Node", "resources": [{"name": "cpu", "available": one}, memory]}
        for i, one in enumerate(cores)
    ]
    attributes = [
        {"name": "topologyManagerPolicy", "value": "single-numa-node"},
        {"name": "topologyManagerScope", "value": scope},
    ]
    return {
        "kind": "NodeResourceTopology",
        "metadata": {"name": "n0"},
        "attributes": attributes,
        "zones": zones,
    }


def test_numa_alignment_by_scope() -> None:
    """Two containers of 4 cores: one zone of 8 for the pod, two zones of 4 for containers."""
    one = pod()
    one["spec"]["containers"].append(one["spec"]["containers"][0] | {"name": "d"})
    assert reason(one, node(), topology("pod", "8", "4")) == ""
    assert reason(one, node(), topology("pod", "6", "4")) == "cannot align pod"
    assert reason(one, node(), topology("container", "4", "4")) == ""
    assert reason(one, node(), topology("container", "6", "3")) == "cannot align container"


SELECTOR = {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "leaf"}


def between(kind: str) -> Object:
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [SELECTOR]}}}


def test_affinity_between_pods_is_by_domain() -> None:
    """On the same leaf as a pod of the app, or the first of its own kind anywhere."""
    nodes = [node("n0", {"leaf": "x"}), node("n1", {"leaf": "y"})]
    other = pod("b", "n1", {"app": "a"})
    near, first = pod(**between("podAffinity")), pod(labels={"app": "a"}, **between("podAffinity"))
    assert schedule(near, Cluster([*nodes, other])).node == "n1"
    assert reason(near, *nodes) == "node(s) didn't match pod affinity rules"
    assert schedule(first, Cluster(nodes)).node == "n0"


def test_anti_affinity_holds_both_ways() -> None:
    """A pod keeps off the leaf of another, and a bound pod keeps others off its own."""
    nodes = [node("n0", {"leaf": "x"}), node("n1", {"leaf": "y"})]
    shy = between("podAntiAffinity")
    assert schedule(pod(**shy), Cluster([*nodes, pod("b", "n0", {"app": "a"})])).node == "n1"
    bound = pod("b", "n0", **shy)
    assert schedule(pod(labels={"app": "a"}), Cluster([*nodes, bound])).node == "n1"


def test_spread_counts_domains_without_pods() -> None:
    """Two on leaf x and none on leaf y: a third on x would be three apart."""
    nodes = [node("n0", {"leaf": "x"}), node("n1", {"leaf": "y"})]
    bound = [pod(f"b{i}", "n0", {"app": "a"}) for i in range(2)]
    rule = {**SELECTOR, "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
    one = pod(labels={"app": "a"}, topologySpreadConstraints=[rule])
    assert schedule(one, Cluster([*nodes, *bound])).node == "n1"


def claim(**exactly: Any) -> Object:
    request = {"name": "g", "exactly": {"deviceClassName": "gpu.nvidia.com", **exactly}}
    return {"kind": "ResourceClaim", "metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}}


def devices(*roots: str) -> Object:
    entries = [
        {
            "name": f"gpu-{i}",
            "attributes": {"type": {"string": "gpu"}, "root": {"string": root}, "index": {"int": i}},
        }
        for i, root in enumerate(roots)
    ]
    pool = {"name": "n0", "generation": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": "n0", "pool": pool, "devices": entries}
    return {"kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec}


CLAIMING = pod(resourceClaims=[{"name": "g", "resourceClaimName": "c"}])


def test_devices_that_share_an_attribute_are_found() -> None:
    """The first two of one root, though the first device has another."""
    wanted = claim(count=2)
    wanted["spec"]["devices"]["constraints"] = [{"matchAttribute": "gpu.nvidia.com/root"}]
    verdict = schedule(CLAIMING, Cluster([node(), devices("a", "b", "c", "b"), wanted]))
    assert verdict.devices == ("gpu-1", "gpu-3")
    assert reason(CLAIMING, node(), devices("a", "b", "c"), wanted) == "cannot allocate all claims"


def test_devices_held_by_another_claim_are_gone() -> None:
    """An allocated claim keeps its devices; its own pod gets them."""
    held = claim()
    held["metadata"] = {"name": "held"}
    result = {"driver": "gpu.nvidia.com", "pool": "n0", "device": "gpu-0", "request": "g"}
    held["status"] = {"allocation": {"devices": {"results": [result]}}}
    assert schedule(CLAIMING, Cluster([node(), devices("a", "a"), claim(), held])).devices == ("gpu-1",)
    user = pod(resourceClaims=[{"name": "g", "resourceClaimName": "held"}])
    assert schedule(user, Cluster([node(), devices("a", "a"), held])).devices == ("gpu-0",)


def test_a_selector_without_a_value_is_an_error_that_says_so() -> None:
    """A missing attribute is not false."""
    selector = {"cel": {"expression": "device.attributes['gpu.nvidia.com'].numa == 0"}}
    assert "no such key: numa" in reason(CLAIMING, node(), devices("a"), claim(selectors=[selector]))
    assert "not found" in reason(CLAIMING, node(), devices("a"))
    assert "does not exist" in reason(CLAIMING, node(), devices("a"), claim(deviceClassName="other"))


@pytest.mark.reference
def test_recorded_decisions_of_a_real_scheduler(shared_data: Path) -> None:
    """The same node and the same devices in every recorded case."""
    cases, _ = run(shared_data / "k8s-schemas" / "scheduler-golden")
    assert [case.name for case in cases if not case.agrees] == []
    assert len(cases) >= 600
