"""The start-up script says what a process did not get, and starts it otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from planner.deploy import launch_files
from planner.deploy.verify_start import NAME, planned, verify_script
from tests.deploy.plans import riscv_stages, training
from tests.deploy.shells import BASH, attempt, install, needs_bash, run, syntax_errors

pytestmark = needs_bash
PLAN = ("0-3,8", "1", "2,3", "mlx5_0")


def fake(folder: Path, cpus: str = "0-3,8", mems: str = "0-1", policy: str = "bind:1") -> None:
    """Write what the kernel would show of a process and of a network port."""
    (folder / "proc").mkdir()
    status = f"Name:\tbash\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t{mems}\n"
    (folder / "proc" / "status").write_text(status, encoding="utf-8")
    (folder / "proc" / "numa_maps").write_text(f"55d0 {policy} file=/bin/bash\n", encoding="utf-8")
    (folder / "sys" / "class" / "infiniband" / "mlx5_0").mkdir(parents=True)


def verify(
    folder: Path, *words: str, mode: str = "strict", devices: str = "2,3", order: str = "PCI_BUS_ID"
) -> subprocess.CompletedProcess[str]:
    """Start ``echo`` through the script, with the faked values of a folder."""
    script = folder / NAME
    script.write_text(verify_script(), encoding="utf-8")
    environment = {
        "PATH": "/usr/bin:/bin", "PLANNER_PROC": str(folder / "proc"), "PLANNER_SYS": str(folder / "sys"),
        "PLANNER_VERIFY": mode, "CUDA_VISIBLE_DEVICES": devices, "CUDA_DEVICE_ORDER": order,
    }  # fmt: skip
    assert BASH is not None
    command = [BASH, str(script), *(words or PLAN), "echo", "started", "a b"]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def test_what_is_as_planned_starts_in_silence(tmp_path: Path) -> None:
    """Cores in any order, allowed memory, devices and ports as planned: the program runs."""
    fake(tmp_path, cpus="8,0-3")
    result = verify(tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "started a b\n", "")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cpus": "0-7"}, "runs on cores 0-7, planned are 0-3,8"),
        ({"cpus": "0-3"}, "runs on cores 0-3, planned are 0-3,8"),
        ({"mems": "0"}, "may not use memory of NUMA domain 1, allowed are 0"),
        ({"policy": "default"}, "memory policy is default, planned is bind:1"),
        ({"policy": "bind:0-1"}, "memory policy is bind:0-1, planned is bind:1"),
    ],
)
def test_a_binding_that_is_missing_is_named(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    """Strict ends before the program starts, warn says the same and starts it, off says nothing."""
    fake(tmp_path, **changed)
    strict = verify(tmp_path)
    assert (strict.returncode, strict.stdout) == (1, "")
    assert said in strict.stderr
    warned = verify(tmp_path, mode="warn")
    assert (warned.returncode, warned.stdout) == (0, "started a b\n")
    assert warned.stderr == f"verify.sh: {said}\n"
    assert verify(tmp_path, mode="off").stderr == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"devices": "0,1"}, "sees devices '0,1', planned are '2,3'"),
        ({"order": "FASTEST_FIRST"}, "CUDA_DEVICE_ORDER is not PCI_BUS_ID"),
        ({"mode": "loud"}, "use warn, strict or off"),
    ],
)
def test_other_devices_and_words_are_refused(tmp_path: Path, given: dict[str, str], said: str) -> None:
    """The variables are compared with the plan as they are when the program starts."""
    fake(tmp_path)
    result = verify(tmp_path, **given)
    assert result.returncode != 0
    assert said in result.stderr


def test_a_port_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """RDMA devices and interfaces both count."""
    fake(tmp_path)
    result = verify(tmp_path, *PLAN[:3], "mlx5_0,mlx5_1")
    assert result.returncode == 1
    assert "network port mlx5_1 does not exist" in result.stderr
    (tmp_path / "sys" / "class" / "net" / "mlx5_1").mkdir(parents=True)
    assert verify(tmp_path, *PLAN[:3], "mlx5_0,mlx5_1").returncode == 0


def test_nothing_planned_is_nothing_checked(tmp_path: Path) -> None:
    """A dash stands for what the plan leaves open."""
    fake(tmp_path, cpus="7", mems="9", policy="default")
    assert verify(tmp_path, "-", "-", "-", "-", devices="5", order="").stderr == ""


def test_the_own_process_is_looked_at(tmp_path: Path) -> None:
    """Without faked values the script reads the binding that it inherited itself."""
    script = tmp_path / NAME
    script.write_text(verify_script(), encoding="utf-8")
    assert BASH is not None
    command = [BASH, str(script), "100000", "-", "-", "-", "echo", "started"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert result.stdout == "started\n"
    assert "planned are 100000" in result.stderr


def test_every_service_starts_through_the_script(tmp_path: Path) -> None:
    """Replicas and CPU stages hand over the cores and domains that they bind; the script is bash."""
    assert syntax_errors({NAME: verify_script()}) == {}
    case = riscv_stages()
    files = launch_files(case.plan, case.topology, case.workload)
    starts = {name: text for name, text in files.items() if "/serve-" in name or "/stage-" in name}
    assert starts
    for name, text in starts.items():
        assert '"${bind[@]}" "${verify[@]}" "${program[@]}"' in text
        assert f"{name.split('/')[0]}/{NAME}" in files
    folder = install(tmp_path, files)
    stage = next(name for name in starts if "/stage-" in name)
    assert "argument" not in run(folder / stage, PLANNER_VERIFY="off").stderr
    refused = attempt(folder / stage, PLANNER_VERIFY="strict", PLANNER_PROC=str(_unlike(tmp_path)))
    assert refused.returncode == 1
    assert "verify.sh: runs on cores 9999" in refused.stderr


def _unlike(folder: Path) -> Path:
    """Return what the kernel would show of a process that runs elsewhere."""
    fake(folder, cpus="9999")
    return folder / "proc"


def test_words_of_the_plan() -> None:
    """Cores fold into ranges; names of ports lose the sign for exact names."""
    text = planned([0, 1, 2, 8], [1], {"CUDA_VISIBLE_DEVICES": "0,1"}, {"NCCL_IB_HCA": "=mlx5_0"})
    assert text.startswith("planned=(\n  0-2,8\n  1\n  0,1\n  mlx5_0\n)\n")
    assert planned([], [0, 1], {}, {"PLANNER_NICS": "a"}).startswith("planned=(\n  -\n  0,1\n  -\n  -\n)\n")


def rank(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a training rank: local rank 1 of the first node, GPU 1, cores 14-27 of domain 0."""
    case = training(8)
    if not (folder / "files").is_dir():
        install(folder, launch_files(case.plan, case.topology, case.workload))
    script = folder / "files" / "pretrain" / "bind.sh"
    faked = {"PLANNER_PROC": str(folder / "proc"), "PLANNER_SYS": str(folder / "sys")}
    faked["PLANNER_VERIFY"] = "strict"
    return attempt(script, "show", PLANNER_NODE="node-0", LOCAL_RANK="1", **(faked | environment))


def test_a_training_rank_starts_where_it_was_put(tmp_path: Path) -> None:
    """bind.sh starts the program through the script: cores, memory and ports as planned."""
    fake(tmp_path, cpus="14-27", mems="0-1", policy="bind:0")
    for number in range(1, 8):
        (tmp_path / "sys" / "class" / "infiniband" / f"mlx5_{number}").mkdir()
    result = rank(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "RANK=1" in result.stdout


def test_a_training_rank_says_what_it_did_not_get(tmp_path: Path) -> None:
    """Other cores and a missing port end a strict start; a warning starts it; looser binding checks less."""
    fake(tmp_path, cpus="0-13", mems="0-1", policy="bind:0")
    strict = rank(tmp_path)
    assert (strict.returncode, "RANK=" in strict.stdout) == (1, False)
    assert "runs on cores 0-13, planned are 14-27" in strict.stderr
    assert "network port mlx5_7 does not exist" in strict.stderr
    warned = rank(tmp_path, PLANNER_VERIFY="warn")
    assert (warned.returncode, "RANK=1" in warned.stdout) == (0, True)
    assert "cores" not in rank(tmp_path, PLANNER_BIND="local").stderr
    assert rank(tmp_path, PLANNER_VERIFY="off").stderr == ""
