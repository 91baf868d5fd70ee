"""Every figure of a machine is counted with its origin."""

from planner.report.names import DASH
from planner.report.origins import origins, provenance_counts
from tests.report import machines


def test_figures_are_found_with_their_place() -> None:
    """The rate of a link is found under the machine, with who stated it."""
    found = {origin.place: origin for origin in origins(machines.topology())}
    place = f"machines.dgx-h100.links.numa0 {DASH} numa1.bandwidth"
    assert (found[place].value, found[place].provenance) == ("62.0 GB/s", "assumed")
    assert found["devices.h100-sxm.peak.bf16"].value == "989 TFLOP/s"


def test_counts_add_up() -> None:
    """The counts by provenance add up to all figures, strongest first."""
    found = origins(machines.topology(nodes=2))
    counts = provenance_counts(found)
    assert sum(counts.values()) == len(found)
    assert list(counts) == ["measured", "vendor", "assumed"]
