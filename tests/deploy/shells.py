"""Running launch scripts with stand-ins for the programs that they start."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="bash is not installed")

# Prints its name and arguments, then runs what follows `--` or the bind script, as the real program would.
NUMACTL = """#!/bin/bash
if [[ -n "${REFUSE:-}" && "$*" == *"$REFUSE"* ]]; then exit 1; fi
while [[ "$1" != -- ]]; do echo "numactl $1"; shift; done
shift
exec "$@"
"""
PRINT = """#!/bin/bash
printf '%s ' "${0##*/}" "$@"
echo
"""
SHOW = """#!/bin/bash
for name in RANK CUDA_VISIBLE_DEVICES NCCL_IB_HCA OMP_NUM_THREADS PLANNER_STAGE PLANNER_WORKERS; do
  [[ -v $name ]] && printf '%s=%s\\0' "$name" "${!name}"
done
printf 'argument=%s\\0' "$@"
"""
PROGRAMS = {
    "numactl": NUMACTL,
    "torchrun": PRINT,
    "vllm": PRINT,
    "stage-worker": SHOW,
    "show": SHOW,
    "srun": PRINT,
}


def install(folder: Path, files: Mapping[str, str]) -> Path:
    """Write launch files and stand-ins into a folder; return the folder of the launch files."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    for name, text in files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "files"


def attempt(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the stand-ins first in the path."""
    programs = next(parent for parent in script.parents if parent.name == "files").parent / "programs"
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": "/", **variables}
    assert BASH is not None
    command = [BASH, str(script), *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def run(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script that succeeds."""
    result = attempt(script, *arguments, **variables)
    assert result.returncode == 0, result.stderr
    return result


def syntax_errors(scripts: Mapping[str, str]) -> dict[str, str]:
    """Return what ``bash -n`` finds wrong with some scripts, by name."""
    assert BASH is not None
    found = {}
    for name, text in scripts.items():
        result = subprocess.run(
            [BASH, "-n"], input=text, capture_output=True, text=True, timeout=60, check=False
        )
        if result.returncode or result.stderr:
            found[name] = result.stderr
    return found
