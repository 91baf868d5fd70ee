"""The part of the Common Expression Language that device selectors use, compiled to functions.

Literals, lists, attribute and index access, arithmetic, comparison, ``in``, logic with the language's rule
that a decided side hides an error on the other, ``?:``, the macros ``has``, ``all``, ``exists``,
``exists_one``, ``filter`` and ``map``, and the functions of strings, versions and quantities that Kubernetes
adds [1]_.

References
----------
.. [1] Kubernetes documentation, "Common Expression Language in Kubernetes", and the language definition of
   google/cel-spec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from planner.deploy.scheduler.cel_values import (
    FUNCTIONS,
    METHODS,
    CelError,
    Reached,
    compared,
    equal,
    member,
)
from planner.errors import PlannerError

Scope = Mapping[str, Any]
Code = Callable[[Scope], Any]
LONGEST = 10 * 1024
DEEPEST = 64
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:0x[0-9a-fA-F]+|[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+(?:[eE][+-]?[0-9]+)?)u?)"
    r"|(?P<text>r?\"\"\"(?:[^\"\\]|\\.|\"(?!\"\"))*\"\"\"|r?\"(?:[^\"\\]|\\.)*\"|r?'(?:[^'\\]|\\.)*')"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>&&|\|\||[=!<>]=|[-+*/%!<>?:.,()\[\]{}]))"
)
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})


class CelSyntaxError(PlannerError):
    """An expression is not of the language, or of a part of it that is not supported."""


@lru_cache(maxsize=8192)
def compiled(text: str) -> Code:
    """Return the function of an expression, from the values of its variables to its value.

    Raises
    ------
    CelSyntaxError
        If the text is no expression; with the place.
    """
    if len(text) > LONGEST:
        raise CelSyntaxError(f"an expression of {len(text)} characters; at most {LONGEST} are allowed")
    parser = _Parser(text)
    code = parser.ternary()
    parser.expect("")
    return code


class _Parser:
    """Recursive descent over the tokens; every method returns the code of what it read."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.place, self.depth = text, list(_tokens(text)), 0, 0

    @property
    def kind(self) -> str:
        return self.tokens[self.place][0]

    @property
    def word(self) -> str:
        return self.tokens[self.place][1]

    def take(self) -> str:
        word = self.word
        self.place += 1
        return word

    def taken(self, *words: str) -> str | None:
        return self.take() if self.kind in ("sign", "name") and self.word in words else None

    def expect(self, word: str) -> None:
        if self.word != word or (word == "" and self.kind != "end"):
            at = self.tokens[self.place][2]
            wanted = repr(word) if word else "the end"
            raise CelSyntaxError(f"{self.text!r}: {wanted} expected at character {at + 1}, not {self.word!r}")
        if word:
            self.place += 1

    def ternary(self) -> Code:
        self.depth += 1
        if self.depth > DEEPEST:
            raise CelSyntaxError(f"{self.text[:60]!r}: nested more than {DEEPEST} deep")
        condition = self.either()
        if self.taken("?"):
            first = self.either()
            self.expect(":")
            second = self.ternary()
            condition = _choice(condition, first, second)
        self.depth -= 1
        return condition

    def either(self) -> Code:
        left = self.both()
        while self.taken("||"):
            left = _logic(left, self.both(), decided=True)
        return left

    def both(self) -> Code:
        left = self.relation()
        while self.taken("&&"):
            left = _logic(left, self.relation(), decided=False)
        return left

    def relation(self) -> Code:
        left = self.sum()
        while operator := self.taken("==", "!=", "<=", ">=", "<", ">", "in"):
            left = _relation(operator, left, self.sum())
        return left

    def sum(self) -> Code:
        left = self.product()
        while operator := self.taken("+", "-"):
            left = _arithmetic(operator, left, self.product())
        return left

    def product(self) -> Code:
        left = self.unary()
        while operator := self.taken("*", "/", "%"):
            left = _arithmetic(operator, left, self.unary())
        return left

    def unary(self) -> Code:
        if self.taken("!"):
            inner = self.unary()
            return lambda scope: not _truth(inner(scope))
        if self.taken("-"):
            inner = self.unary()
            return lambda scope: -inner(scope)
        return self.member()

    def member(self) -> Code:
        code = self.primary()
        while operator := self.taken(".", "["):
            if operator == "[":
                index = self.ternary()
                self.expect("]")
                code = _indexed(code, index)
                continue
            name = self.take()
            code = self.method(code, name) if self.taken("(") else _field(code, name)
        return code

    def method(self, target: Code, name: str) -> Code:
        if name in _MACROS:
            variable = self.take()
            self.expect(",")
            body = self.ternary()
            self.expect(")")
            return _macro(name, target, variable, body)
        arguments = self.arguments(")")
        function = METHODS.get(name)
        if function is None:
            raise CelSyntaxError(f"{self.text!r}: no function .{name}(); known are: {', '.join(METHODS)}")
        return lambda scope: function(target(scope), *(one(scope) for one in arguments))

    def arguments(self, end: str) -> list[Code]:
        found: list[Code] = []
        while not self.taken(end):
            if found:
                self.expect(",")
            found.append(self.ternary())
        return found

    def primary(self) -> Code:
        kind = self.kind
        if self.taken("("):
            inner = self.ternary()
            self.expect(")")
            return inner
        if self.taken("["):
            return _listed(self.arguments("]"))
        word = self.take()
        if kind in ("number", "text"):
            return _Constant(_number(word) if kind == "number" else _string(word))
        if kind != "name":
            at = self.tokens[self.place - 1][2]
            raise CelSyntaxError(f"{self.text!r}: a value expected at character {at + 1}, not {word!r}")
        if word in ("true", "false", "null"):
            return _Constant({"true": True, "false": False, "null": None}[word])
        return self.call(word) if self.taken("(") else _Path(word)

    def call(self, name: str) -> Code:
        if name == "has":
            return self.presence()
        arguments = self.arguments(")")
        function = FUNCTIONS.get(name)
        if function is None:
            raise CelSyntaxError(
                f"{self.text!r}: no function {name}(); known are: has, {', '.join(FUNCTIONS)}"
            )
        return lambda scope: function(*(one(scope) for one in arguments))

    def presence(self) -> Code:
        """Return the code of ``has(a.b.c)``: whether the last name is there."""
        start = self.place
        code = self.ternary()
        self.expect(")")
        if self.tokens[self.place - 3][1] != "." or self.place - start < 4:
            raise CelSyntaxError(
                f"{self.text!r}: has() asks for a field, as in has(device.attributes['a'].b)"
            )
        field = self.tokens[self.place - 2][1]
        stop, self.place = self.place, start
        target = self.until(stop - 3)
        self.place = stop
        del code

        def present(scope: Scope) -> bool:
            found = target(scope)
            return isinstance(found, Mapping) and field in found

        return present

    def until(self, end: int) -> Code:
        """Return the code of the tokens up to a place."""
        whole = self.tokens
        self.tokens = [*whole[:end], ("end", "", whole[end][2])]
        code = self.ternary()
        self.expect("")
        self.tokens = whole
        return code


