"""Results kept for arguments that are the same objects: documents are frozen, but too large to compare."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
MOST = 64
"""Results that one function keeps; the least recently used goes first."""


class _Same:
    """A value that equals another only if both are one object; strings are compared as they are."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return hash(self.value) if isinstance(self.value, str) else id(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same):
            return NotImplemented
        return self.value is other.value or (isinstance(self.value, str) and self.value == other.value)


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that computes once for each combination of argument objects; positional only.

    An argument is held as long as its result, so that no other object takes its place in memory.
    """

    @lru_cache(MOST)
    def found(*keys: _Same) -> R:
        return function(*(key.value for key in keys))  # type: ignore[call-arg,arg-type]

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            return function(*args, **kwargs)
        return found(*(_Same(one) for one in args))

    return wrapped
