"""Running a study: the cache, a kill in the middle, a scenario that fails, processes and a Dask cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from planner.errors import SimulationError, StudyError
from planner.study.whatif import Outcome, StudyDocument, load_whatif, make_scenarios, run_study
from planner.study.whatif.running import Task, dask, local, serial
from tests.study.recommend.clusters import write_blocks
from tests.study.whatif.studies import study_in, write_study

STUDY = Path(__file__).resolve().parents[3] / "benchmarks" / "whatif_serving.yaml"


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


def _breaks() -> str:
    raise ValueError("a defect")


def test_a_defect_in_one_task_is_its_own_result(tmp_path: Path) -> None:
    """A task that raises what nobody expects is given up with the error; the other has its result."""
    results = dict(local(2)([(_breaks, ()), (_says, ("fine",))]))
    assert results[1] == "fine"
    assert "a defect" in results[0]
    assert '"lost":true' in results[0]


def test_a_plan_that_cannot_be_simulated_keeps_its_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulation that runs over costs its own figures only; the outcome says why, and is at hand again."""

    def over(*_: object, **__: object) -> None:
        raise SimulationError("requests wait ever longer")

    monkeypatch.setattr("planner.study.whatif.outcomes.simulate_plan", over)
    outcomes, solved, simulated = _run(tmp_path, tmp_path / "cache", rates="1 req/s")
    assert (solved, simulated) == (2, 2)
    for outcome in outcomes:
        assert outcome.message == "in simulation requests wait ever longer"
        assert outcome.metrics["objective"] > 0
        assert "simulated_latency_p99" not in outcome.metrics
    assert _run(tmp_path, tmp_path / "cache", rates="1 req/s") == (outcomes, 0, 0)


def test_plans_hold_their_limits_in_simulation_where_that_is_asked_for(tmp_path: Path) -> None:
    """A limit kept on paper alone is broken in the figures; with `hold_limits` no strategy is left."""
    write_blocks(tmp_path)
    fields = {
        "name": "held", "topology": "one.yaml", "workload": "chat.yaml",
        "vary": [{"parameter": "workload.jobs[chat].traffic.rate", "label": "rate", "values": ["150 req/s"]}],
    }  # fmt: skip
    found = {}
    for held in (False, True):
        study = StudyDocument.model_validate({**fields, "options": {"requests": 300, "hold_limits": held}})
        (found[held],), _ = run_study(make_scenarios(study, tmp_path), tmp_path / "cache", serial)
    assert found[False].metrics["tpot_p99"] <= 0.006 < found[False].metrics["simulated_tpot_p99"]
    assert found[False].metrics["simulated_slo_met"] == 0.0
    assert found[True].status == "infeasible"
    assert "in simulation" in found[True].message


def test_the_command_can_be_killed_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a kill in the middle the next run solves what was not finished, and ends as if undisturbed."""
    study, folder = (
        write_study(tmp_path, factors="1, 0.5, 0.2, 0.1", rates="1 req/s, 2 req/s"),
        tmp_path / "out",
    )
    command = [sys.executable, "-m", "planner", "whatif", str(study), "-o", str(folder)]
    kept = folder / "scenarios" / "solve"
    with subprocess.Popen([*command, "--processes", "2"], start_new_session=True) as running:
        deadline = time.monotonic() + 60.0
        while len(list(kept.glob("*.yaml"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    finished = len(list(kept.glob("*.yaml")))
    assert 2 <= finished < 8
    scenarios = make_scenarios(load_whatif(study), tmp_path)
    resumed, counts = run_study(scenarios, folder / "scenarios", serial)
    assert counts.solved == 8 - finished
    assert counts.reused == finished
    again, counts = run_study(scenarios, folder / "scenarios", serial)
    assert (counts.solved, counts.simulated) == (0, 0)
    fresh, _ = run_study(scenarios, tmp_path / "fresh", serial)
    assert resumed == again == fresh


def _agree_and_lose_nothing(study: StudyDocument, changed: StudyDocument, folder: Path, cache: Path) -> None:
    """Run a study on two processes and on a cluster that loses a worker; then change a fifth of it."""
    distributed = pytest.importorskip("distributed")
    scenarios = make_scenarios(study, folder)
    many = len(scenarios)
    here, counts = run_study(scenarios, cache / "processes", local(2))
    assert (counts.scenarios, counts.solved, counts.simulated) == (many, many, many)
    assert {outcome.status for outcome in here} <= {"optimal", "feasible", "infeasible"}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        execute, killed = dask(cluster.scheduler_address), list[int]()

        def losing(tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
            for done, result in enumerate(execute(tasks)):
                if done == many // 10 and not killed:
                    killed.append(victim)
                    os.kill(victim, signal.SIGKILL)
                yield result

        far, counts = run_study(scenarios, cache / "cluster", losing)
    assert killed
    assert far == here
    assert (counts.solved, counts.simulated) == (many, many)
    _, counts = run_study(make_scenarios(changed, folder), cache / "processes", local(2))
    assert (counts.solved, counts.simulated, counts.reused) == (many // 5, many // 5, many - many // 5)


def _with_rates(study: StudyDocument, **rates: object) -> StudyDocument:
    """Return a study with other values of its second parameter."""
    second = study.vary[1].model_copy(update=rates)
    return study.model_copy(update={"vary": [study.vary[0], second, *study.vary[2:]]})


@pytest.mark.slow
def test_200_scenarios_are_the_same_on_processes_and_on_a_cluster_that_loses_a_worker(tmp_path: Path) -> None:
    """Two processes and two Dask workers, one killed on the way, agree; a changed value re-solves a fifth."""
    study = load_whatif(STUDY)
    assert len(make_scenarios(study, STUDY.parent)) == 200
    changed = _with_rates(study, factors=[1.0, 1.75, 2.5, 3.25, 3.9])
    _agree_and_lose_nothing(study, changed, STUDY.parent, tmp_path)


def test_five_scenarios_agree_on_processes_and_on_a_cluster_that_loses_a_worker(tmp_path: Path) -> None:
    """What the slow test does with 200, on a machine that solves faster."""
    rates = [f"{rate} req/s" for rate in range(1, 6)]
    study = study_in(tmp_path, factors="1", rates=", ".join(rates))
    changed = _with_rates(study, values=[*rates[:4], "6 req/s"])
    _agree_and_lose_nothing(study, changed, tmp_path, tmp_path)


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    """The message names the address."""
    pytest.importorskip("distributed")
    with pytest.raises(StudyError, match=r"127\.0\.0\.1:9"):
        dask("tcp://127.0.0.1:9")
