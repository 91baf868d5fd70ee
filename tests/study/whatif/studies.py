"""A small study on a machine that solves in well under a second."""

from __future__ import annotations

from pathlib import Path

from planner.study.whatif import StudyDocument, load_whatif
from tests.cli.documents import SERVICE, write_inputs

QUICK = SERVICE.replace("  before:", "  degrees: {tp: [1, 2], pp: [1], replicas: [1]}\n  before:")
STUDY = """\
schema: study/1
name: sweep
topology: machine.yaml
workload: job.yaml
vary:
- {{parameter: "topology.machines[0].links[kind=nvlink].bandwidth", label: nvlink, factors: [{factors}]}}
- {{parameter: "workload.jobs[chat].traffic.rate", label: rate, values: [{rates}]}}
options: {{time_limit: 20 s, requests: 60}}
"""


def write_study(folder: Path, factors: str = "1, 0.01", rates: str = "1 req/s, 2 req/s") -> Path:
    """Write a study with its inputs and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_inputs(folder, workload=QUICK)
    path = folder / "sweep.yaml"
    path.write_text(STUDY.format(factors=factors, rates=rates), encoding="utf-8")
    return path


def study_in(folder: Path, factors: str = "1, 0.01", rates: str = "1 req/s, 2 req/s") -> StudyDocument:
    """Return the small study, written with its inputs."""
    return load_whatif(write_study(folder, factors, rates))
