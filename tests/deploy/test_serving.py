import math
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.manifest_plans import GB, bindings, plan, serving_plan
from planner.deploy import DeployError, Program, Sizing, Target, kubernetes_bundle
from planner.placement.plan import CpuPlacement, Replica, ServingPlan, Strategy
from planner.placement.records import Binding
from tests.deploy.manifests import (
    bundle,
    containers,
    environment,
    expressions,
    hostnames,
    known,
    of_kind,
    only,
    pods,
)
from tests.deploy.plans import (
    GIB,
    Case,
    device,
    machine,
    multi_node_service,
    nodes,
    riscv_stages,
    serving_job,
    single_node_service,
    topology,
    workload,
)


def one_replica(devices: list[str], *, tp: int = 4, bound: list[Binding] | None = None, **more: Any) -> Case:
    node = devices[0].partition("/")[0]
    job = serving_plan([Replica(name="r", node=node, devices=devices)], tp=tp, bound=bound, **more)
    return Case(plan(job), topology(nodes("node-[0-3]")), workload(serving_job()))


def test_like_replicas_become_one_deployment() -> None:
    """Four equal replicas on two nodes are one Deployment, spread evenly over exactly these nodes."""
    deployment = only(known("single-node service"), "Deployment")
    spec = deployment["spec"]
    assert spec["replicas"] == 4
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    pod = spec["template"]["spec"]
    assert expressions(pod) == {
        "kubernetes.io/arch": ["amd64"],
        "kubernetes.io/hostname": ["node-0", "node-1"],
    }
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (1, "DoNotSchedule")
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"


