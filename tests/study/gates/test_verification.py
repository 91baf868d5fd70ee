"""Verifications as evidence: the median error of a plan's predictions opens or closes the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.calibrate.verification import Verification, Verified
from planner.schema import dump_yaml
from planner.study.gates import default_gates, judge, load_evidence


def verification(*measured: float) -> Verification:
    """Return items that were each predicted to take a second."""
    rows = [
        Verified(item=str(n), kind="stage", predicted=1.0, measured=one, spread=0.0, samples=5)
        for n, one in enumerate(measured)
    ]
    return Verification(
        name="small", plan="p", topology="t", calibration="default", device="cpu-core", rows=rows
    )


@pytest.mark.parametrize(("measured", "ok"), [((1.0, 1.1, 3.0), True), ((1.5, 1.4, 1.0), False), ((), False)])
def test_the_median_error_decides(measured: tuple[float, ...], ok: bool, tmp_path: Path) -> None:
    """One bad item does not fail a plan, two of three do, and so does a run that measured nothing."""
    path = tmp_path / "v.yaml"
    path.write_text(dump_yaml(verification(*measured)), encoding="utf-8")
    gates = default_gates({"verification"}, baseline=False)
    assert judge(gates, load_evidence([path]), None, None).ok is ok


def test_the_verdict_says_whether_predictions_hold() -> None:
    """Within a fifth, beyond it, or nothing to say."""
    assert verification(1.1, 1.1, 9.0).verdict == "holds"
    assert verification(1.5, 1.5, 1.0).verdict == "off"
    assert verification().verdict == "nothing measured"
    assert verification(0.5).rows[0].error == pytest.approx(1.0)
