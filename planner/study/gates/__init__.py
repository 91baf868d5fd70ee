"""Gates: figures of plans, simulations, calibrations and live metrics against limits and a baseline."""

from planner.study.gates.checks import Check, Gates, default_gates
from planner.study.gates.evidence import Evidence, load_evidence
from planner.study.gates.judge import Outcome, Verdict, judge
from planner.study.gates.prometheus import Prometheus

__all__ = [
    "Check",
    "Evidence",
    "Gates",
    "Outcome",
    "Prometheus",
    "Verdict",
    "default_gates",
    "judge",
    "load_evidence",
]
