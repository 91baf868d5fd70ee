from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import units
from planner.errors import UnitError

DIMENSIONS = sorted(units.DIMENSIONS)


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("900 GB/s", "bytes/s", 900e9),
        ("400 Gbit/s", "bytes/s", 50e9),
        ("1 GiB/s", "bytes/s", 2.0**30),
        ("80 GiB", "bytes", 80 * 2.0**30),
        ("80 GB", "bytes", 80e9),
        ("8 bit", "bytes", 1.0),
        ("350 ns", "s", 350e-9),
        ("0.1 us", "s", 1e-7),
        ("3 µs", "s", 3e-6),
        ("3 μs", "s", 3e-6),
        ("10 ms", "s", 0.01),
        ("5 min", "s", 300.0),
        ("1.5 h", "s", 5400.0),
        ("2 d", "s", 172800.0),
        ("66.9 TFLOP/s", "FLOP/s", 66.9e12),
        ("2.5 GFLOP", "FLOP", 2.5e9),
        ("2.6 GHz", "Hz", 2.6e9),
        ("700 W", "W", 700.0),
        ("1.2kW", "W", 1200.0),
        ("5 /s", "1/s", 5.0),
        ("5 req/s", "1/s", 5.0),
        ("60 req/min", "1/s", 1.0),
        ("3600 /h", "1/s", 1.0),
        ("4096", "tokens", 4096.0),
        ("2 ktokens", "tokens", 2000.0),
        ("98.32 USD/h", "USD/h", 98.32),
        ("85 %", "1", 0.85),
        ("0.85", "1", 0.85),
        ("1e3 GB", "bytes", 1e12),
        ("  7   MB ", "bytes", 7e6),
        (".5 GB", "bytes", 5e8),
        ("0", "bytes", 0.0),
        (0, "bytes", 0.0),
        (0.0, "s", 0.0),
        (0.85, "1", 0.85),
        (4096, "tokens", 4096.0),
    ],
)
def test_parse_returns_the_si_value(text: object, dimension: str, expected: float) -> None:
    """Every accepted spelling is the correctly rounded SI float."""
    assert units.parse(text, dimension) == expected


@pytest.mark.parametrize("dimension", sorted(set(DIMENSIONS) - {"1", "tokens"}))
def test_bare_numbers_are_refused_with_an_example(dimension: str) -> None:
    """A number without a unit could mean anything, as text and as number."""
    for bare in (5, 5.0, "5"):
        with pytest.raises(UnitError, match=re.escape(units.DIMENSIONS[dimension].examples[0])):
            units.parse(bare, dimension)


@pytest.mark.parametrize(
    ("text", "dimension", "meant"),
    [
        ("5 GBps", "bytes/s", "GB/s"),
        ("5 Gbps", "bytes/s", "Gbit/s"),
        ("5 Gb/s", "bytes/s", "Gbit/s"),
        ("5 gb/s", "bytes/s", "GB/s"),
        ("5 GB/sec", "bytes/s", "GB/s"),
        ("5 GB", "bytes/s", "GB/s"),
        ("5 KB", "bytes", "kB"),
        ("5 gib", "bytes", "GiB"),
        ("5 TFLOPS", "FLOP/s", "TFLOP/s"),
        ("5 TFLOPs", "FLOP/s", "TFLOP/s"),
        ("5 ghz", "Hz", "GHz"),
        ("5 reqs/s", "1/s", "req/s"),
        ("5 $/h", "USD/h", None),
        ("5 parsec", "bytes", None),
    ],
)
def test_a_wrong_unit_is_answered_with_the_nearest_right_one(
    text: str, dimension: str, meant: str | None
) -> None:
    """The suggestion respects b for bit and B for byte; far-fetched ones are left out."""
    with pytest.raises(UnitError) as caught:
        units.parse(text, dimension)
    assert ("did you mean" in str(caught.value)) == (meant is not None)
    assert meant is None or f'did you mean "{meant}"?' in str(caught.value)


def test_another_dimension_is_named() -> None:
    """The message says what was given and what was expected."""
    with pytest.raises(UnitError, match=r"'5 GB' is a size; expected a time such as \"350 ns\""):
        units.parse("5 GB", "s")


@pytest.mark.parametrize(
    "text",
    [
        *("nan", "inf", "-5 s", "1e999 s", "1e99999999999 s", "", "s", "1,000 s", "5 s s", "5\x00s"),
        *("1" * 200 + " s", None, True, [], {}, math.nan, math.inf, -1, -1.0, 10**400, b"5 s", object()),
    ],
)
def test_what_no_quantity_can_be_is_refused(text: object) -> None:
    """Neither odd values nor odd types pass, and none of them ends in another error."""
    with pytest.raises(UnitError):
        units.parse(text, "s")


