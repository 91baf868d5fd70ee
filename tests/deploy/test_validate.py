import copy
from collections.abc import Callable
from typing import Any

import pytest

from planner.deploy import DeployError
from planner.deploy.validate import problems, validate
from tests.deploy.manifests import known, of_kind, only
from tests.deploy.plans import all_cases

Json = dict[str, Any]
CASES = all_cases()


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_passes_the_check(name: str) -> None:
    """Nothing is wrong with the objects of any case, read back from their text."""
    assert list(problems(known(name), CASES[name].topology)) == []


def pod(objects: list[Json]) -> Json:
    found: Json = only(objects, "Deployment")["spec"]["template"]["spec"]
    return found


def server(objects: list[Json]) -> Json:
    found: Json = pod(objects)["containers"][0]
    return found


def limits(objects: list[Json], **amounts: str) -> None:
    for side in ("requests", "limits"):
        server(objects)["resources"][side].update(
            {name.replace("_", "/"): value for name, value in amounts.items()}
        )


def hosts(objects: list[Json], *names: str) -> None:
    required = pod(objects)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    required["nodeSelectorTerms"][0]["matchExpressions"][1]["values"] = list(names)


def meta(objects: list[Json], kind: str) -> Json:
    found: Json = only(objects, kind)["metadata"]
    return found


BREAKS: dict[str, tuple[Callable[[list[Json]], object], str]] = {
    "unequal": (lambda o: server(o)["resources"]["requests"].update(cpu="1"), "not of class Guaranteed"),
    "no memory": (
        lambda o: [server(o)["resources"][s].pop("memory") for s in ("requests", "limits")],
        "Guaranteed",
    ),
    "fraction": (lambda o: limits(o, cpu="1500m"), "cpu '1500m' is not a whole number"),
    "no GPU": (lambda o: limits(o, **{"nvidia.com_gpu": "0"}), "nvidia.com/gpu '0' is not a whole number"),
    "GPUs": (lambda o: limits(o, **{"nvidia.com_gpu": "9"}), "asks for 9 GPUs, but node-[01] has 8"),
    "host": (lambda o: hosts(o, "node-7"), "no node of the topology matches"),
    "host value": (lambda o: hosts(o, "node 1"), "label value 'node 1' is not legal"),
    "selector": (
        lambda o: only(o, "Deployment")["spec"]["selector"]["matchLabels"].update(a="b"),
        "selector does not match",
    ),
    "unknown volume": (
        lambda o: server(o)["volumeMounts"].append({"name": "x", "mountPath": "/x"}),
        "mounts volume 'x', which the pod does not have",
    ),
    "idle volume": (
        lambda o: pod(o)["volumes"].append({"name": "x", "emptyDir": {}}),
        "volume x is mounted nowhere",
    ),
    "one path": (
        lambda o: server(o)["volumeMounts"].append(server(o)["volumeMounts"][0]),
        "two volumes have one path",
    ),
    "one variable": (lambda o: server(o)["env"].append(server(o)["env"][0]), "two variables one name"),
    "one volume": (lambda o: pod(o)["volumes"].append(pod(o)["volumes"][0]), "two volumes have one name"),
    "one port": (lambda o: server(o)["ports"].append(server(o)["ports"][0]), "use one port"),
    "port name": (lambda o: server(o)["ports"][0].update(name="much-too-long-name"), "port name"),
    "variable": (
        lambda o: server(o)["env"].append({"name": "A B", "value": ""}),
        "variable 'A B' is not legal",
    ),
    "image": (lambda o: server(o).update(image="vllm/vllm-openai"), "needs a tag other than latest"),
    "container": (lambda o: server(o).update(name="Server"), "'Server' is not a DNS label"),
    "name": (lambda o: meta(o, "Deployment").update(name="Chat"), "the name is not a DNS label"),
    "label": (lambda o: meta(o, "Service")["labels"].update(a="b c"), "label value 'b c' is not legal"),
    "label key": (
        lambda o: meta(o, "Service")["labels"].update({"a b": "c"}),
        "label key 'a b' is not legal",
    ),
    "annotation": (
        lambda o: meta(o, "Deployment")["annotations"].update({"a b": "c"}),
        "annotation key 'a b'",
    ),
    "annotations": (
        lambda o: meta(o, "Deployment")["annotations"].update(a="x" * 300_000),
        "annotations exceed",
    ),
    "account": (lambda o: pod(o).update(serviceAccountName="other"), "no ServiceAccount 'other'"),
    "config map": (
        lambda o: pod(o)["volumes"][0].update(configMap={"name": "missing"}),
        "no ConfigMap 'missing'",
    ),
    "token": (lambda o: pod(o).update(automountServiceAccountToken=True), "bears a token"),
    "root": (lambda o: pod(o)["securityContext"].update(runAsNonRoot=False), "may run as root"),
    "writable": (
        lambda o: server(o)["securityContext"].update(readOnlyRootFilesystem=False),
        "the security context is open",
    ),
    "service": (
        lambda o: only(o, "Service")["spec"]["selector"].update(a="b"),
        "Service chat: selects no pod",
    ),
    "target port": (lambda o: server(o)["ports"][0].update(name="web"), "no container opens its port 'http'"),
    "budget": (
        lambda o: only(o, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].update(a="b"),
        "PodDisruptionBudget chat: selects no pod",
    ),
    "twice": (lambda o: o.append(only(o, "Service")), "two objects of this name"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_mistake_is_found(name: str) -> None:
    """What no schema sees is refused with a reason that says where it is."""
    objects = copy.deepcopy(known("single-node service"))
    spoil, reason = BREAKS[name]
    spoil(objects)
    with pytest.raises(DeployError, match=reason) as caught:
        validate(objects, CASES["single-node service"].topology)
    assert caught.value.reasons


def test_pods_inside_custom_kinds_are_checked_too() -> None:
    """The API server looks into no pod of a custom kind; this check does."""
    for name, kind in (("multi-node service", "LeaderWorkerSet"), ("training on 8 nodes", "JobSet")):
        objects = copy.deepcopy(known(name))
        (item,) = of_kind(objects, kind)
        group = item["spec"].get("leaderWorkerTemplate", {}).get("workerTemplate")
        template = group or item["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
        template["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "0.5"
        found = list(problems(objects, CASES[name].topology))
        assert any("'0.5' is not a whole number" in reason for reason in found)