def test_single_replica_frees_its_gpus_before_the_next_starts() -> None:
    """A lone pod that holds planned GPUs is recreated, not rolled."""
    deployment = only(bundle(one_replica(["node-2/gpu[0-3]"])), "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert hostnames(deployment["spec"]["template"]["spec"]) == ["node-2"]


def test_nodes_with_unlike_numbers_of_replicas_become_deployments_of_their_own() -> None:
    """Two replicas on one node and one on another cannot be one evenly spread Deployment."""
    placed = [("node-0", "0-3"), ("node-0", "4-7"), ("node-10", "0-3"), ("node-2", "4-7")]
    replicas = [
        Replica(name=f"r{index}", node=node, devices=[f"{node}/gpu[{span}]"])
        for index, (node, span) in enumerate(placed)
    ]
    case = Case(plan(serving_plan(replicas)), topology(nodes("node-[0-10]")), workload(serving_job()))
    found = {
        tuple(hostnames(item["spec"]["template"]["spec"])): item["spec"]["replicas"]
        for item in of_kind(bundle(case), "Deployment")
    }
    assert found == {("node-0",): 2, ("node-2", "node-10"): 2}


def test_gpus_are_numbered_as_the_container_sees_them() -> None:
    """CUDA_VISIBLE_DEVICES counts from 0 among the pod's own GPUs, in rank order."""
    case = one_replica(["node-0/gpu6", "node-0/gpu4", "node-0/gpu5", "node-0/gpu7"])
    (container,) = containers(bundle(case))
    assert environment(container)["CUDA_VISIBLE_DEVICES"] == "2,0,1,3"
    assert environment(container)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_server_gets_the_degrees_and_the_batching_of_the_plan() -> None:
    """The arguments of vLLM are those that the plan decided."""
    (container,) = containers(bundle(one_replica(["node-0/gpu[0-3]"], ep=4)))
    arguments = container["args"]
    assert arguments[0] == "/models/toy"
    wanted = {
        "--tensor-parallel-size=4", "--pipeline-parallel-size=1", "--max-num-seqs=64",
        "--max-num-batched-tokens=8192", "--gpu-memory-utilization=0.90", "--enable-expert-parallel",
        "--dtype=bfloat16", '--compilation-config={"cudagraph_capture_sizes":[1,2,4,8]}',
    }  # fmt: skip
    assert wanted <= set(arguments)


@pytest.mark.parametrize("rate", [0.5 * GB, 2 * GB])
def test_probes_wait_as_long_as_loading_takes(rate: float) -> None:
    """The start-up budget covers reading the weights at the stated rate, and the rollout waits for it."""
    target = Target(sizing=Sizing(load_rate=rate, start_overhead=60.0))
    deployment = only(bundle(one_replica(["node-0/gpu[0-3]"]), target), "Deployment")
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    budget = 4 * 35 * GB / rate + 60.0
    assert budget <= probe["periodSeconds"] * probe["failureThreshold"] < budget + 2 * probe["periodSeconds"]
    assert deployment["spec"]["progressDeadlineSeconds"] > budget


def test_memory_covers_processes_shared_memory_and_weights() -> None:
    """The memory limit holds /dev/shm, which counts against it, beside processes and weights."""
    sizing = Sizing(rank_memory=2 * GIB, shm_per_rank=GIB)
    (pod,) = pods(bundle(one_replica(["node-0/gpu[0-3]"]), Target(sizing=sizing)))
    assert (
        pod["containers"][0]["resources"]["limits"]["memory"] == f"{math.ceil(4 * 3 + 4 * 35 * GB / GIB)}Gi"
    )
    (shm,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}


@pytest.mark.parametrize(("rank", "shm"), [(20, "16Gi"), (40, 4 * 4 / (4 * 44) * 102)])
def test_memory_shrinks_to_what_the_node_has(rank: int, shm: str | float) -> None:
    """Weights are given up first, then all parts alike; less than a quarter is refused."""
    case = one_replica(["node-0/gpu[0-3]"])
    tight = Target(sizing=Sizing(rank_memory=rank * GIB, system_memory=0.95))
    (pod,) = pods(bundle(case, tight))
    assert pod["containers"][0]["resources"]["limits"]["memory"] == f"{math.floor(2048 * (1 - 0.95))}Gi"
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    wanted = shm if isinstance(shm, str) else f"{math.ceil(shm * 1024)}Mi"
    assert volume["emptyDir"]["sizeLimit"] == wanted
    with pytest.raises(DeployError, match=r"'chat' on node 'node-0' needs .* of host memory"):
        bundle(case, Target(sizing=Sizing(rank_memory=120 * GIB, system_memory=0.95)))


def test_stages_beside_the_server_get_whole_cores_on_its_host() -> None:
    """CPU stages on the GPUs' riscv64 host are containers of the same pod, with whole cores and numactl."""
    deployment = only(known("stages on riscv64"), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert expressions(pod) == {"kubernetes.io/arch": ["riscv64"], "kubernetes.io/hostname": ["host-0"]}
    server, decode, resize = pod["containers"]
    assert [server["name"], decode["name"], resize["name"]] == ["server", "decode", "resize"]
    assert decode["command"][:2] == ["numactl", "--localalloc"]
    assert (decode["resources"]["limits"]["cpu"], resize["resources"]["limits"]["cpu"]) == ("16", "8")
    assert environment(decode)["PLANNER_WORKERS"] == "8"
    assert environment(decode)["PLANNER_PREFETCH"] == "3"
    assert int(decode["resources"]["limits"]["memory"].removesuffix("Gi")) >= 8 * 2 * GB / GIB
    assert environment(server)["PLANNER_STAGE_RESIZE"] == "localhost:9001"
    assert environment(server)["PLANNER_MEMORY_MODES"] == '{"images":"pinned-copy"}'
    assert {"name": "shm", "mountPath": "/dev/shm"} in decode["volumeMounts"]
    assert int(server["resources"]["limits"]["cpu"]) + 24 <= 64


def test_stages_elsewhere_get_workloads_of_their_own() -> None:
    """CPU stages on a riscv64 node apart from the amd64 GPUs are Deployments there, reached by a service."""
    objects = known("stages elsewhere")
    found = {item["metadata"]["name"]: item for item in of_kind(objects, "Deployment")}
    assert set(found) == {"vision", "vision-decode", "vision-resize"}
    stage = found["vision-decode"]["spec"]["template"]["spec"]
    assert expressions(stage) == {"kubernetes.io/arch": ["riscv64"], "kubernetes.io/hostname": ["host-1"]}
    assert "tolerations" not in stage
    server = found["vision"]["spec"]["template"]["spec"]
    assert expressions(server)["kubernetes.io/arch"] == ["amd64"]
    assert environment(server["containers"][0])["PLANNER_STAGE_DECODE"] == "vision-decode:9000"
    assert {item["metadata"]["name"] for item in of_kind(objects, "Service")} == set(found)


def test_scheduler_is_named_only_when_told() -> None:
    """A topology-aware scheduler is a property of the cluster, so the target has to state it."""
    case = riscv_stages()
    assert all("schedulerName" not in pod for pod in pods(bundle(case)))
    told = bundle(case, Target(scheduler="topo-aware-scheduler"))
    assert {pod["schedulerName"] for pod in pods(told)} == {"topo-aware-scheduler"}


def test_group_of_nodes_is_a_leader_and_workers_on_the_planned_nodes() -> None:
    """A replica on two nodes is a LeaderWorkerSet: the first stage's node leads, and only it is served."""
    objects = known("multi-node service")
    group = only(objects, "LeaderWorkerSet")["spec"]
    assert (group["replicas"], group["leaderWorkerTemplate"]["size"]) == (1, 2)
    leader = group["leaderWorkerTemplate"]["leaderTemplate"]
    worker = group["leaderWorkerTemplate"]["workerTemplate"]
    assert (hostnames(leader["spec"]), hostnames(worker["spec"])) == (["node-3"], ["node-1"])
    for template in (leader, worker):
        (container,) = template["spec"]["containers"]
        assert {
            "--nnodes=2",
            "--node-rank=$(LWS_WORKER_INDEX)",
            "--master-addr=$(LWS_LEADER_ADDRESS)",
        } <= set(container["args"])
        assert environment(container)["VLLM_PP_LAYER_PARTITION"] == "38,42"
        assert environment(container)["NCCL_IB_HCA"] == "=" + ",".join(f"mlx5_{index}" for index in range(8))
    assert "--headless" in worker["spec"]["containers"][0]["args"]
    assert "--headless" not in leader["spec"]["containers"][0]["args"]
    selector = only(objects, "Service")["spec"]["selector"]
    assert selector.items() <= leader["metadata"]["labels"].items()
    assert not selector.items() <= worker["metadata"]["labels"].items()


def test_rdma_ports_come_from_the_resource_of_the_cluster() -> None:
    """Where the cluster hands out RDMA devices, pods of several nodes ask for them and may lock memory."""
    case = multi_node_service()
    for container in containers(bundle(case, Target(rdma_resource="rdma/hca_shared_devices_a"))):
        assert container["resources"]["limits"]["rdma/hca_shared_devices_a"] == "1"
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


def test_ports_without_the_name_of_a_device_are_left_to_nccl() -> None:
    """A port that only the topology names would hide all real ones from NCCL; the target can translate it."""
    case = multi_node_service()
    box = machine(nic="port")
    bound = [
        binding.model_copy(update={"nic": f"port{index}"})
        for index, binding in enumerate(case.plan.jobs[0].bindings)
    ]
    renamed = Case(
        plan(case.plan.jobs[0].model_copy(update={"bindings": bound})),
        topology(nodes("node-[0-3]"), machines=[box]),
        case.workload,
    )
    for container in containers(bundle(renamed)):
        assert "NCCL_IB_HCA" not in environment(container)
        assert environment(container)["PLANNER_NICS"] == ",".join(f"port{index}" for index in range(8))
    told = Target(nic_names={f"port{index}": f"eth{index}" for index in range(8)})
    assert environment(containers(bundle(renamed, told))[0])["NCCL_SOCKET_IFNAME"].startswith("=eth0,eth1")


def test_mig_slices_are_asked_for_by_profile() -> None:
    """A job on MIG slices asks for the slice's resource and leaves device numbers alone."""
    case = one_replica(["node-0/gpu0"], tp=1, mig="3g.71gb+me")
    (container,) = containers(bundle(case))
    assert container["resources"]["limits"]["nvidia.com/mig-3g.71gb.me"] == "1"
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert "CUDA_VISIBLE_DEVICES" not in environment(container)


def test_other_vendors_have_their_own_resource_and_taint() -> None:
    """AMD GPUs come from AMD's device plugin; an unknown vendor is refused."""
    case = one_replica(["node-0/gpu[0-3]"])
    amd = Case(case.plan, topology(nodes("node-[0-3]"), vendor="amd"), case.workload)
    (pod,) = pods(bundle(amd))
    assert pod["containers"][0]["resources"]["limits"]["amd.com/gpu"] == "4"
    assert pod["tolerations"][0]["key"] == "amd.com/gpu"
    assert environment(pod["containers"][0])["HIP_VISIBLE_DEVICES"] == "0,1,2,3"
    assert device().vendor == "nvidia"
    with pytest.raises(DeployError, match="no device plugin is known for GPUs of 'acme'"):
        bundle(Case(case.plan, topology(nodes("node-[0-3]"), vendor="acme"), case.workload))


def test_programs_of_the_target_reach_the_containers() -> None:
    """Image, command, model, arguments, claims and variables of a job come from the target."""
    program = Program(
        image="registry.example.org/own:1", command=("serve",), arguments=("--seed=$(HOME)",),
        model="organisation/model", claims={"/data": "data"}, env={"TOKEN": "a$b"},
    )  # fmt: skip
    (pod,) = pods(bundle(one_replica(["node-0/gpu[0-3]"]), Target(programs={"chat": program})))
    (container,) = pod["containers"]
    assert (container["image"], container["command"]) == ("registry.example.org/own:1", ["serve"])
    assert container["args"][0] == "organisation/model"
    # A reference in user text must not be expanded by the kubelet.
    assert container["args"][-1] == "--seed=$$(HOME)"
    assert {"name": "TOKEN", "value": "a$$b"} in container["env"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"data"}


def test_high_priority_maps_to_a_class_of_the_cluster() -> None:
    """The plan's priority becomes the priority class that the target names for it."""
    case = one_replica(["node-0/gpu[0-3]"])
    (pod,) = pods(bundle(case, Target(priority_classes={"normal": "batch", "high": "online"})))
    assert pod["priorityClassName"] == "batch"


def refused(case: Case, message: str) -> None:
    with pytest.raises(DeployError, match=message):
        kubernetes_bundle(case.plan, case.topology, case.workload)


def test_plans_that_do_not_fit_the_topology_are_refused() -> None:
    """Unknown nodes and GPUs, and degrees that no server can express, are named."""
    refused(one_replica(["node-9/gpu[0-3]"]), "no node 'node-9'")
    refused(one_replica(["node-0/gpu[6-9]"]), "node 'node-0' has no GPU 'gpu8'")
    refused(one_replica(["node-0/gpu[0-2]"]), "has 3 GPUs, but tp x pp is 4")
    lost = [Binding(gpu="gpu0", numa="numa7", cores="0-3")]
    refused(one_replica(["node-0/gpu[0-3]"], bound=lost), "has no NUMA domain 'numa7'")
    with pytest.raises(ValidationError, match="'0-x'"):
        Binding(gpu="gpu0", numa="numa0", cores="0-x")


def test_bindings_by_bare_name_go_to_the_machine_type_that_they_fit() -> None:
    """Two machine types with equal names of parts have bindings of their own; each is used where it fits."""
    small, large = machine("small", cores=16, domains=1), machine("large", cores=56)
    cluster = topology(nodes("s-0", "small"), nodes("l-0", "large"), machines=[small, large])
    replicas = [Replica(name=node, node=node, devices=[f"{node}/gpu[4-7]"]) for node in ("s-0", "l-0")]
    wide = [
        binding.model_copy(update={"cores": f"{2 * index}-{2 * index + 1}", "numa": "numa0"})
        for index, binding in enumerate(bindings())
    ]
    for bound in ([*wide, *bindings()], [*bindings(), *wide]):
        job = serving_plan(replicas, bound=bound)
        objects = bundle(Case(plan(job), cluster, workload(serving_job())))
        found = {
            hostnames(item["spec"]["template"]["spec"])[0]: item["spec"]["template"]["spec"]["containers"][0][
                "resources"
            ]["limits"]["cpu"]
            for item in of_kind(objects, "Deployment")
        }
        assert found == {"s-0": "8", "l-0": "56"}


def test_unequal_parts_of_nodes_cannot_be_a_group() -> None:
    """A LeaderWorkerSet has one worker template, so six GPUs here and two there are refused."""
    devices = ["node-0/gpu[0-5]", "node-1/gpu[0-1]"]
    refused(one_replica(devices, tp=8), "unequal numbers of GPUs")


def test_stages_may_not_take_every_core() -> None:
    """Cores are left for the GPU processes and the kubelet, or the plan is refused with the numbers."""
    case = riscv_stages()
    job = case.plan.jobs[0]
    assert isinstance(job, ServingPlan)
    greedy = CpuPlacement(
        stage="decode", numa="numa0", cores=63, core_list="0-62", utilisation=1.0, latency=0.1
    )
    replica = job.replicas[0].model_copy(update={"stages": [greedy]})
    full = plan(job.model_copy(update={"replicas": [replica]}))
    refused(Case(full, case.topology, case.workload), "'host-0' has 64 cores: the CPU stages take 63")


def test_host_names_have_to_be_possible() -> None:
    """A node whose name no host can have selects nothing; a label of the topology can give its real name."""
    replica = Replica(name="r", node="rack 1", devices=["rack 1/gpu[0-3]"])
    job = serving_plan([replica])
    refused(
        Case(plan(job), topology(nodes("rack 1")), workload(serving_job())), "'rack 1' cannot be a host name"
    )
    labelled = topology(nodes("rack 1", **{"kubernetes.io/hostname": "rack-1"}))
    (pod,) = pods(bundle(Case(plan(job), labelled, workload(serving_job()))))
    assert hostnames(pod) == ["rack-1"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"version": "1.28"}, "Kubernetes '1.28' is not supported"),
        ({"namespace": "Not Legal"}, "namespace 'Not Legal' is not a legal name"),
        ({"programs": {"chat": Program(image="server:latest")}}, "needs a tag other than latest"),
        ({"programs": {"chat": Program(image="server")}}, "needs a tag other than latest"),
        ({"programs": {"chat": Program(env={"A B": ""})}}, "environment name 'A B'"),
        ({"programs": {"chat": Program(claims={"data": "data"})}}, "path 'data' is not absolute"),
        ({"user": 0}, "containers do not run as root"),
        ({"domain": "nodots"}, "domain 'nodots'"),
        ({"machine_labels": {"box": {"a": "b c"}}}, "label value 'b c'"),
        ({"port": 80}, "port 80"),
    ],
)  # fmt: skip
def test_target_states_only_what_a_cluster_accepts(wrong: dict[str, Any], message: str) -> None:
    """A target with an illegal name, image or version is refused before anything is written."""
    with pytest.raises(DeployError, match=message):
        Target(**wrong)


def test_replicas_on_many_nodes_are_held_by_labels() -> None:
    """Beyond the number of host names that a pod should list, machine labels pick the nodes."""
    case = single_node_service()
    target = Target(
        most_hostnames=1, machine_labels={"box": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}
    )
    deployment = only(bundle(case, target), "Deployment")
    assert expressions(deployment["spec"]["template"]["spec"]) == {
        "kubernetes.io/arch": ["amd64"], "nvidia.com/gpu.product": ["NVIDIA-H100-80GB-HBM3"],
    }  # fmt: skip
    assert Strategy().num_ranks == 1