def test_an_unknown_dimension_is_a_programming_error() -> None:
    """The caller, not the document, is wrong."""
    with pytest.raises(ValueError, match="unknown dimension 'parsec'"):
        units.parse("5 s", "parsec")


@given(st.text(max_size=30), st.sampled_from(DIMENSIONS))
def test_parse_never_fails_otherwise(text: str, dimension: str) -> None:
    """Any text gives a finite value, not negative, or a unit error."""
    try:
        value = units.parse(text, dimension)
    except UnitError:
        return
    assert math.isfinite(value)
    assert value >= 0


SIZES = st.floats(min_value=0, max_value=1e300, allow_nan=False)


@given(st.one_of(SIZES, st.integers(0, 2**60).map(float)), st.sampled_from(DIMENSIONS))
def test_dumps_reads_back_exactly(value: float, dimension: str) -> None:
    """What a document stores is the very same number."""
    text = units.dumps(value, dimension)
    assert units.parse(text, dimension) == value
    assert re.search(units.pattern(dimension), text)


@given(st.floats(min_value=1e-12, max_value=1e24), st.sampled_from(DIMENSIONS))
def test_show_is_close_to_the_value(value: float, dimension: str) -> None:
    """Three significant digits are within half a per cent."""
    assert units.parse(units.show(value, dimension), dimension) == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=0, max_value=1e24), st.sampled_from(DIMENSIONS), st.data())
def test_the_pattern_accepts_what_parse_accepts(value: float, dimension: str, data: st.DataObject) -> None:
    """An editor that uses the JSON Schema agrees with the program."""
    suffix = data.draw(st.sampled_from(sorted({s for d in units.DIMENSIONS.values() for s in d.suffixes})))
    text = f"{value!r} {suffix}"
    try:
        units.parse(text, dimension)
    except UnitError:
        assert not re.search(units.pattern(dimension), text)
    else:
        assert re.search(units.pattern(dimension), text)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (450e9, "bytes/s", "450 GB/s"),
        (80e9, "bytes", "80.0 GB"),
        (80 * 2.0**30, "bytes", "85.9 GB"),
        (999.6e9, "bytes", "1.00 TB"),
        (0.0, "bytes", "0 B"),
        (1.24, "s", "1.24 s"),
        (350e-9, "s", "350 ns"),
        (600.0, "s", "600 s"),
        (3600.0, "s", "60.0 min"),
        (5 * 3600.0, "s", "5.00 h"),
        (10 * 86400.0, "s", "10.0 d"),
        (-2e-3, "s", "-2.00 ms"),
        (math.inf, "s", "inf s"),
        (66.9e12, "FLOP/s", "66.9 TFLOP/s"),
        (2.6e9, "Hz", "2.60 GHz"),
        (700.0, "W", "700 W"),
        (12345.0, "1/s", "12345 /s"),
        (4096.0, "tokens", "4096 tokens"),
        (15e12, "tokens", "15.0 Ttokens"),
        (98.32, "USD/h", "98.32 USD/h"),
        (0.85, "1", "0.85"),
        (2.0, "1", "2"),
    ],
)
def test_show_reads_well(value: float, dimension: str, text: str) -> None:
    """People see three or four digits and a decimal prefix."""
    assert units.show(value, dimension) == text


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (450e9, "bytes/s", "450 GB/s"),
        (80 * 2.0**30, "bytes", "80 GiB"),
        (80e9, "bytes", "80 GB"),
        (1024.0, "bytes", "1 KiB"),
        (350e-9, "s", "350 ns"),
        (5400.0, "s", "5400 s"),
        (0.85, "1", "0.85"),
        (0.0, "W", "0 W"),
    ],
)
def test_dumps_reads_well(value: float, dimension: str, text: str) -> None:
    """Documents that the program writes look as a person would write them."""
    assert units.dumps(value, dimension) == text


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_dumps_refuses_what_could_not_be_read_back(value: float) -> None:
    """No document gets a quantity that the loader would refuse."""
    with pytest.raises(UnitError):
        units.dumps(value, "s")


def test_a_parser_takes_python_numbers_as_si() -> None:
    """Code states SI numbers, NumPy's included; documents state text."""
    read = units.parser("bytes/s")
    assert read("450 GB/s") == read(450e9) == read(450 * 10**9) == read(np.float64(450e9)) == 450e9
    assert read(np.int64(7)) == 7.0
    assert type(read(np.float32(7))) is float


@pytest.mark.parametrize("value", [True, None, [], -1.0, math.nan, math.inf, 10**400, 1j])
def test_a_parser_refuses_the_rest_as_a_value_error(value: object) -> None:
    """Pydantic collects value errors, so that all of them are reported together."""
    with pytest.raises(ValueError, match=r"."):
        units.parser("bytes")(value)
