from pathlib import Path

import pytest

from benchmarks.manifest_plans import bindings, plan, serving_plan, training_plan
from planner.deploy import Program, Target, launch_files
from planner.placement.plan import Replica, Strategy, TrainingPlan
from tests.deploy.plans import (
    Case,
    all_cases,
    machine,
    multi_node_service,
    nodes,
    riscv_stages,
    scattered_training,
    serving_job,
    topology,
    training,
    training_job,
    workload,
)
from tests.deploy.shells import attempt, install, needs_bash, run, syntax_errors

CASES = all_cases()
SCRIPTS = (".sh", ".sbatch")


def files_of(case: Case, target: Target | None = None) -> dict[str, str]:
    return launch_files(case.plan, case.topology, case.workload, target)


@needs_bash
@pytest.mark.parametrize("name", CASES)
def test_every_script_is_bash(name: str) -> None:
    """``bash -n`` finds nothing wrong, and every script stops at the first error."""
    scripts = {key: text for key, text in files_of(CASES[name]).items() if key.endswith(SCRIPTS)}
    assert scripts
    assert syntax_errors(scripts) == {}
    for text in scripts.values():
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail\n" in text


@needs_bash
def test_every_process_runs_where_the_plan_puts_its_rank(tmp_path: Path) -> None:
    """bind.sh gives each process its rank, its GPU under its local number, its cores and its memory."""
    case = scattered_training()
    job = case.plan.jobs[0]
    assert isinstance(job, TrainingPlan)
    folder = install(tmp_path, files_of(case)) / "pretrain"
    seen = {}
    for node in ("node-0", "node-1.cluster.local"):
        for local in range(4):
            result = run(folder / "bind.sh", "show", "a b", PLANNER_NODE=node, LOCAL_RANK=str(local))
            lines = result.stdout.splitlines()
            values = dict(item.split("=", 1) for item in lines[-1].split("\0") if item)
            gpu = int(values["CUDA_VISIBLE_DEVICES"].split(",")[local])
            seen[int(values["RANK"])] = f"{node.partition('.')[0]}/gpu{gpu}"
            first = 14 * gpu
            assert lines[:-1] == [f"numactl --physcpubind={first}-{first + 13}", "numactl --membind=0"]
            assert values["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1,mlx5_2,mlx5_3"
            assert values["OMP_NUM_THREADS"] == "14"
            assert values["argument"] == "a b"
    assert [seen[rank] for rank in range(8)] == job.ranks()


@needs_bash
def test_bind_script_gives_way_where_it_is_told_to(tmp_path: Path) -> None:
    """Soft binding falls back to local memory, local and off bind less, and other words are refused."""
    script = install(tmp_path, files_of(training(8))) / "pretrain" / "bind.sh"
    where = {"PLANNER_NODE": "node-3", "LOCAL_RANK": "5"}
    soft = run(script, "show", PLANNER_BIND="soft", **where)
    assert soft.stdout.splitlines()[:2] == ["numactl --cpunodebind=1", "numactl --preferred=1"]
    refused = run(script, "show", PLANNER_BIND="soft", REFUSE="--cpunodebind", **where)
    assert refused.stdout.splitlines()[0] == "numactl --localalloc"
    assert "NUMA domain 1 is not allowed here" in refused.stderr
    assert run(script, "show", PLANNER_BIND="local", **where).stdout.startswith("numactl --localalloc\n")
    assert "numactl" not in run(script, "show", PLANNER_BIND="off", **where).stdout
    wrong = attempt(script, "show", PLANNER_BIND="tight", **where)
    assert wrong.returncode == 1
    assert "use strict, soft, local or off" in wrong.stderr
    strange = attempt(script, "show", PLANNER_NODE="elsewhere", LOCAL_RANK="0")
    assert strange.returncode == 1
    assert "no local rank 0 on node elsewhere" in strange.stderr


@needs_bash
def test_own_numbering_of_devices_counts_from_zero(tmp_path: Path) -> None:
    """Where a process sees only the job's GPUs, they are numbered among themselves."""
    strategy = Strategy(tp=4)
    job = training_plan(strategy, ["node-0/gpu[4-7]"])
    case = Case(plan(job), topology(nodes("node-0")), workload(training_job()))
    script = install(tmp_path, files_of(case)) / "pretrain" / "bind.sh"
    where = {"PLANNER_NODE": "node-0", "LOCAL_RANK": "0"}
    assert "CUDA_VISIBLE_DEVICES=4,5,6,7" in run(script, "show", **where).stdout
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3" in run(script, "show", PLANNER_DEVICES="own", **where).stdout


@needs_bash
def test_launcher_finds_its_node_rank_by_host_name(tmp_path: Path) -> None:
    """launch.sh numbers nodes as the table lists them, meets at the first, and refuses other hosts."""
    folder = install(tmp_path, files_of(training(8))) / "pretrain"
    line = run(folder / "launch.sh", "--load=/ckpt", PLANNER_NODE="node-5.example.org").stdout
    for word in (
        "--nnodes=8",
        "--nproc-per-node=8",
        "--node-rank=5",
        "--rdzv-endpoint=node-0:29500",
        "--load=/ckpt",
    ):
        assert f"{word} " in line
    assert "bind.sh python3 pretrain_gpt.py --tensor-model-parallel-size=8 " in line
    other = run(
        folder / "launch.sh", PLANNER_NODE="node-1", MASTER_ADDR="10.0.0.1", TRAIN_SCRIPT="own.py"
    ).stdout
    assert "--rdzv-endpoint=10.0.0.1:29500" in other
    assert "bind.sh python3 own.py " in other
    strange = attempt(folder / "launch.sh", PLANNER_NODE="node-8")
    assert strange.returncode == 1
    assert "node-8 is not a node of the plan" in strange.stderr


def test_slurm_gets_whole_nodes_and_leaves_binding_to_the_plan() -> None:
    """The batch script names the planned nodes, takes their GPUs and turns SLURM's own binding off."""
    text = files_of(training(8))["pretrain/job.sbatch"]
    for line in (
        "#SBATCH --nodes=8", "#SBATCH --nodelist=node-[0-7]", "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gres=gpu:8", "#SBATCH --cpus-per-task=112", "#SBATCH --exclusive",
    ):  # fmt: skip
        assert f"{line}\n" in text
    assert "srun --cpu-bind=none " in text
    assert files_of(training(8))["pretrain/hostfile"].splitlines()[7] == "node-7 slots=8"


@needs_bash
def test_server_is_bound_to_the_memory_next_to_its_gpus(tmp_path: Path) -> None:
    """A replica on half a node uses that half's GPUs, cores and memory."""
    replica = Replica(name="r0", node="node-0", devices=["node-0/gpu[4-7]"])
    case = Case(plan(serving_plan([replica])), topology(nodes("node-0")), workload(serving_job()))
    text = files_of(case)["chat/r0/serve-0.sh"]
    assert "export CUDA_VISIBLE_DEVICES=4,5,6,7\n" in text
    script = install(tmp_path, files_of(case)) / "chat" / "r0" / "serve-0.sh"
    lines = run(script, "--seed=1", MODEL="/disk/toy").stdout.splitlines()
    assert lines[:2] == ["numactl --physcpubind=56-111", "numactl --membind=1"]
    assert lines[2].startswith("vllm serve /disk/toy --host=0.0.0.0 --port=8000 ")
    assert "--tensor-parallel-size=4 " in lines[2]
    assert lines[2].endswith("--seed=1 ")


@needs_bash
def test_servers_of_a_group_meet_at_the_first(tmp_path: Path) -> None:
    """Each node of a replica starts its own part, and all but the first serve no requests."""
    case = multi_node_service()
    assert files_of(case)["large/nodes"] == "node-1 replica-0/serve-1.sh\nnode-3 replica-0/serve-0.sh\n"
    folder = install(tmp_path, files_of(case)) / "large"
    line = run(folder / "start.sh", PLANNER_NODE="node-1").stdout.splitlines()[-1]
    for word in ("--nnodes=2", "--node-rank=1", "--master-addr=node-3", "--master-port=29500", "--headless"):
        assert f"{word} " in line
    assert attempt(folder / "start.sh", PLANNER_NODE="node-0").returncode == 1


def test_processes_that_share_a_host_get_ports_of_their_own() -> None:
    """Servers, stages and rendezvous of all jobs on one host listen on different ports."""
    replicas = [Replica(name=f"r{half}", node="node-0", devices=[f"node-0/gpu{half}"]) for half in range(3)]
    services = [
        serving_plan(replicas[:2], name="first", tp=1),
        serving_plan(replicas[2:], name="second", tp=1),
    ]
    trainers = [
        training_plan(Strategy(), [f"node-0/gpu{index}"], name=f"train-{index}", bound=bindings())
        for index in (4, 5)
    ]
    served, trained = map(serving_job, ("first", "second")), map(training_job, ("train-4", "train-5"))
    work = workload(*served, *trained)
    files = files_of(Case(plan(*services, *trainers), topology(nodes("node-0")), work))
    servers = [files[name] for name in ("first/r0/serve-0.sh", "first/r1/serve-0.sh", "second/r2/serve-0.sh")]
    assert [text.partition("--port=")[2][:4] for text in servers] == ["8000", "8001", "8002"]
    endpoints = [files[f"train-{index}/launch.sh"].partition("${MASTER_PORT:-")[2][:5] for index in (4, 5)]
    assert endpoints == ["29500", "29501"]


@needs_bash
def test_stage_workers_get_the_planned_cores(tmp_path: Path) -> None:
    """A CPU stage runs on its core list with its workers; the server is told where it listens."""
    case = riscv_stages(elsewhere=True)
    files = files_of(case)
    folder = install(tmp_path, files) / "vision" / "r0"
    lines = run(folder / "stage-resize.sh").stdout.splitlines()
    assert lines[:2] == ["numactl --physcpubind=16-23", "numactl --membind=0"]
    assert "PLANNER_WORKERS=4\0" in lines[2]
    assert "export PLANNER_STAGE_RESIZE=host-1:9001\n" in files["vision/r0/serve-0.sh"]
    assert files["vision/nodes"].splitlines()[0] == "host-0 r0/serve-0.sh"


def test_programs_of_the_target_replace_the_defaults() -> None:
    """Command, arguments and variables of a program are used, quoted."""
    program = Program(command=("my server",), arguments=("--flag=$(id)",), env={"A": "x y"})
    replica = Replica(name="r0", node="node-0", devices=["node-0/gpu[0-3]"])
    case = Case(
        plan(serving_plan([replica])),
        topology(nodes("node-0"), machines=[machine()]),
        workload(serving_job()),
    )
    text = files_of(case, Target(programs={"chat": program}))["chat/r0/serve-0.sh"]
    assert "  'my server'\n" in text
    assert "  '--flag=$(id)'\n" in text
    assert "[[ -v A ]] || export A='x y'\n" in text
