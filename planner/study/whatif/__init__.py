"""What-if studies: vary any field of the inputs, solve and simulate each scenario, compare the outcomes."""

from planner.study.whatif.analysis import Change, Crossing, Swing, changes, crossings, pareto_front, swings
from planner.study.whatif.document import Options, Parameter, StudyDocument, load_whatif
from planner.study.whatif.outcomes import Outcome
from planner.study.whatif.running import Counts, Runner, run_study
from planner.study.whatif.scenarios import Scenario, make_scenarios

__all__ = [
    "Change",
    "Counts",
    "Crossing",
    "Options",
    "Outcome",
    "Parameter",
    "Runner",
    "Scenario",
    "StudyDocument",
    "Swing",
    "changes",
    "crossings",
    "load_whatif",
    "make_scenarios",
    "pareto_front",
    "run_study",
    "swings",
]
