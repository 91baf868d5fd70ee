"""Values and functions of the expression language: comparison, strings, semantic versions, quantities."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, total_ordering
from typing import Any

from planner.deploy.scheduler.quantities import quantity
from planner.errors import UnitError


class CelError(Exception):
    """An expression has no value: a key is missing, or a function does not take these types."""


@total_ordering
@dataclass(frozen=True)
class Version:
    """A semantic version (semver.org 2.0.0); build metadata do not count in the order."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    def _key(self) -> tuple[Any, ...]:
        # A pre-release comes before its release; numbers before words.
        parts = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, parts)

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()


@dataclass(frozen=True, order=True)
class Amount:
    """A quantity."""

    value: Fraction | int


_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


@dataclass(frozen=True)
class Absent:
    """An optional value that is not there."""


_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Return a duration as Go writes it (``1h30m``), s."""
    plain = text[1:] if isinstance(text, str) and text[:1] in ("-", "+") else text
    parts = _PART.findall(plain) if isinstance(plain, str) else []
    if plain != "0" and (not parts or "".join(number + unit for number, unit in parts) != plain):
        raise CelError(f"{text!r} is no duration")
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return -total if text.startswith("-") else total


@lru_cache(maxsize=4096)
def version(text: str) -> Version:
    """Return a semantic version."""
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise CelError(f"{text!r} is no semantic version")
    return Version(
        int(match[1]), int(match[2]), int(match[3]), tuple((match[4] or "").split(".")) if match[4] else ()
    )


@lru_cache(maxsize=4096)
def amount(text: str) -> Amount:
    """Return a quantity."""
    try:
        return Amount(quantity(text))
    except UnitError as error:
        raise CelError(str(error)) from None


class Reached:
    """A value whose fields of fields of fields are read at once, without the maps between."""

    __slots__ = ()

    def reach(self, first: Any, second: Any, third: Any) -> Any:
        """Return what three names lead to.

        Raises
        ------
        CelError
            If one of them is missing.
        """
        raise NotImplementedError


def member(target: Any, name: Any) -> Any:
    """Return a field of a map, or an item of a list."""
    if type(target) is dict or isinstance(target, Mapping):
        try:
            return target[name]
        except KeyError:
            raise CelError(f"no such key: {name}") from None
    if isinstance(target, list) and isinstance(name, int) and 0 <= name < len(target):
        return target[name]
    raise CelError(f"no such overload: {name!r} of a {type(target).__name__}")


def equal(left: Any, right: Any) -> bool:
    """Whether two values are equal; values of different types never are, but numbers compare by value."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def compared(operator: str, left: Any, right: Any) -> bool:
    """Return an order comparison of two values of one type."""
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if not numbers and type(left) is not type(right):
        raise CelError(f"no such overload: {type(left).__name__} {operator} {type(right).__name__}")
    return bool(_ORDER[operator](left, right))


_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def compare(left: Any, right: Any) -> int:
    """Return -1, 0 or 1 for two versions or two quantities."""
    if type(left) is not type(right) or not isinstance(left, Version | Amount):
        raise CelError(f"no such overload: compareTo of {type(left).__name__} and {type(right).__name__}")
    return int(left > right) - int(left < right)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CelError(f"no such overload: a string belongs where {value!r} stands")
    return value


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise CelError(f"{text!r} is no regular expression: {error}") from None


def _size(value: Any) -> int:
    if isinstance(value, str | list | Mapping):
        return len(value)
    raise CelError(f"no such overload: size of {value!r}")


def _valid(parse: Callable[[str], Any]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            parse(value)
        except CelError:
            return False
        return True

    return check


def _divide(left: Any, right: Any) -> Any:
    _numbers("/", left, right)
    if right == 0:
        raise CelError("division by zero")
    if isinstance(left, int) and isinstance(right, int):
        return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return left / right


def _modulus(left: Any, right: Any) -> Any:
    if not isinstance(left, int) or not isinstance(right, int):
        raise CelError("no such overload: %")
    if right == 0:
        raise CelError("modulus by zero")
    return abs(left) % abs(right) * (1 if left >= 0 else -1)


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        return left + right
    _numbers("+", left, right)
    return left + right


def _numbers(operator: str, *values: Any) -> None:
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        raise CelError(f"no such overload: {operator}")


def _minus(left: Any, right: Any) -> Any:
    _numbers("-", left, right)
    return left - right


def _times(left: Any, right: Any) -> Any:
    _numbers("*", left, right)
    return left * right


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise CelError(f"{value!r} is no whole number") from None


def _decimal(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise CelError(f"{value!r} is no number") from None


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "size": _size, "semver": version, "isSemver": _valid(version), "quantity": amount,
    "isQuantity": _valid(amount), "duration": duration, "int": _whole, "double": _decimal, "string": str,
    "+": _plus, "-": _minus, "*": _times, "/": _divide, "%": _modulus,
}  # fmt: skip
"""Global functions, and arithmetic by its sign."""

METHODS: Mapping[str, Callable[..., Any]] = {
    "compareTo": compare,
    "isLessThan": lambda left, right: compare(left, right) < 0,
    "isGreaterThan": lambda left, right: compare(left, right) > 0,
    "major": lambda value: value.major,
    "minor": lambda value: value.minor,
    "patch": lambda value: value.patch,
    "startsWith": lambda text, start: _text(text).startswith(_text(start)),
    "endsWith": lambda text, end: _text(text).endswith(_text(end)),
    "contains": lambda text, part: _text(part) in _text(text),
    "matches": lambda text, pattern: _pattern(_text(pattern)).search(_text(text)) is not None,
    "lowerAscii": lambda text: _text(text).lower(),
    "upperAscii": lambda text: _text(text).upper(),
    "trim": lambda text: _text(text).strip(),
    "replace": lambda text, old, new: _text(text).replace(_text(old), _text(new)),
    "split": lambda text, mark: _text(text).split(_text(mark)),
    "size": _size,
    "hasValue": lambda value: not isinstance(value, Absent),
}
"""Functions called on a value."""
