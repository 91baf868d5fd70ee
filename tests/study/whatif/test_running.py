"""Running a study: the cache, a kill in the middle, a scenario that fails, processes and a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from planner.errors import StudyError
from planner.study.whatif import Outcome, make_scenarios, run_study
from planner.study.whatif.running import Task, dask, local, serial
from tests.study.whatif.studies import study_in


def _run(folder: Path, cache: Path, rates: str = "1 req/s, 2 req/s") -> tuple[list[Outcome], int, int]:
    outcomes, counts = run_study(make_scenarios(study_in(folder, rates=rates), folder), cache, serial)
    return outcomes, counts.solved, counts.simulated


def test_a_second_run_solves_only_what_changed(tmp_path: Path) -> None:
    """Nothing is done twice; one new value of one parameter costs one solve per value of the other."""
    first, solved, simulated = _run(tmp_path, tmp_path / "cache")
    assert (solved, simulated) == (4, 4)
    assert all(outcome.status == "optimal" for outcome in first)
    again, solved, simulated = _run(tmp_path, tmp_path / "cache")
    assert (solved, simulated) == (0, 0)
    assert again == first
    _, solved, simulated = _run(tmp_path, tmp_path / "cache", rates="1 req/s, 3 req/s")
    assert (solved, simulated) == (2, 2)


def test_a_study_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was finished before the kill is at hand, and the outcomes are those of an undisturbed run."""
    scenarios = make_scenarios(study_in(tmp_path), tmp_path)

    def killed(tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
        for number, result in serial(tasks):
            if number == 3:
                raise KeyboardInterrupt
            yield number, result

    with pytest.raises(KeyboardInterrupt):
        run_study(scenarios, tmp_path / "cache", killed)
    resumed, counts = run_study(scenarios, tmp_path / "cache", serial)
    assert counts.solved == 1
    fresh, _ = run_study(scenarios, tmp_path / "fresh", serial)
    assert resumed == fresh


def test_one_failed_scenario_never_loses_the_rest(tmp_path: Path) -> None:
    """A wrong value and an impossible rate have outcomes that say so beside the good one."""
    outcomes, _, _ = _run(tmp_path, tmp_path / "cache", rates="1 req/s, 2 GB, 99999 req/s")
    states = [outcome.status for outcome in outcomes]
    assert states[:3] == ["optimal", "failed", "infeasible"]
    assert "rate" in outcomes[1].message
    assert outcomes[0].metrics
    assert not outcomes[2].metrics


def _dies_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.touch()
        os._exit(1)
    return "survived"


def _says(text: str) -> str:
    return text


def _dies() -> str:
    os._exit(1)


def test_a_process_that_dies_costs_nobody_elses_work(tmp_path: Path) -> None:
    """A task whose process died runs again; one that always dies is given up, the others have results."""
    tasks: list[Task] = [
        (_says, ("one",)),
        (_dies_once, (str(tmp_path / "x"),)),
        (_dies, ()),
        (_says, ("two",)),
    ]
    results = dict(local(2)(tasks))
    assert results[0] == "one"
    assert results[1] == "survived"
    assert results[3] == "two"
    assert "metrics" in results[2]


def test_processes_and_a_dask_cluster_give_the_same_outcomes(tmp_path: Path) -> None:
    """Two local processes and a real cluster of two workers agree with a run in this process."""
    distributed = pytest.importorskip("distributed")
    scenarios = make_scenarios(study_in(tmp_path), tmp_path)
    here, _ = run_study(scenarios, tmp_path / "a", serial)
    there, _ = run_study(scenarios, tmp_path / "b", local(2))
    assert there == here
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        far, _ = run_study(scenarios, tmp_path / "c", dask(cluster.scheduler_address))
    assert far == here


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    """The message names the address."""
    pytest.importorskip("distributed")
    with pytest.raises(StudyError, match=r"127\.0\.0\.1:9"):
        dask("tcp://127.0.0.1:9")
