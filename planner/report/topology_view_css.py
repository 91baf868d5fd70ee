"""The rules of the drawings' style sheet for a renderer that knows none: which style an element has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_MEDIA = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\}")
_VARIABLE = re.compile(r"var\((--[\w-]+)(?:,\s*(.*))?\)")
_FOLLOWED = re.compile(r":has\(~ \.([\w-]+)\)")


@dataclass(frozen=True)
class Element:
    """What a rule can ask of an element: its name, its classes, and those of the siblings after it."""

    name: str
    classes: frozenset[str]
    followers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Step:
    """One compound of a selector, such as ``text.name`` or ``.cell:has(~ .dot)``."""

    name: str
    classes: frozenset[str]
    followed: str

    def matches(self, element: Element) -> bool:
        return (
            self.name in ("", element.name)
            and self.classes <= element.classes
            and (not self.followed or self.followed in element.followers)
        )


class StyleSheet:
    """The light scheme of a style sheet with selectors of names, classes and ancestors."""

    def __init__(self, css: str) -> None:
        self.rules = sorted(_rules(_MEDIA.sub("", css)), key=lambda rule: rule[0])
        self.style = lru_cache(maxsize=None)(self._style)

    def _style(self, path: tuple[Element, ...]) -> Mapping[str, str]:
        """Return the declarations that hold for the last element of a path, variables filled in."""
        found: dict[str, str] = {}
        for _, steps, declared in self.rules:
            if _reaches(steps, path):
                found |= declared
        return {key: _filled(value, found) for key, value in found.items() if not key.startswith("--")}


def _rules(css: str) -> Iterator[tuple[tuple[int, int], tuple[_Step, ...], dict[str, str]]]:
    for order, match in enumerate(_RULE.finditer(css)):
        pairs = (line.partition(":") for line in match[2].split(";") if line.strip())
        declared = {key.strip(): value.strip() for key, _, value in pairs}
        for selector in match[1].split(","):
            steps = tuple(_step(part) for part in re.sub(r"~ ", "~", selector).split())
            weight = sum(
                10 * len(step.classes) + 10 * bool(step.followed) + bool(step.name) for step in steps
            )
            yield (weight, order), steps, declared


def _step(text: str) -> _Step:
    text = "" if text == ":root" else text.replace(":has(~", ":has(~ ")
    followed = _FOLLOWED.search(text)
    name, *classes = _FOLLOWED.sub("", text).split(".")
    return _Step(name, frozenset(classes), followed[1] if followed else "")


def _reaches(steps: Sequence[_Step], path: Sequence[Element]) -> bool:
    """Whether the last element matches the last step, and its ancestors those before, in order."""
    if not steps[-1].matches(path[-1]):
        return False
    left = list(steps[:-1])
    for element in reversed(path[:-1]):
        if left and left[-1].matches(element):
            left.pop()
    return not left


def _filled(value: str, known: Mapping[str, str]) -> str:
    match = _VARIABLE.fullmatch(value)
    return value if match is None else _filled(known.get(match[1]) or match[2] or "none", known)
