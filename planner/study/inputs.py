"""The documents of a study: loaded together, named in a plan so that it finds them again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from planner.costs import Calibration, load_calibration
from planner.errors import DocumentError
from planner.errors import Problem as DocumentProblem
from planner.placement import InputReference, Inputs, Plan
from planner.placement.mixed import AnyProblem
from planner.topology import Topology, load_topology
from planner.workload import Workload, load_workload

T = TypeVar("T")

NAME_PART = 100
"""Characters of the name of an input that the name of a plan keeps."""


@dataclass(frozen=True)
class Sources:
    """The inputs of a solve as the user named them: files or presets.

    Attributes
    ----------
    folder
        Where the plan will lie; it names files relative to this folder, so that both can move together.
    """

    topology: str | Path
    workload: str | Path
    calibration: str | Path = "default"
    folder: Path | None = None

    def named(self, reference: str | Path) -> str:
        """Return what the plan says of one input: a preset's name, or the path of a file."""
        path = Path(reference)
        if self.folder is None or not path.is_file():
            return str(reference)
        return os.path.relpath(path.parent.resolve() / path.name, self.folder.resolve())


@dataclass(frozen=True)
class Documents:
    """The loaded inputs of a study."""

    topology: Topology
    workload: Workload
    calibration: Calibration

    @property
    def plan_name(self) -> str:
        """Name of the plans made from these inputs, short enough for a folder."""
        return f"{self.workload.name[:NAME_PART]}-on-{self.topology.name[:NAME_PART]}"

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each input by what it is."""
        return {
            "topology": self.topology.digest,
            "workload": self.workload.digest,
            "calibration": self.calibration.content_digest,
        }

    def references(self, sources: Sources | None) -> Inputs:
        """Return what a plan stores of its inputs."""
        digests = self.digests
        names = {
            "topology": self.topology.name,
            "workload": self.workload.name,
            "calibration": self.calibration.name,
        }

        def reference(what: str) -> InputReference:
            path = None if sources is None else sources.named(getattr(sources, what))
            return InputReference(name=names[what], digest=digests[what], path=path)

        return Inputs(**{what: reference(what) for what in names})


@dataclass(frozen=True)
class Study:
    """A plan with everything that it was made from.

    Attributes
    ----------
    problems
        The problem of each job by name.
    """

    topology: Topology
    workload: Workload
    calibration: Calibration
    problems: dict[str, AnyProblem]
    plan: Plan


def load_documents(sources: Sources) -> Documents:
    """Load all inputs; what is wrong with any of them is reported at once.

    Raises
    ------
    DocumentError
        If documents are malformed: the problems of all of them.
    PlannerError
        If an input is neither a file nor a preset.
    """
    problems: list[DocumentProblem] = []
    topology = _attempt(lambda: load_topology(sources.topology), problems)
    workload = _attempt(lambda: load_workload(sources.workload), problems)
    calibration = _attempt(lambda: load_calibration(sources.calibration), problems)
    if topology is None or workload is None or calibration is None:
        raise DocumentError(problems)
    return Documents(topology, workload, calibration)


def _attempt(load: Callable[[], T], problems: list[DocumentProblem]) -> T | None:
    try:
        return load()
    except DocumentError as error:
        problems.extend(error.problems)
        return None
