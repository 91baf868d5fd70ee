from dataclasses import replace

import numpy as np
import pytest

from planner.calibrate.training import fit_training, with_values
from planner.calibrate.training_batch import Batch, batch
from planner.calibrate.training_machines import links
from planner.calibrate.training_runs import Run, read_runs
from planner.costs import load_calibration
from planner.costs.stacks import stack_coefficients
from planner.topology import find_device, load_topology
from planner.topology.resolve import shipped_devices

CALIBRATION = load_calibration()


def runs(stack: str = "ours") -> list[Run]:
    """Return runs of two sizes on A100 with several degrees."""
    rows = [
        {
            "gpu": "A100-SXM-80", "stack": stack, "num_gpus": "64", "gpus_per_node": "8", "seq_len": "2048",
            "gbs": "512", "mbs": mbs, "tp": tp, "pp": pp, "hidden": hidden, "layers": layers,
            "recompute": "full", "vp": "1", "step_time_s": "1",
        }
        for hidden, layers in (("3072", "30"), ("8192", "48"))
        for tp, pp in (("1", "1"), ("2", "1"), ("4", "2"), ("8", "1"))
        for mbs in ("1", "4", "8")
    ]  # fmt: skip
    return [one for one in read_runs(rows) if isinstance(one, Run)]


def with_times(many: Batch, times: np.ndarray) -> Batch:
    measured = [replace(run, measured=float(time)) for run, time in zip(many.runs, times, strict=True)]
    return replace(many, runs=tuple(measured))


def test_a_fit_recovers_a_slower_stack_from_its_times() -> None:
    """Runs made with other coefficients are predicted within 2 % after a fit, within 10 % nowhere before."""
    values = {"training.ours.gemm": 1.45, "training.ours.tensor": 1.8, "training.ours.elementwise": 2.5}
    made = batch(runs(), CALIBRATION)
    truth = made.entry_times(made.coefficients(with_values(CALIBRATION, values)))
    seen = with_times(made, truth)
    before = made.entry_times(made.coefficients(with_values(CALIBRATION, {})))
    fitted = with_values(CALIBRATION, fit_training(seen, CALIBRATION))
    after = made.entry_times(made.coefficients(fitted))
    assert np.abs(before / truth - 1).mean() > 0.10
    assert np.abs(after / truth - 1).mean() < 0.02


def test_coefficients_without_effect_stay_at_the_stated_values() -> None:
    """A dense model on one domain says nothing of experts."""
    made = batch(runs(), CALIBRATION)
    found = fit_training(with_times(made, made.entry_times(made.coefficients(CALIBRATION))), CALIBRATION)
    stated = CALIBRATION.number("training.stated.expert")
    assert found["training.ours.expert"] == pytest.approx(stated)


def test_a_release_takes_the_factors_of_the_one_before() -> None:
    """A release without runs of its own takes those of the newest earlier one; one before all, the first."""
    values = {"training.ours.gemm": 1.0, "training.ours/25.04.gemm": 1.5, "training.ours/26.02.gemm": 2.0}
    calibration = with_values(CALIBRATION, values)
    found = {tag: stack_coefficients(calibration, f"ours@{tag}").gemm for tag in ("24.01", "25.11", "26.08")}
    assert found == {"24.01": 1.5, "25.11": 1.5, "26.08": 2.0}


def test_an_unknown_stack_takes_the_default() -> None:
    """What no run is known of is priced with the coefficients of all stacks."""
    assert stack_coefficients(CALIBRATION, "unheard-of") == stack_coefficients(CALIBRATION, None)


def test_only_some_runs_give_the_same_times() -> None:
    """A batch cut down to some runs predicts them as the whole one does."""
    made = batch(runs(), CALIBRATION)
    places = np.asarray([7, 3, 11])
    some = made.only(places)
    whole = made.predicted(made.entry_times(made.coefficients(CALIBRATION)))
    assert some.predicted(some.entry_times(some.coefficients(CALIBRATION))) == pytest.approx(whole[places])


def test_the_machine_that_stands_for_a_device_has_its_kind_of_gpu() -> None:
    """By model, by architecture, else the last; each entry cites a source, each machine has ports."""
    catalogue = shipped_devices()
    for entry in catalogue.usual_machines:
        assert entry.source in catalogue.sources and entry.network_latency.source in catalogue.sources
        topology = load_topology(entry.machine)
        device = topology.device(topology.gpus[0])
        assert device.architecture.endswith(entry.architecture or device.architecture)
        assert entry.device in (None, device.name) or entry.source == "mesh-8"
        assert links(entry.machine, 2e-6, len(topology.nodes[0].machine.gpus), None).levels[-1].rate > 0.0
    names = ("h200-sxm", "a10g", "mi60")
    named = {name: catalogue.usual_machine(find_device(name)).machine for name in names}
    assert named == {"h200-sxm": "hgx-h200", "a10g": "dgx-a100", "mi60": "dgx-h100"}
