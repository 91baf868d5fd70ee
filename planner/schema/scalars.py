"""What an unquoted word in a document means: YAML 1.2, so ``off`` is text and ``1e9`` is a number."""

from __future__ import annotations

import re
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NUMBER_STARTS = frozenset("0123456789+-.")
LONGEST_NUMBER = 400


def resolve(word: str) -> Scalar:
    """Return the value of an unquoted word.

    Raises
    ------
    ValueError
        If the word is a number with an ambiguous leading zero, or one that is too long to be meant.
    """
    if word in _WORDS:
        return _WORDS[word]
    if word[0] not in _NUMBER_STARTS:
        return word
    if not (_FLOAT.fullmatch(word) or _BASED.fullmatch(word)):
        return word
    if len(word) > LONGEST_NUMBER:
        raise ValueError(f"number of {len(word)} characters is too long")
    if _INTEGER.fullmatch(word):
        digits = word.lstrip("+-")
        if len(digits) > 1 and digits.startswith("0"):
            raise ValueError(f'{word} is ambiguous: write {int(word)} for the number, "{word}" for the text')
        return int(word)
    return int(word, 0) if _BASED.fullmatch(word) else float(word)


def reads_as_text(text: str) -> bool:
    """Return whether ``text`` written without quotes would be read back as the same text."""
    try:
        return resolve(text) == text
    except ValueError:
        return False
