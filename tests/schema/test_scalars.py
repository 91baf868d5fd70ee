from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.schema.scalars import reads_as_text, resolve


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("y", "y"),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0000:3b:00.0", "0000:3b:00.0"),
        ("-", "-"),
        (".", "."),
        ("1e", "1e"),
        ("0b1", "0b1"),
        ("80 GiB", "80 GiB"),
        ("1e9", 1e9),
        ("1.5E-3", 1.5e-3),
        (".5", 0.5),
        ("7.", 7.0),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("-0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_words_mean_what_yaml_1_2_says(word: str, value: object) -> None:
    """Neither switches nor times nor dates are guessed; numbers with an exponent are numbers."""
    assert resolve(word) == value
    assert type(resolve(word)) is type(value)


def test_not_a_number_is_a_float() -> None:
    """It is read as such, and refused where a figure is due."""
    assert math.isnan(float(str(resolve(".nan"))))


@pytest.mark.parametrize("word", ["010", "-007", "00", "1" * 500, "0x" + "f" * 500])
def test_doubtful_numbers_are_refused(word: str) -> None:
    """Octal or decimal, or far too long: the writer has to say."""
    with pytest.raises(ValueError, match=r"ambiguous|too long"):
        resolve(word)


@given(st.text(alphabet="0123456789+-.eExo_:naifNI", min_size=1, max_size=12))
def test_any_word_is_a_scalar_or_refused(word: str) -> None:
    """No word ends in another error, and text is never changed."""
    try:
        value = resolve(word)
    except ValueError:
        assert not reads_as_text(word)
        return
    assert value is None or isinstance(value, bool | int | float | str)
    assert reads_as_text(word) == isinstance(value, str)
