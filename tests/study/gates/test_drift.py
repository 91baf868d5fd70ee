"""Drift of a calibration: coefficients, kernels and collectives against a stored one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.calibrate.fit import fit_samples
from planner.calibrate.samples import Sampled, Samples
from planner.costs import Calibration, load_calibration
from planner.schema import dump_yaml
from planner.study.gates import Evidence, default_gates, judge, load_evidence
from planner.study.gates.drift import drift


def measured(copies: float = 1.0, products: float = 1.0, messages: float = 1.0) -> Calibration:
    """Return a calibration of an H100 whose copies, products and collectives take so many times longer."""
    items = [
        Sampled(
            item=f"copy {size:g}", kind="copy", sizes={"bytes": float(size)},
            labels={"mode": "pinned-copy", "way": "in"}, seconds=[8e-6 + copies * size / 55e9],
        )
        for size in np.geomspace(1e3, 1e9, 12)
    ]  # fmt: skip
    items += [
        Sampled(
            item=f"gemm {m}x{n}", kind="gemm", sizes={"m": float(m), "n": float(n), "k": 4096.0},
            labels={"dtype": "bf16"}, seconds=[products * (5e-6 + 2.0 * m * n * 4096 / 6e14)],
        )
        for m in (64, 256, 1024, 4096)
        for n in (1024, 4096, 16384)
    ]  # fmt: skip
    items += [
        Sampled(
            item=f"all_reduce {size:g} x{ranks}", kind="collective",
            sizes={"bytes": float(size), "ranks": float(ranks)}, labels={"operation": "all_reduce"},
            seconds=[messages * (2e-5 + 2.0 * (ranks - 1) / ranks * size / 3e11)],
        )
        for size in np.geomspace(1e4, 1e9, 11)
        for ranks in (2, 4, 8)
    ]  # fmt: skip
    samples = Samples(name="s", device="h100-sxm-80", items=items, complete=True)
    return fit_samples(samples, load_calibration()).calibration


BEFORE = measured()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"copies": 1.3}, "pinned_copy_in"),
        ({"products": 1.3}, "h100-sxm-80.gemm.bf16"),
        ({"messages": 1.3}, "all-reduce of h100-sxm-80"),
    ],
)
def test_what_became_slower_is_named(changed: dict[str, float], name: str, tmp_path: Path) -> None:
    """30 % on any of the three closes the default gate and says which; 3 % does not."""
    after = measured(**changed)
    found = drift(after, BEFORE)
    assert found is not None
    assert found.value == pytest.approx(0.25, abs=0.08)
    assert found.job == name
    files = {"now.yaml": after, "before.yaml": BEFORE}
    for file, document in files.items():
        (tmp_path / file).write_text(dump_yaml(document), encoding="utf-8")
    now, before = (load_evidence([tmp_path / file]) for file in files)
    verdict = judge(default_gates({"calibration"}, baseline=True), now, before)
    assert [one.name for one in verdict.failures] == ["drift of the calibration"]
    assert name in verdict.failures[0].text
    slight = Evidence({"calibration": measured(**dict.fromkeys(changed, 1.03))})
    assert judge(default_gates({"calibration"}, baseline=True), slight, before).ok


def test_calibrations_of_other_things_have_no_drift() -> None:
    """Nothing in common is missing, and missing fails."""
    other = BEFORE.model_copy(update={"coefficients": {}, "kernels": {}, "collectives": {}})
    assert drift(BEFORE, other) is None
    verdict = judge(
        default_gates({"calibration"}, baseline=True), Evidence({"calibration": BEFORE}),
        Evidence({"calibration": other}),
    )  # fmt: skip
    assert [one.state for one in verdict.failures] == ["missing"]
    same = drift(BEFORE, BEFORE)
    assert same is not None and same.value == 0.0
