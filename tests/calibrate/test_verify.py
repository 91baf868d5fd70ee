"""The short form of a calibration and of a verification, for real: two processes over gloo on two cores."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from planner.calibrate.fit import fit_samples
from planner.calibrate.run.backend import Backend, backend_for
from planner.calibrate.run.catalogue import calibrate
from planner.calibrate.run.runner import Rules
from planner.calibrate.run.team import TeamError
from planner.calibrate.samples import Samples, load_samples
from planner.calibrate.verify import VerifyRules, verify_plan
from planner.costs import load_calibration
from planner.errors import CalibrationError
from planner.schema import dump_yaml
from planner.solve import Budget
from planner.study import Sources, Study, load_documents, solve
from planner.study.verify import refreshed

pytest.importorskip("torch", reason="measuring needs torch; make test installs it")

pytestmark = pytest.mark.filterwarnings("default")  # those of torch are not ours


@pytest.fixture(scope="module")
def core() -> Backend:
    return backend_for("cpu")


@pytest.fixture(scope="module")
def samples(core: Backend, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Return a few seconds' calibration of this host."""
    path = tmp_path_factory.mktemp("run") / "s.yaml"
    kinds = ("gemm", "prefill", "decode", "stream", "launch", "copy", "stage")
    found = calibrate(core, Rules(8.0, path=path), only=kinds)
    assert load_samples(path) == found
    return found


def study(samples: Samples, folder: Path, workload: str) -> Study:
    """Return the shipped small plan, solved with a calibration of this host."""
    path = folder / "host.yaml"
    path.write_text(dump_yaml(fit_samples(samples, load_calibration()).calibration), encoding="utf-8")
    sources = Sources("cpu-2", workload, path, folder)
    return solve(load_documents(sources), Budget(seconds=20.0), sources)


def test_a_few_seconds_calibrate_this_host_and_change_what_is_predicted(
    samples: Samples, tmp_path: Path
) -> None:
    """Every kind has items; the plan with the calibration promises other times than the one without."""
    assert {one.kind for one in samples.items} >= {"gemm", "stream", "copy"}
    calibrated = study(samples, tmp_path, "tiny-training")
    plain = Sources("cpu-2", "tiny-training")
    guessed = solve(load_documents(plain), Budget(seconds=20.0), plain)
    assert calibrated.plan.objective.value != pytest.approx(guessed.plan.objective.value, rel=0.01)
    assert load_calibration(tmp_path / "host.yaml").devices == ["cpu-core"]


def test_the_small_plan_is_verified_by_two_processes(
    core: Backend, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages, messages, copies and the CPU stage have a prediction and a measurement each.

    Short of time, stages have fewer layers and say so. The bound is loose: others may share the cores.
    """
    monkeypatch.setattr("planner.calibrate.verify_plan.MOST_STAGE_SECONDS", 0.05)
    found = study(samples, tmp_path, "tiny-image-serving")
    start = time.monotonic()
    result = verify_plan(
        found.plan, found.problems, found.topology, "host", core, VerifyRules(Rules(30.0))
    ).verification
    assert time.monotonic() - start < 75.0
    assert result.processes == 2
    assert {row.kind for row in result.rows} >= {"product", "stage", "pipeline"}
    assert all(row.predicted > 0.0 and row.measured > 0.0 for row in result.rows)
    assert all("of 15 layers" in row.note for row in result.rows if row.kind in ("stage", "pipeline"))
    assert "engine" in {one.item for one in result.unverified}
    products = sorted(abs(row.error) for row in result.rows if row.kind == "product")
    assert products[len(products) // 2] < 1.0


def test_one_process_says_what_it_cannot_run(core: Backend, samples: Samples, tmp_path: Path) -> None:
    """With fewer devices than planned, one stage of each kind runs and the rest is named."""
    found = study(samples, tmp_path, "tiny-training")
    rules = VerifyRules(Rules(3.0, stopped=lambda: True), processes=1)
    result = verify_plan(found.plan, found.problems, found.topology, "host", core, rules).verification
    missed = {one.item: one.reason for one in result.unverified}
    assert "needs 2 processes" in missed["training step"]
    assert "needs 2 processes" in missed["message between stages"]
    assert (result.rows, result.verdict) == ([], "nothing measured")


def test_processes_that_do_not_start_cost_only_their_items(
    core: Backend, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels of this process are measured all the same."""

    def refuse(backend: Backend, size: int) -> None:
        raise TeamError("rank 0 of 2 found no other process: no permission")

    monkeypatch.setattr("planner.calibrate.verify.open_team", refuse)
    found = study(samples, tmp_path, "tiny-training")
    rules = VerifyRules(Rules(2.0))
    result = verify_plan(found.plan, found.problems, found.topology, "host", core, rules).verification
    assert {row.kind for row in result.rows} <= {"product", "attention"}
    assert result.rows
    assert any("no permission" in one.reason for one in result.unverified)


def test_a_plan_for_another_device_is_refused(core: Backend) -> None:
    """Times of a host's core say nothing of an H100."""
    sources = Sources("dgx-h100", "llama3-70b-serving")
    found = solve(load_documents(sources), Budget(seconds=20.0), sources)
    with pytest.raises(CalibrationError, match=r"'h100-sxm-80'.*'cpu-core'"):
        verify_plan(found.plan, found.problems, found.topology, "default", core, VerifyRules(Rules(1.0)))


def test_a_refreshed_calibration_keeps_what_was_not_measured_anew(samples: Samples) -> None:
    """Coefficients of the same host stay, unless the new samples tell them."""
    base = load_calibration()
    first = fit_samples(samples, base).calibration
    copies = samples.model_copy(update={"items": samples.of("copy")})
    again = refreshed(first, copies)
    assert again is not None
    assert again.kernels == first.kernels
    assert again.number("memory_efficiency") == first.number("memory_efficiency")
    assert again.number("pinned_copy_in") == first.number("pinned_copy_in")
    assert refreshed(first, samples.model_copy(update={"items": []})) is None
