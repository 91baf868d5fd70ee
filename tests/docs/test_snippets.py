"""Everything that the documentation shows works: commands run, documents load, Python parses."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from planner.cli import cli
from planner.deploy.target_document import TargetDocument
from planner.schema import loads
from planner.simulate import Scenario
from planner.study.gates import Gates
from planner.study.whatif import StudyDocument
from planner.topology import TopologyDocument
from planner.workload import WorkloadDocument
from tests.calibrate import test_imported, test_importers
from tests.cli.documents import MACHINE, SERVICE
from tests.conftest import REPOSITORY
from tests.docs.pages import blocks, pages, planner_calls, shell_lines
from tests.topology.importers import samples, samples_fabric

pytestmark = pytest.mark.docs

KINDS = {
    kind.kind: kind
    for kind in (TopologyDocument, WorkloadDocument, StudyDocument, Scenario, Gates, TargetDocument)
}
PAGES = [path.relative_to(REPOSITORY).as_posix() for path in pages(REPOSITORY)]
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(?:\.\.\.)?|\.\.\.|\[?FILE\]?\.*")


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page: str) -> None:
    """Every call of the program on a page names a command, and options, that there are."""
    for words in planner_calls(text_of(page)):
        command: click.Command = cli
        rest = list(words)
        context = click.Context(cli)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            for name in rest[0].split("|"):
                found = command.get_command(context, name)
                assert found is not None, f"{page}: planner {' '.join(words)}: no command {name!r}"
                inner = found
            command, rest = inner, rest[1:]
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        known |= {"--help", "-h", "--version", "--json"}
        if words[:2] == ["check", "k8s"]:
            known |= {"--version", "--schemas", "--target"}
        for word in rest:
            for option in re.findall(r"^-{1,2}[a-z][a-z-]*", word):
                assert option in known, f"{page}: planner {' '.join(words)}: no option {option}"


@pytest.mark.parametrize("page", PAGES)
def test_documents_load(page: str) -> None:
    """Every YAML block is a document that loads, a part of a workload completed to one, or plain YAML."""
    for block in blocks(text_of(page)):
        if block.language == "python":
            ast.parse(block.text)
        if block.language != "yaml":
            continue
        text = completed(block.text)
        header = re.search(r"^schema: ([a-z-]+)/", text, re.MULTILINE)
        if header is not None and len(yaml.safe_load(text)) == 1:  # the header alone
            assert header[1] in KINDS
        elif header is None:
            assert list(yaml.safe_load_all(text))
        elif "..." not in text:
            loads(text, KINDS[header[1]], page)


def completed(text: str) -> str:
    """Return a part of a workload inside the rest of one; anything else as it is."""
    head = "schema: workload/1\nname: shown\n"
    first = text.lstrip()
    if first.startswith("jobs:"):
        return head + text
    if first.startswith("- kind:"):
        return f"{head}jobs:\n{text}"
    if first.startswith(("degrees:", "precision:")):
        return SERVICE + "".join(f"  {line}\n" for line in text.splitlines())
    return text


def one_host(folder: Path) -> None:
    """Stage a machine that dumps were taken of."""
    dumps = {
        "topo.txt": samples.TOPO,
        "query.xml": samples.query(),
        "topology.conf": "SwitchName=s Nodes=n[0-1]\n",
    }
    for name in ("node-0.xml", "node-1.xml"):
        dumps[name] = samples.NCCL
    dumps["ibnetdiscover.out"] = samples_fabric.rail_fabric(["node-0", "node-1"], 2)
    dumps["job.yaml"] = SERVICE
    write(folder, dumps)


def measured(folder: Path) -> None:
    """Stage outputs of benchmarks."""
    write(folder, {"nvbandwidth.json": test_importers.BANDWIDTH, "all_reduce.log": test_imported.NCCL})


def planned(folder: Path) -> None:
    """Stage a plan, and the one before."""
    write(folder, {"machine.yaml": MACHINE, "job.yaml": SERVICE})
    for place in ("out", "main"):
        called(f"planner solve machine.yaml job.yaml -o {place}", folder)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def called(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in a folder; what it writes may be there already."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path, "COLUMNS": "100"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


STAGES: dict[str, Callable[[Path], None]] = {
    "docs/howto-bring-your-machine.md": one_host,
    "docs/howto-calibrate-and-verify.md": measured,
    "docs/howto-deploy-on-kubernetes.md": planned,
    "docs/howto-gate-a-roll-out.md": planned,
}
"""Files that a page takes for granted, by page."""
INSTEAD = {"--budget 60s": "--budget 4s", "my-cluster.yaml llama3-70b-serving": "my-cluster.yaml job.yaml"}
"""What is shorter in a test."""
ELSEWHERE = re.compile(r"nvidia-smi|kubectl|torchrun|lstopo|pareto")
"""Programs of other machines, and what takes minutes."""


@pytest.mark.parametrize("page", sorted(STAGES))
def test_commands_run(page: str, tmp_path: Path) -> None:
    """The commands of a how-to succeed, one after the other, in a folder with the files that it speaks of."""
    STAGES[page](tmp_path)
    ran = 0
    for line in shell_lines(text_of(page)):
        command = re.sub(r"\s+#.*", "", line)
        if ELSEWHERE.search(command):
            continue
        for shown, shorter in INSTEAD.items():
            command = command.replace(shown, shorter)
        words = shlex.split(command)
        target = tmp_path / words[words.index("-o") + 1] if "-o" in words else None
        if target is not None and target.is_file():
            target.unlink()
        found = called(command, tmp_path)
        assert found.returncode == 0, f"{command}: {found.stderr}"
        ran += 1
    assert ran
