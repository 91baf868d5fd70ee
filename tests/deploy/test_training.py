import subprocess
import time

import pytest

from benchmarks.manifest_plans import bindings, plan, training_plan
from planner.deploy import DeployError, Program, Target, kubernetes_bundle
from planner.deploy.equivalence import machine_kind
from planner.placement.plan import Strategy
from tests.deploy.manifests import (
    as_pod,
    bundle,
    environment,
    expressions,
    hostnames,
    known,
    only,
    pods,
    templates,
    validate_core,
)
from tests.deploy.plans import Case, machine, nodes, topology, training, training_job, workload
from tests.deploy.shells import needs_bash


def test_job_is_one_replicated_job_with_one_pod_a_node() -> None:
    """Eight nodes are one ReplicatedJob of eight indexed pods, held to the nodes by name."""
    job_set = only(known("training on 8 nodes"), "JobSet")
    (job,) = job_set["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["completionMode"]) == (8, 8, "Indexed")
    assert job_set["spec"]["network"]["enableDNSHostnames"] is True
    pod = spec["template"]["spec"]
    assert hostnames(pod) == [f"node-{index}" for index in range(8)]
    (container,) = pod["containers"]
    assert container["command"] == [
        "torchrun", "--node-rank=$(NODE_RANK)", "--no-python", "--nnodes=8", "--nproc-per-node=8",
        "--rdzv-backend=static", "--rdzv-endpoint=pretrain-node-0-0.pretrain:29500", "--max-restarts=0",
        "bash", "/etc/planner/bind.sh",
    ]  # fmt: skip
    assert {
        "--tensor-model-parallel-size=8", "--pipeline-model-parallel-size=4", "--sequence-parallel",
        "--use-distributed-optimizer", "--micro-batch-size=1", "--global-batch-size=64", "--num-layers=80",
        "--bf16",
    } <= set(container["args"])  # fmt: skip
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert environment(container)["PLANNER_BIND"] == "soft"
    assert environment(container)["NCCL_IB_HCA"].startswith("=mlx5_0,mlx5_1")


def test_rank_tables_of_the_pods_follow_the_plan() -> None:
    """The mounted table lists every node with the ranks that the plan puts on its GPUs."""
    data = only(known("scattered training"), "ConfigMap")["data"]
    assert data["nodes"] == "node-0 0 0 1 4 5\nnode-1 1 2 3 6 7\n"
    assert data["places"].splitlines()[3].split()[:4] == ["0", "3", "0,1,3,2", "0,1,3,2"]
    (pod,) = pods([only(known("scattered training"), "JobSet")])
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    assert volume["configMap"]["defaultMode"] == 0o444
    # Pods that leave GPUs to others must not meet on a node.
    assert "podAntiAffinity" in pod["affinity"]


def test_thousands_of_nodes_stay_one_small_object() -> None:
    """2048 nodes are one ReplicatedJob of pods picked by the kind of machine, said so in an annotation."""
    job_set = only(known("training on 2048 nodes"), "JobSet")
    (job,) = job_set["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (spec["parallelism"], job["replicas"]) == (2048, 1)
    pod = spec["template"]["spec"]
    assert set(expressions(pod)) == {"kubernetes.io/arch", "planner.example.org/kind"}
    annotations = job_set["metadata"]["annotations"]
    assert "box: planner.example.org/kind=" in annotations["planner.example.org/node-choice"]
    assert len(str(job_set)) < 10_000
    table = only(known("training on 2048 nodes"), "ConfigMap")["data"]["nodes"].splitlines()
    assert table[2047] == "2047 0 16376 16377 16378 16379 16380 16381 16382 16383"


def test_thousands_of_nodes_are_written_quickly() -> None:
    """Files for 16,384 ranks take seconds, not minutes."""
    case = training(2048)
    started = time.process_time()
    kubernetes_bundle(case.plan, case.topology, case.workload)
    assert time.process_time() - started < 10.0


def test_machine_labels_come_from_the_target_else_from_the_topology() -> None:
    """A stated GPU product stands alone; else the labels that all nodes bear, and the kind of the machine."""
    case = training(8)
    few = {"most_hostnames": 4}
    product = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    labelled = topology(nodes("node-[0-7]", pool="train", rack="a b"))
    (pod,) = pods(bundle(Case(case.plan, labelled, case.workload), Target(**few)))  # type: ignore[arg-type]
    kind = machine_kind(labelled.nodes[0].machine)
    assert expressions(pod) == {
        "kubernetes.io/arch": ["amd64"],
        "planner.example.org/kind": [kind],
        "pool": ["train"],
    }
    told = Target(most_hostnames=4, machine_labels={"box": product})
    (pod,) = pods(bundle(Case(case.plan, labelled, case.workload), told))
    assert expressions(pod) == {
        "kubernetes.io/arch": ["amd64"],
        "nvidia.com/gpu.product": [product["nvidia.com/gpu.product"]],
    }


def test_two_machine_types_are_two_ways_to_match() -> None:
    """Nodes of two types are alternatives of the affinity, each with its own label."""
    strategy = Strategy(tp=8, dp=2)
    job = training_plan(strategy, ["a-0/gpu[0-7]", "b-0/gpu[0-7]"])
    cluster = topology(
        nodes("a-0", "first"),
        nodes("b-0", "second"),
        machines=[machine("first"), machine("second", arch="aarch64")],
    )
    case = Case(plan(job), cluster, workload(training_job()))
    (pod,) = pods(bundle(case, Target(most_hostnames=1)))
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    values = [
        [expression["values"] for expression in term["matchExpressions"]]
        for term in required["nodeSelectorTerms"]
    ]
    kinds = [machine_kind(node.machine) for node in cluster.nodes]
    assert values == [[["amd64", "arm64"], [kind]] for kind in kinds]


def test_queue_and_topology_label_reach_the_job() -> None:
    """A Kueue queue is a label of the JobSet; the topology that it prefers is an annotation of its pods."""
    target = Target(queue="training", topology_label="fabric.topograph.run/tier-0")
    job_set = only(bundle(training(8), target), "JobSet")
    assert job_set["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    template = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    assert annotations == {"kueue.x-k8s.io/podset-preferred-topology": "fabric.topograph.run/tier-0"}


def test_program_of_the_job_is_appended_to_the_launcher() -> None:
    """The target's trainer, data claim and arguments surround what the plan decides."""
    program = Program(
        command=("python", "own.py"), arguments=("--data-path=/data/x",), claims={"/data": "data"}
    )
    (pod,) = pods(bundle(training(8), Target(programs={"pretrain": program})))
    (container,) = pod["containers"]
    assert container["args"][:2] == ["python", "own.py"]
    assert container["args"][-1] == "--data-path=/data/x"
    assert {"name": "claim-0", "mountPath": "/data"} in container["volumeMounts"]


@needs_bash
@pytest.mark.parametrize("most", [64, 1])
def test_unequal_numbers_of_ranks_become_replicated_jobs_of_their_own(most: int) -> None:
    """Nodes with two ranks and nodes with four are two ReplicatedJobs, numbered one after the other."""
    devices = ["node-5/gpu[0-3]", "node-1/gpu[0-1]", "node-2/gpu[4-7]", "node-3/gpu[0-1]"]
    job = training_plan(Strategy(tp=2, dp=6), devices)
    case = Case(plan(job), topology(nodes("node-[0-5]")), workload(training_job()))
    objects = bundle(case, Target(most_hostnames=most))
    first, second = only(objects, "JobSet")["spec"]["replicatedJobs"]
    assert (first["name"], second["name"]) == ("node-0", "node-1")
    seen = []
    for replicated, count, index in ((first, "4", 1), (second, "2", 0)):
        pod = replicated["template"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == count
        assert "--rdzv-endpoint=pretrain-node-0-0-0.pretrain:29500" in container["command"]
        assert "podAntiAffinity" in pod["affinity"]
        command = [word.replace("$$", "$") for word in container["command"]]
        script = f'torchrun() {{ echo "$PLANNER_NODE" "$@"; }}; {command[2].replace("exec ", "")}'
        variables = {"NODE_RANK": str(index), "NODE_OFFSET": environment(container)["NODE_OFFSET"]}
        if most == 64:
            variables["PLANNER_NODE"] = "by-name"
        result = subprocess.run(
            [*command[:2], script, *command[3:]], env=variables, check=True, capture_output=True, text=True
        )
        seen.append(result.stdout.split()[:2])
    names = ["by-name", "by-name"] if most == 64 else ["1", "2"]
    assert seen == [[names[0], "--node-rank=1"], [names[1], "--node-rank=2"]]
    table = [line.split() for line in only(objects, "ConfigMap")["data"]["nodes"].splitlines()]
    assert [row[2:] for row in table] == [
        ["0", "1", "2", "3"],
        ["6", "7", "8", "9"],
        ["4", "5"],
        ["10", "11"],
    ]
    assert [row[0] for row in table] == (
        ["node-5", "node-2", "node-1", "node-3"] if most == 64 else ["0", "1", "2", "3"]
    )
    for template in templates(only(objects, "JobSet")):
        validate_core(as_pod(template), "1.37")


def test_nodes_that_share_a_host_name_are_refused() -> None:
    """Two nodes with one host name could not be told apart by their processes."""
    job = training_plan(Strategy(tp=8, dp=2), ["node-0/gpu[0-7]", "node-1/gpu[0-7]"], bound=bindings())
    same = topology(nodes("node-[0-1]", **{"kubernetes.io/hostname": "twin"}))
    with pytest.raises(DeployError, match="several nodes have the host name 'twin'"):
        bundle(Case(plan(job), same, workload(training_job())))
