"""Fits of collectives: known curves are found again, gaps are bridged, machines are pooled."""

from pathlib import Path

import numpy as np
import pytest

from planner.calibrate.collectives import PRIOR, Samples, filled, fit_surface, pooled, predict, uncontended
from planner.calibrate.crossings import Crossing, Moves, fit_crossing, moves_time
from planner.calibrate.exchange import fit_exchange
from planner.costs.expert_exchange import Exchange, exchange_time
from planner.costs.link_surfaces import CollectiveSurface


def truth(rate: float = 400e9) -> CollectiveSurface:
    """Return a machine that starts a little later than the prior and reaches a little less."""
    curve = PRIOR.model_copy(update={"start": 7e-6, "simple_rate": 0.85, "ll128_rate": 0.4})
    return CollectiveSurface(link="nvlink", rate=rate, source="made", curves={"ring": curve})


def measured(surface: CollectiveSurface, groups: tuple[float, ...] = (2.0, 4.0), step: int = 2) -> Samples:
    """Return what a machine would measure, noise left out."""
    sizes = np.asarray([float(2**p) for p in range(10, 29, step)])
    size, group, operation = (
        part.ravel() for part in np.meshgrid(sizes, groups, np.arange(3), indexing="ij")
    )
    seconds = np.empty(len(size))
    bare = Samples(operation.astype(np.int64), size, group, seconds, surface.rate, "nvlink", reduces=False)
    seconds[:] = predict(surface, bare)
    return bare


def test_a_machine_of_the_models_form_is_found_again_between_its_sizes() -> None:
    """Every fourth power of two fits; the powers between are predicted within two percent."""
    surface = fit_surface(measured(truth()), "made")
    between = measured(truth(), step=1)
    assert np.abs(predict(surface, between) / between.seconds - 1.0).mean() < 0.02
    assert surface.residual is not None and surface.residual < 0.02


def test_times_of_a_fitted_series_never_fall_with_size() -> None:
    """Noise of a measurement does not make a larger message quicker at the grid's sizes."""
    samples = measured(truth())
    samples.seconds[::5] *= 1.4
    surface = fit_surface(samples, "made")
    grid = np.asarray(surface.sizes)
    times, _ = surface.seconds("all_reduce", grid, np.full(len(grid), 4.0), surface.rate, reduces=False)
    assert (np.diff(times) >= -1e-3 * times[:-1]).all()


def test_a_sister_twice_as_fast_reaches_twice_the_rate_in_bulk() -> None:
    """Transfer keeps the shares and takes the sister's own links."""
    surface = fit_surface(measured(truth()), "made")
    size, group = np.asarray([2.0**34]), np.asarray([2.0])
    slow, fast = (surface.seconds("all_reduce", size, group, r, reduces=False)[0] for r in (400e9, 800e9))
    assert slow[0] / fast[0] == pytest.approx(2.0, rel=0.01)


def test_pooling_keeps_every_number_of_ranks_and_fills_what_a_machine_lacks() -> None:
    """Eight ranks measured on one machine serve the other, moved to its own level."""
    small = fit_surface(measured(truth()), "made")
    large = fit_surface(measured(truth(300e9), (2.0, 4.0, 8.0)), "made")
    common = pooled([small, large], "nvlink", "made")
    whole = filled(small, common)
    assert common.groups == whole.groups == [2.0, 4.0, 8.0]
    eight = measured(truth(), (8.0,))
    assert np.abs(predict(whole, eight) / eight.seconds - 1.0).mean() < 0.1


def test_a_box_nobody_measured_slows_with_its_ranks() -> None:
    """Bulk time per byte grows from a pair over four to eight ranks beyond the ring's traffic."""
    box = uncontended(None, 25e9)
    groups = np.asarray([2.0, 4.0, 8.0])
    times, _ = box.seconds("all_reduce", np.full(3, 2.0**30), groups, 25e9, reduces=False)
    assert (np.diff(times * groups / (groups - 1)) > 0).all()


def test_crossing_links_are_found_again() -> None:
    """Rate and latency of the network come back from sends and all-reduces across two nodes."""
    sizes = np.geomspace(1e5, 1e8, 12)
    ones = np.ones(24)
    moves = Moves(np.arange(24) % 2 == 0, np.repeat(sizes, 2), 2 * ones, ones)
    seconds = moves_time(moves, Crossing(12e9, 40e-6), None, 20e-6, 0.1)
    found = fit_crossing(moves, seconds, Crossing(45e9, 20e-6), None, 20e-6, 0.1)
    assert found.rate == pytest.approx(12e9, rel=0.05)
    assert found.latency == pytest.approx(40e-6, rel=0.2)


def test_an_exchange_of_the_models_form_is_found_again() -> None:
    """Fitted on one, two and eight nodes the model predicts four."""

    def batch(nodes: list[float]) -> Exchange:
        tokens = np.tile(np.geomspace(1, 1e5, 12), len(nodes))
        each = np.repeat(nodes, 12)
        return Exchange(tokens, 0 * each + 7168, 0 * each + 8, each, 0 * each + 20, 396e9, 50e9)

    numbers = np.asarray([35e-6, 25e-6, 3e-10, 2.0, 0.7, 0.1])
    seen, asked = batch([1.0, 2.0, 8.0]), batch([4.0])
    found = fit_exchange("normal", "dispatch", seen, exchange_time("normal", "dispatch", seen, numbers))
    guess, real = (exchange_time("normal", "dispatch", asked, one) for one in (found, numbers))
    assert np.abs(guess / real - 1.0).max() < 0.05


@pytest.mark.reference
def test_figures_on_the_measured_tables_hold(shared_data: Path) -> None:
    """What the documentation claims of the shared tables, each a little above the figure reached."""
    from benchmarks.collectives import run

    summary = run(shared_data / "measured-comm").summary
    assert summary["shipped: NCCL"] < 0.03
    assert summary["NCCL: every second size"] < 0.105
    assert summary["shipped: engine all-reduce"] < 0.06
    assert summary["left out: over nodes and pairs >= 1 MiB, a shape"] < 0.35
    assert summary["left out: DeepEP, a node count"] < 0.20
    assert summary["specification alone >= 256 MiB"] < 0.06