def _tokens(text: str) -> list[tuple[str, str, int]]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise CelSyntaxError(f"{text!r}: no token at character {place + 1}")
        found.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        place = match.end()
    return [*found, ("end", "", len(text))]


def _number(word: str) -> int | float:
    plain = word.rstrip("u")
    if plain.startswith("0x"):
        return int(plain, 16)
    return float(plain) if any(mark in plain for mark in ".eE") else int(plain)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _string(word: str) -> str:
    raw = word.startswith("r")
    quoted = word[1:] if raw else word
    text = quoted[3:-3] if quoted.startswith('"""') else quoted[1:-1]
    return text if raw else re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)


@dataclass(frozen=True, slots=True)
class _Constant:
    """Code of a value that is the same in every scope."""

    value: Any

    def __call__(self, scope: Scope) -> Any:
        return self.value


@dataclass(frozen=True, slots=True)
class _Path:
    """Code of a variable and the fields and constant indices that follow it."""

    name: str
    keys: tuple[Any, ...] = ()

    def __call__(self, scope: Scope) -> Any:
        if self.name not in scope:
            raise CelError(f"undeclared reference to {self.name!r}")
        value, keys = scope[self.name], self.keys
        if len(keys) > 2 and isinstance(value, Reached):
            value, keys = value.reach(*keys[:3]), keys[3:]
        for key in keys:
            value = member(value, key)
        return value


def _field(target: Code, name: str) -> Code:
    if isinstance(target, _Path):
        return _Path(target.name, (*target.keys, name))
    return lambda scope: member(target(scope), name)


def _indexed(target: Code, index: Code) -> Code:
    if isinstance(target, _Path) and isinstance(index, _Constant):
        return _Path(target.name, (*target.keys, index.value))
    return lambda scope: member(target(scope), index(scope))


def _listed(items: list[Code]) -> Code:
    if all(isinstance(one, _Constant) for one in items):
        return _Constant([one({}) for one in items])
    return lambda scope: [one(scope) for one in items]


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError(f"no such overload: {value!r} where true or false belongs")
    return value


def _choice(condition: Code, first: Code, second: Code) -> Code:
    return lambda scope: first(scope) if _truth(condition(scope)) else second(scope)


def _logic(left: Code, right: Code, *, decided: bool) -> Code:
    """Return ``||`` (decided by true) or ``&&`` (by false); a decided side hides an error of the other."""

    def evaluate(scope: Scope) -> bool:
        try:
            if _truth(left(scope)) is decided:
                return decided
        except CelError:
            if _truth(right(scope)) is decided:
                return decided
            raise
        return _truth(right(scope))

    return evaluate


def _relation(operator: str, left: Code, right: Code) -> Code:
    if operator == "in":
        return lambda scope: _within(left(scope), right(scope))
    if operator in ("==", "!="):
        wanted = operator == "=="
        if isinstance(right, _Constant):
            value = right.value
            return lambda scope: equal(left(scope), value) is wanted
        return lambda scope: equal(left(scope), right(scope)) is wanted
    return lambda scope: compared(operator, left(scope), right(scope))


def _within(value: Any, many: Any) -> bool:
    if isinstance(many, Mapping):
        return value in many
    if not isinstance(many, list):
        raise CelError(f"no such overload: in {many!r}")
    return any(equal(value, one) for one in many)


def _arithmetic(operator: str, left: Code, right: Code) -> Code:
    return lambda scope: FUNCTIONS[operator](left(scope), right(scope))


def _macro(name: str, target: Code, variable: str, body: Code) -> Code:
    def evaluate(scope: Scope) -> Any:
        items = list(target(scope))
        values = [body({**scope, variable: one}) for one in items]
        if name == "map":
            return values
        if name == "filter":
            return [one for one, keep in zip(items, values, strict=True) if _truth(keep)]
        true = sum(_truth(value) for value in values)
        return {"all": true == len(values), "exists": true > 0, "exists_one": true == 1}[name]

    return evaluate
