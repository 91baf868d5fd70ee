"""Real programs on what is written: kubectl kustomize, helm, Checkov; ``make test-k8s`` installs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.manifest_situations import Situation, situations
from planner.deploy import Target, kubernetes_bundle
from planner.deploy.platform import COMPONENTS, Platform

SITUATIONS = {one.name: one for one in situations()}
FOLDER = os.environ.get("PLANNER_K8S_TOOLS", "")


def tool(name: str) -> str:
    """Return the path of a program, or skip and say how it comes."""
    found = shutil.which(name, path=FOLDER) if FOLDER else None
    if found is None:
        pytest.skip(f"{name} is not installed; make test-k8s installs and runs it")
    return found


def written(folder: Path, one: Situation, target: Target) -> dict[str, str]:
    files = kubernetes_bundle(one.plan, one.topology, one.workload, target)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return files


def target(devices: str = "dra", **more: Any) -> Target:
    platform = Platform(devices=devices, driver="0.5", labels="topograph-1.0", **more)  # type: ignore[arg-type]
    return Target(version="1.37", platform=platform, own_priorities=True)


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def names(text: str) -> list[tuple[str, str]]:
    found = [one for one in yaml.safe_load_all(text) if one]
    return sorted((one["kind"], one["metadata"]["name"]) for one in found)


@pytest.mark.parametrize("name", SITUATIONS)
def test_kustomize_builds_base_overlays_and_root(name: str, tmp_path: Path) -> None:
    """kubectl builds each of them, and the objects are those of the files."""
    kubectl = tool("kubectl")
    files = written(tmp_path, SITUATIONS[name], target(components=COMPONENTS))
    base = [text for path, text in files.items() if path.startswith("base/") and "kustomization" not in path]
    added = [
        text for path, text in files.items() if path.startswith("components/") and "kustomization" not in path
    ]
    assert names(run(kubectl, "kustomize", tmp_path / "base")) == names("---\n".join(base))
    assert names(run(kubectl, "kustomize", tmp_path / "overlays/plain")) == names("---\n".join(base))
    for folder in (tmp_path / "overlays/observed", tmp_path):
        assert names(run(kubectl, "kustomize", folder)) == names("---\n".join([*base, *added]))


@pytest.mark.parametrize("name", SITUATIONS)
def test_helm_takes_the_chart(name: str, tmp_path: Path) -> None:
    """The chart passes strict lint and renders the objects of the base, with components on demand."""
    helm = tool("helm")
    files = written(tmp_path, SITUATIONS[name], target())
    base = [text for path, text in files.items() if path.startswith("base/") and "kustomization" not in path]
    run(helm, "lint", "--strict", tmp_path / "chart")
    plain = run(helm, "template", "x", tmp_path / "chart", "--kube-version", "1.37.0")
    assert names(plain) == names("---\n".join(base))
    more = run(
        helm,
        "template",
        "x",
        tmp_path / "chart",
        "--kube-version",
        "1.37.0",
        "--set",
        "components.agent=true",
    )
    assert ("DaemonSet", "planner-agent") in names(more)


def test_checkov_passes_nearly_everything(tmp_path: Path) -> None:
    """At least 98 % of Checkov's checks pass over all situations."""
    checkov = tool("checkov")
    for index, (name, one) in enumerate(SITUATIONS.items()):
        assert written(tmp_path / str(index), one, target("device-plugin")), name
        shutil.rmtree(tmp_path / str(index) / "chart")
    words = ["-d", str(tmp_path), "--framework", "kubernetes", "-o", "json", "--quiet", "--compact"]
    done = subprocess.run(
        [checkov, *words, "--skip-download"], capture_output=True, text=True, timeout=280, cwd=tmp_path
    )
    summary = json.loads(done.stdout)["summary"]
    passed, failed = summary["passed"], summary["failed"]
    assert passed > 500 and passed / (passed + failed) >= 0.98, done.stdout[-3000:]
