"""Quantities as Kubernetes writes them: ``500m``, ``64Gi``, ``2T``, ``1e3``."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from planner.errors import UnitError

_SUFFIX = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12),
    "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
_FORM = re.compile(
    r"([+-]?[0-9]*\.?[0-9]+|[+-]?[0-9]+\.)(?:[eE]([+-]?[0-9]{1,3})|([numkMGTPE]i?|[KMGTPE]i)?)"
)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Fraction | int:
    match = _FORM.fullmatch(text)
    suffix = (match[3] or "") if match else ""
    if match is None or suffix not in _SUFFIX:
        raise UnitError(f"{text!r} is no quantity; write for example 500m, 2, 64Gi or 80G")
    value = Fraction(match[1]) * (Fraction(10) ** int(match[2]) if match[2] else _SUFFIX[suffix])
    return value.numerator if value.denominator == 1 else value


def quantity(value: str | float) -> Fraction | int:
    """Return a quantity in its base unit, exactly.

    Raises
    ------
    UnitError
        If it is none.
    """
    return _parsed(value if isinstance(value, str) else str(value))
