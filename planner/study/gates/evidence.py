"""The documents that a gate looks at, one of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from planner.calibrate.verification import Verification
from planner.costs import Calibration
from planner.errors import GateError
from planner.placement.plan import Plan
from planner.schema import Document, load_any
from planner.simulate.result import SimulationResult
from planner.study.gates.metrics import METRICS, Reading

KINDS: dict[str, type[Document]] = {
    kind.kind: kind for kind in (Plan, SimulationResult, Calibration, Verification)
}


@dataclass(frozen=True)
class Evidence:
    """Documents by kind."""

    documents: dict[str, Document]

    def readings(self, metric: str, job: str | None) -> list[Reading]:
        """Return the values of a figure, of one job or of all; none where the document is absent."""
        known = METRICS[metric]
        document = self.documents.get(known.document)
        if document is None:
            return []
        return [one for one in known.read(document) if job is None or one.job == job]

    @property
    def machine(self) -> str | None:
        """Digest of the topology of the plan, else of the verification; ``None`` without either."""
        plan, verified = self.documents.get("plan"), self.documents.get("verification")
        if isinstance(plan, Plan):
            return plan.inputs.topology.digest
        return verified.topology if isinstance(verified, Verification) else None

    def mismatches(self) -> Iterator[str]:
        """Yield what keeps the documents from belonging together: a result of another plan."""
        plan, result = self.documents.get("plan"), self.documents.get("simulation")
        verified = self.documents.get("verification")
        if not isinstance(plan, Plan):
            return
        if isinstance(result, SimulationResult) and result.plan_digest != plan.content_digest:
            yield "the simulation is of another plan than the one given"
        if isinstance(verified, Verification) and verified.plan != plan.content_digest:
            yield "the verification is of another plan than the one given"


def load_evidence(files: Iterable[Path]) -> Evidence:
    """Load documents of different kinds.

    Raises
    ------
    GateError
        If two are of one kind.
    DocumentError
        If one cannot be read.
    """
    documents: dict[str, Document] = {}
    for path in files:
        document = load_any(path, KINDS)
        if document.kind in documents:
            raise GateError(
                f"{path}: a second {document.kind}; give one, and the one to compare with as --baseline"
            )
        documents[document.kind] = document
    return Evidence(documents)
