"""Tables of verifications say what the columns beside an error do not show."""

from __future__ import annotations

import pytest

from planner.calibrate.verification import Verification, Verified
from planner.report.measured import verification_table


@pytest.mark.parametrize(("pace", "said"), [(1.0, False), (1.3, True)])
def test_the_pace_is_said_where_it_is_in_the_errors(pace: float, said: bool) -> None:
    """Errors that are not those of the two columns beside them come with the reason."""
    row = Verified(item="a", kind="stage", predicted=1.0, measured=1.3, pace=pace, spread=0.0, samples=5)
    found = Verification(
        schema_="verification/1", name="v", plan="p", topology="t", calibration="c", device="cpu-core",
        tolerance=0.2, rows=[row],
    )  # fmt: skip
    notes = verification_table(found).notes
    assert any("at the calibration's pace" in note for note in notes) == said
