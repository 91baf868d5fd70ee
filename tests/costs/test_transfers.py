import pytest

from planner.costs import load_calibration, transfer_options
from planner.topology import PathClass, Route


def way(*, coherent: bool, rate: float = 50e9) -> Route:
    return Route(("numa0", "gpu0"), PathClass.PHB, rate, 1e-6, coherent, "measured")


def test_options_come_fastest_first_with_their_closed_forms() -> None:
    """1 MB at 50 GB/s: wire time 20 us plus what each mode adds."""
    number = load_calibration().number
    options = transfer_options(1e6, way(coherent=True), "ats", load_calibration())
    assert [option.seconds for option in options] == sorted(option.seconds for option in options)
    found = {option.mode: option.seconds for option in options}
    start = number("host_latency") + 1e-6
    assert found["pinned-copy"] == pytest.approx(start + 20e-6)
    assert found["pageable-copy"] == pytest.approx(start + 20e-6 / number("pageable_ratio"))
    assert found["managed"] == pytest.approx(number("host_latency") + 10 * number("managed_fault") + 20e-6)
    streaming = 20e-6 / number("coherent_access_efficiency")
    assert found["coherent"] == pytest.approx(number("coherent_latency") + streaming)


def test_small_messages_prefer_loads_and_large_ones_the_copy_engine() -> None:
    """A coherent load of 4 KB has no launch to wait for; a copy of 1 GB streams faster than loads."""
    calibration = load_calibration()
    small = transfer_options(4096, way(coherent=True), "ats", calibration)
    large = transfer_options(1e9, way(coherent=True), "ats", calibration)
    assert (small[0].mode, large[0].mode) == ("coherent", "pinned-copy")
