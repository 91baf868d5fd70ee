"""Small documents that solve in well under a second, and a folder to run commands in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MACHINE = """\
schema: topology/1
name: small
machines:
- name: box
  numa:
  - name: numa0
    arch: x86_64
    cores: 16
    core_speed: 1.0
    vector_bits: 512
    memory: 256 GiB
    memory_bandwidth: 200 GB/s
  gpus:
  - {name: "gpu[0-1]", device: h100-sxm-80, numa: numa0}
  switches:
  - {name: pcie, kind: pcie}
  links:
  - {between: ["gpu[0-1]", pcie], kind: pcie, bandwidth: 50 GB/s, latency: 500 ns}
  - {between: [numa0, pcie], kind: pcie, bandwidth: 50 GB/s, latency: 500 ns}
  - {between: [gpu0, gpu1], kind: nvlink, bandwidth: 200 GB/s, latency: 500 ns}
"""
SERVICE = """\
schema: workload/1
name: chat
jobs:
- kind: serving
  name: chat
  model: llama3-8b
  traffic:
    rate: 2 req/s
    prompt: {mean: 500, cv: 0.5}
    output: {mean: 50, cv: 0.5}
  slo: {tpot_p99: 50 ms}
  before:
  - {name: tokenise, work: 2 ms, bytes_in: 2 kB, bytes_out: 2 kB}
"""
TRAINING = """\
schema: workload/1
name: train
jobs:
- kind: training
  name: train
  model: llama3-8b
  sequence: 2048
  global_batch: 32
  degrees: {cp: [1], virtual: [1]}
"""


def write_inputs(folder: Path, topology: str = MACHINE, workload: str = SERVICE) -> tuple[Path, Path]:
    """Write both documents into a folder and return their paths."""
    machine, job = folder / "machine.yaml", folder / "job.yaml"
    machine.write_text(topology, encoding="utf-8")
    job.write_text(workload, encoding="utf-8")
    return machine, job


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "planner", *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def only_json(text: str) -> dict[str, Any]:
    """Return the single JSON object that a text consists of."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    value = json.loads(lines[0])
    assert isinstance(value, dict)
    return value
