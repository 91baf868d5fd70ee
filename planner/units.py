"""Quantities: text with a unit in documents and in print, plain SI floats everywhere else.

Decimal (``GB``) and binary (``GiB``) bytes are different suffixes; printing uses decimal prefixes only.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from planner.errors import UnitError, nearest

_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?"
_NUMBER = re.compile(rf"\s*([+-]?{_DIGITS})\s*(.*?)\s*", re.DOTALL)
_LONGEST = 80
_LARGEST_WHOLE = 10**300
_DECIMAL = {"p": -12, "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


@dataclass(frozen=True)
class Dimension:
    """The suffixes of one kind of quantity.

    Attributes
    ----------
    name
        What a person calls it, for messages.
    base
        The suffix of the SI unit.
    suffixes
        Factor of every accepted suffix.
    printed
        The decimal suffixes that printing chooses from, smallest first, with their power of ten.
    examples
        Texts for messages and for the JSON Schema.
    bare
        Whether a number without a unit is accepted.
    """

    name: str
    base: str
    suffixes: Mapping[str, Decimal]
    printed: tuple[tuple[str, int], ...]
    examples: tuple[str, ...]
    bare: bool = False


def _decimal(base: str, prefixes: str) -> dict[str, Decimal]:
    """Return the factors of ``base`` with each decimal prefix; a space stands for no prefix."""
    return {p.strip() + base: Decimal(1).scaleb(_DECIMAL[p.strip()]) for p in prefixes}


def _binary(base: str) -> dict[str, Decimal]:
    return {prefix + base: Decimal(2**power) for prefix, power in _BINARY.items()}


def _bits(base: str) -> dict[str, Decimal]:
    return {suffix: factor / 8 for suffix, factor in _decimal(base, " kMGTP").items()}


def _dimension(
    name: str,
    base: str,
    prefixes: str,
    examples: tuple[str, ...],
    *extra: Mapping[str, Decimal],
    bare: bool = False,
) -> Dimension:
    suffixes = _decimal(base, prefixes)
    for more in extra:
        suffixes.update(more)
    printed = tuple((p.strip() + base, _DECIMAL[p.strip()]) for p in prefixes)
    return Dimension(name, base, suffixes, printed, examples, bare)


_MICRO = {"µs": Decimal("1e-6"), "μs": Decimal("1e-6")}
_CLOCK = {"min": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_TOKEN = {"token": Decimal(1)}
_RATES = {
    **{f"{word}/s": Decimal(1) for word in ("1", "req", "requests", "items", "samples", "tokens")},
    **{f"{word}/min": 1 / Decimal(60) for word in ("", "req")},
    **{f"{word}/h": 1 / Decimal(3600) for word in ("", "req")},
}
DIMENSIONS: Mapping[str, Dimension] = {
    "bytes": _dimension("size", "B", " kMGTPE", ("80 GiB", "16 MB"), _binary("B"), _bits("bit")),
    "bytes/s": _dimension(
        "data rate", "B/s", " kMGTPE", ("900 GB/s", "400 Gbit/s"), _binary("B/s"), _bits("bit/s")
    ),
    "s": _dimension("time", "s", "pnum ", ("350 ns", "10 ms", "1.5 h"), _MICRO, _CLOCK),
    "FLOP/s": _dimension("compute rate", "FLOP/s", " kMGTPE", ("66.9 TFLOP/s",)),
    "FLOP": _dimension("work", "FLOP", " kMGTPE", ("2.5 GFLOP",)),
    "Hz": _dimension("frequency", "Hz", " kMG", ("2.6 GHz",)),
    "W": _dimension("power", "W", "m kMG", ("700 W", "1.2 kW")),
    "1/s": Dimension(
        "rate per second", "/s", {"/s": Decimal(1), **_RATES}, (("/s", 0),), ("5 /s", "5 req/s")
    ),
    "tokens": _dimension("number of tokens", "tokens", " kMGT", ("4096", "2048 tokens"), _TOKEN, bare=True),
    "USD/h": Dimension("price", "USD/h", {"USD/h": Decimal(1)}, (("USD/h", 0),), ("98.32 USD/h",)),
    "1": Dimension("ratio", "", {"": Decimal(1), "%": Decimal("0.01")}, (("", 0),), ("0.85", "85 %"), True),
}


def _look_up(dimension: str) -> Dimension:
    if dimension not in DIMENSIONS:
        raise ValueError(f"unknown dimension {dimension!r}; known: {', '.join(DIMENSIONS)}")
    return DIMENSIONS[dimension]


def _expected(dim: Dimension) -> str:
    return f"expected a {dim.name} such as " + " or ".join(f'"{example}"' for example in dim.examples)


def parse(text: object, dimension: str) -> float:
    """Return the SI value of a quantity as a document states it.

    Parameters
    ----------
    text
        Text with a unit, such as ``"900 GB/s"``. A bare number is accepted when it is 0, and for the
        dimensions ``"1"`` and ``"tokens"``.
    dimension
        A key of `DIMENSIONS`: ``"bytes"``, ``"bytes/s"``, ``"s"``, ``"FLOP/s"``, ``"FLOP"``, ``"Hz"``,
        ``"W"``, ``"1/s"``, ``"tokens"``, ``"USD/h"`` or ``"1"``.

    Returns
    -------
    float
        The value in the SI unit of the dimension; finite and not negative.

    Raises
    ------
    UnitError
        If the text is not a quantity of this dimension.
    """
    if isinstance(text, str):
        return _parse_text(text, dimension)
    dim = _look_up(dimension)
    if isinstance(text, bool) or not isinstance(text, int | float):
        raise UnitError(f"{_expected(dim)}, not {_shown(text)}")
    value = _checked(text, dim)
    if value and not dim.bare:
        raise UnitError(f"number {text!r} has no unit; {_expected(dim)}")
    return value


def _shown(thing: object) -> str:
    """Return the words for what stands in the place of a quantity."""
    if thing is None:
        return "empty"
    if isinstance(thing, bool):
        return "true" if thing else "false"
    if isinstance(thing, dict | list | tuple):
        return "a mapping" if isinstance(thing, dict) else "a list"
    return repr(thing)[:_LONGEST]


def _checked(value: float, dim: Dimension, text: str = "") -> float:
    """Return ``value`` as a float if a quantity can have it."""
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        raise UnitError(f"a whole number of {value.bit_length()} bits is too large for a {dim.name}")
    shown = text or repr(value)
    if not math.isfinite(value):
        raise UnitError(f"{shown} is not a finite {dim.name}")
    if value < 0:
        raise UnitError(f"a {dim.name} cannot be negative, got {shown}")
    return float(value) + 0.0  # adding 0.0 turns -0.0 into 0.0


@lru_cache(maxsize=65536)
def _parse_text(text: str, dimension: str) -> float:
    dim = _look_up(dimension)
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise UnitError(f"{text[:_LONGEST]!r} is not a quantity; {_expected(dim)}")
    number, suffix = Decimal(match[1]), match[2]
    factor = dim.suffixes.get(suffix)
    if factor is None and not suffix and (dim.bare or not number):
        factor = Decimal(1)
    if factor is None:
        raise UnitError(_wrong_suffix(text, suffix, dim))
    return _checked(float(number * factor), dim, text)


def _wrong_suffix(text: str, suffix: str, dim: Dimension) -> str:
    if not suffix:
        return f"{text!r} has no unit; {_expected(dim)}"
    owner = next((other for other in DIMENSIONS.values() if suffix in other.suffixes), None)
    fault = f"{text!r} is a {owner.name}" if owner else f"unknown unit {suffix!r} in {text!r}"
    close = _nearest_suffix(suffix, dim)
    hint = f'; did you mean "{close}"?' if close else ""
    return f"{fault}; {_expected(dim)}{hint}"


def _nearest_suffix(suffix: str, dim: Dimension) -> str | None:
    """Return the suffix most likely meant: the case of b (bit) and B (byte) is respected, then likeness."""
    per_second = re.sub(r"(?<=.)(?:ps|/sec|/second)$", "/s", suffix)
    per_second = re.sub(r"^(.?(?:FL)?)OPS$", r"\1OP/s", per_second, flags=re.IGNORECASE)
    spelled = (per_second, re.sub(r"b(?=/s$|$)", "bit", per_second), per_second.replace("K", "k"))
    for guess in spelled:
        if guess in dim.suffixes:
            return guess
    folded = {known.casefold(): known for known in dim.suffixes}
    return folded.get(per_second.casefold()) or nearest(suffix, dim.suffixes)


def show(value: float, dimension: str) -> str:
    """Return a quantity for people: three or four significant digits and a decimal prefix.

    Parameters
    ----------
    value
        SI value of the quantity; may be negative or not finite (a difference, a missing bound).
    dimension
        As in `parse`.
    """
    dim = _look_up(dimension)
    if not math.isfinite(value):
        return f"{value} {dim.base}".rstrip()
    if value < 0:
        return "-" + show(-value, dimension)
    if dimension in ("1", "1/s", "USD/h") or not value:
        return f"{_plain(value, cents=dimension == 'USD/h')} {dim.base}".rstrip()
    if dimension == "s" and value >= 999.5:
        suffix, size = ("min", 60) if value < 7200 else ("h", 3600) if value < 172800 else ("d", 86400)
        return f"{_digits(value / size)} {suffix}"
    if dimension == "tokens" and value < 1e6:
        return f"{_plain(value)} tokens"
    return _prefixed(value, dim)


def _prefixed(value: float, dim: Dimension) -> str:
    for suffix, power in dim.printed:
        scaled = value / 10.0**power
        if scaled < 999.5:
            return f"{_digits(scaled)} {suffix}"
    suffix, power = dim.printed[-1]
    return f"{value / 10.0**power:.4g} {suffix}"


def _digits(value: float) -> str:
    """Return three significant digits without an exponent where that is readable."""
    if value >= 99.95:
        return f"{value:.0f}" if value < 1e6 else f"{value:.4g}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.995 else f"{value:.3g}"


def _plain(value: float, *, cents: bool = False) -> str:
    """Return a number that takes no prefix."""
    if cents and value >= 1:
        return f"{value:.2f}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


@lru_cache(maxsize=65536)
def dumps(value: float, dimension: str) -> str:
    """Return text that `parse` reads back as exactly ``value``: a short number and the fitting suffix.

    Raises
    ------
    UnitError
        If no quantity can have this value.
    """
    dim = _look_up(dimension)
    value = _checked(value, dim)
    number = Decimal(repr(value))
    candidates = [_engineering(number, dim)]
    if dimension in ("bytes", "bytes/s") and value and value % 1024 == 0:
        candidates += [_join(number / dim.suffixes[p + dim.base], p + dim.base) for p in _BINARY]
    exact = [text for text in candidates if _parse_text(text, dimension) == value]
    return min(exact, key=len) if exact else f"{value!r} {dim.base}".rstrip()


def _engineering(number: Decimal, dim: Dimension) -> str:
    """Return ``number`` with the largest decimal suffix that leaves at least one unit."""
    fitting = [(suffix, power) for suffix, power in dim.printed if number >= Decimal(1).scaleb(power)]
    suffix, power = fitting[-1] if fitting else (dim.base, 0)
    return _join(number.scaleb(-power), suffix)


def _join(number: Decimal, suffix: str) -> str:
    plain = number.normalize()
    text = f"{plain:f}" if -6 <= plain.adjusted() <= 15 else f"{plain:e}"
    return f"{text} {suffix}".rstrip()


def parser(dimension: str) -> Callable[[object], float]:
    """Return a function for pydantic's ``BeforeValidator``: text is parsed, Python numbers are already SI.

    The function raises `UnitError`, which is a ``ValueError``, so that pydantic collects it with the others.
    Fields of documents use the aliases of `planner.schema` instead, which also refuse bare numbers in files.
    """
    dim = _look_up(dimension)

    def convert(value: object) -> float:
        if isinstance(value, str):
            return _parse_text(value, dimension)
        if isinstance(value, float | int) and not isinstance(value, bool):
            return _checked(value, dim)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return _checked(float(value), dim)  # a NumPy scalar
        return parse(value, dimension)

    return convert


def pattern(dimension: str) -> str:
    """Return a regular expression (ECMA 262 and Python) that matches the text of a quantity."""
    dim = _look_up(dimension)
    suffixes = "|".join(suffix for suffix in dim.suffixes if suffix)
    optional = "?" if dim.bare else ""
    return rf"^\s*(?:{_DIGITS}\s*(?:{suffixes}){optional}|0+)\s*$"
