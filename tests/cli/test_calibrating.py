"""``planner calibrate`` and ``planner verify`` as a user meets them; nothing is measured here."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from planner.calibrate.run.items import Bench, Item, Run
from planner.calibrate.samples import Sampled, Samples, store
from planner.calibrate.torch_here import TorchMissingError
from planner.cli import cli
from planner.costs import load_calibration
from tests.calibrate.fakes import FakeDevice
from tests.calibrate.test_torch_here import torch_that


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Return a file of copies and products of a core."""
    items = [
        Sampled(
            item=f"copy {way} {size:g}", kind="copy", sizes={"bytes": float(size)},
            labels={"mode": "pinned-copy", "way": way}, seconds=[1e-6 + float(size) / 1e10] * 3,
        )
        for way in ("in", "out")
        for size in np.geomspace(1e3, 1e8, 12)
    ]  # fmt: skip
    items += [
        Sampled(
            item=f"gemm {m}x{n}", kind="gemm", sizes={"m": float(m), "n": float(n), "k": 512.0},
            labels={"dtype": "fp32"}, seconds=[2e-6 + 2.0 * m * n * 512 / 6e10],
        )
        for m in (4, 16, 64, 256)
        for n in (256, 512, 1024, 2048)
    ]  # fmt: skip
    path = tmp_path / "my.samples.yaml"
    store(Samples(name="mine", device="cpu-core", host="here", items=items, complete=True), path)
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_fit_writes_a_calibration_that_loads_and_show_plots_it(samples: Path, tmp_path: Path) -> None:
    """The figure is a PNG; the table names the fits."""
    out = tmp_path / "my.yaml"
    result = run("calibrate", "fit", samples, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["coefficients"]["pinned_copy_in"] == pytest.approx(1e10, rel=0.02)
    assert load_calibration(out).devices == ["cpu-core"]
    shown = run("calibrate", "show", out, "-o", tmp_path / "fit.png")
    assert shown.exit_code == 0, shown.output
    assert "cpu-core.gemm.fp32" in shown.output
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert "copy in 1000" in run("calibrate", "show", samples, "-v").output


def test_an_existing_calibration_is_not_replaced_unasked(samples: Path, tmp_path: Path) -> None:
    """With --force it is."""
    out = tmp_path / "my.yaml"
    out.write_text("mine", encoding="utf-8")
    assert run("calibrate", "fit", samples, "-o", out).exit_code == 1
    assert out.read_text(encoding="utf-8") == "mine"
    assert run("calibrate", "fit", samples, "-o", out, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--budget", "60 m"), "budget"),
        (("--budget", "-3s"), "budget"),
        (("--only", "gemmm"), "known: gemm"),
    ],
)
def test_wrong_options_are_usage_errors(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    """Exit code 2 with the option named."""
    result = run("calibrate", "run", "--device", "cpu", "-o", tmp_path / "c.yaml", *words)
    assert result.exit_code == 2
    assert text in result.output


def test_missing_torch_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, nothing is written."""

    def missing() -> None:
        raise TorchMissingError("No module named 'torch'")

    monkeypatch.setattr("planner.calibrate.run.backend.load_torch", missing)
    result = run("calibrate", "run", "--device", "cpu", "-o", tmp_path / "c.yaml")
    assert result.exit_code == 1
    assert "planner[torch]" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."), "driver"),
        (PermissionError(13, "Permission denied", "/dev/nvidiactl"), "Permission denied"),
        (None, "no GPU"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_one_clear_line(
    error: Exception | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old driver, no permission, no GPU: exit code 1 with a way out; samples from before stay."""
    monkeypatch.setattr("planner.calibrate.run.backend.load_torch", lambda: torch_that(error))
    before = tmp_path / "c.samples.yaml"
    before.write_text("measured before", encoding="utf-8")
    result = run("calibrate", "run", "--resume", "-o", tmp_path / "c.yaml")
    assert result.exit_code == 1
    assert words in result.output and "--device cpu" in result.output
    assert len(result.output.strip().splitlines()) <= 2
    assert before.read_text(encoding="utf-8") == "measured before"


def test_an_interrupt_keeps_and_fits_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle: exit code 0, samples and calibration of what there is; --resume does the rest."""
    begun: list[float] = []

    def prepare(size: float, bench: Bench) -> Run:
        begun.append(size)
        if len(begun) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return lambda loops: 1e-6 + size / 1e10

    items = [
        Item(f"copy {way} {size:g}", "copy", {"bytes": size}, {"mode": "pinned-copy", "way": way},
             partial(prepare, size))
        for way in ("in", "out") for size in (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
    ]  # fmt: skip
    monkeypatch.setattr("planner.calibrate.run.backend.backend_for", lambda kind, **rest: FakeDevice())
    monkeypatch.setattr("planner.calibrate.run.catalogue.all_items", lambda backend, ranks: items)
    words = ("calibrate", "run", "--device", "cpu", "--budget", "20s", "-o", tmp_path / "c.yaml", "--json")
    first = run(*words)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert (found["items"], found["skipped"][0]["reason"]) == (8, "interrupted before its turn")
    assert any("cut short" in warning for warning in found["warnings"])
    assert load_calibration(tmp_path / "c.yaml").number("pinned_copy_in") == pytest.approx(1e10, rel=0.02)
    second = json.loads(run(*words, "--resume").stdout)
    assert (second["items"], second["complete"]) == (12, True)


def test_import_then_fit(tmp_path: Path) -> None:
    """What a tool printed becomes samples of the device that is named."""
    log = tmp_path / "copies.log"
    log.write_text("cpu_to_gpu0_by_dma_under_numa0 26.2387\n", encoding="utf-8")
    out = tmp_path / "a100.samples.yaml"
    result = run("calibrate", "import", log, "--device", "a100-sxm-80", "-o", out)
    assert result.exit_code == 0, result.output
    assert run("calibrate", "fit", out, "-o", tmp_path / "a100.yaml").exit_code == 0
