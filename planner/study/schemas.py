"""Write the JSON Schemas of all document kinds: ``python -m planner.study.schemas FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from planner.calibrate.samples import Samples
from planner.calibrate.verification import Verification
from planner.costs import Calibration
from planner.deploy.target_document import TargetDocument
from planner.placement import Plan
from planner.schema import Document, json_schema, write_text_atomic
from planner.simulate.result import SimulationResult
from planner.simulate.scenario import Scenario
from planner.study.gates import Gates
from planner.study.whatif import StudyDocument
from planner.topology import DeviceCatalogue, TopologyDocument
from planner.workload import ModelDocument, WorkloadDocument

KINDS: tuple[type[Document], ...] = (
    TopologyDocument, DeviceCatalogue, WorkloadDocument, ModelDocument, Calibration, Plan, SimulationResult,
    Scenario, Samples, Verification, Gates, StudyDocument, TargetDocument,
)  # fmt: skip


def schema_files() -> dict[str, str]:
    """Return the text of every schema file by name."""
    return {
        f"{kind.kind}-{kind.version}.json": json.dumps(json_schema(kind), indent=2, sort_keys=True) + "\n"
        for kind in KINDS
    }


def write_schemas(folder: Path) -> list[Path]:
    """Write all schema files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in schema_files().items():
        write_text_atomic(folder / name, text)
        written.append(folder / name)
    return written


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
