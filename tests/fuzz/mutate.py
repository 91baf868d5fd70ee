"""Damage to files: of bytes, of words and lines, and of the trees that they hold."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import yaml

Damage = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    "0", "-0", "-1", "1", "2", "64", "1e400", "-1e308", "1e308", "1e-320", "nan", ".nan", "inf", "-.inf",
    "1_000", "0x7fffffffffffffff", "18446744073709551616", "9223372036854775807", "0.1", "1/3", "007",
    "1e9", "1.5.2", "9" * 40, "9" * 5000, "\u0663", "\u00bd", "\u00b2", "1e", "0b1", "1,000", "--5", "+7",
    "12:30:00", "2026-11-24",
)  # fmt: skip
WORDS = (
    "", "null", "~", "true", "no", "NaN", "\0", "\ufeff", "\u202e", "\ud7ff", "\U0001f680", "..",
    "../../etc/passwd", "/dev/zero", "/etc/passwd", "C:\\con", "%s%s%n", "{}", "{0}", "${HOME}", "a" * 4000,
    "[0-9]", "gpu[0-99999999]", "[", "]", "x[1-0]", "node-[0-3][0-3]", "*", "&a", "<<",
    "!!python/object/apply:os.system", "\x85", "\u2028", "'", '"', "\\", "\t", "#", "- ", ": ", "|", ">",
    "<a>", "</a>", "&lt;", "&#0;", "&x;", "<![CDATA[", "<!--", "50 GB/s", "-50 GB/s", "0 GB/s",
    "1e400 GB/s", "80 GiB", "350 ns", "5 req/s", "1e99 TFLOP/s", "5 %", "900 GB",
)  # fmt: skip
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**63, 10**30, 0.5, -0.0, 1e308, 5e-324, float("inf"), float("nan"), "",
    "a", [], {}, [[]], [None], {"a": None}, [1, 2, 3], ["x"] * 200, {"": ""}, "9" * 400,
)  # fmt: skip
BYTES = (
    b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n", b"\t", b"\x1b[31m", b"\xc3",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x00\x00\x00\x00", b"\x80",
)  # fmt: skip
_WORD = re.compile(r"[^\s,;:|=\"'(){}\[\]<>]+")
_NUMBER = re.compile(r"[0-9][0-9.e+-]*")


def damaged(seed: bytes, rng: random.Random) -> bytes:
    """Return a file with one to five damages, all of one kind or mixed."""
    data = seed
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        data = rng.choice(DAMAGES)(data, rng)[:200_000]
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return rng.choice(BYTES)
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(BYTES) * rng.choice((1, 1, 2, 40)) + data[place:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:first], data[last:], data[:first] + data[last:]))


def _repeat(data: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:last] * rng.choice((1, 2, 30)) + data[last:]


def _line_ends(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"", b" ", b"\n\n", b"\x0b", b"\x0c")))


def _encode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    code = rng.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "utf-7"))
    return text.encode(code, "replace")


def _on_text(change: Callable[[str, random.Random], str]) -> Damage:
    def damage(data: bytes, rng: random.Random) -> bytes:
        return change(data.decode("utf-8", "surrogateescape"), rng).encode("utf-8", "surrogateescape")

    return damage


def _replaced(pattern: re.Pattern[str], choices: tuple[str, ...], text: str, rng: random.Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    match, new = rng.choice(found), rng.choice((*choices, rng.choice(found)[0]))
    return text[: match.start()] + new + text[match.end() :]


def _number(text: str, rng: random.Random) -> str:
    return _replaced(_NUMBER, NUMBERS, text, rng)


def _word(text: str, rng: random.Random) -> str:
    return _replaced(_WORD, WORDS, text, rng)


def _lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(6)
    if how == 0:
        del lines[first]
    elif how == 1:
        lines.insert(second, lines[first])
    elif how == 2:
        lines[first], lines[second] = lines[second], lines[first]
    elif how == 3:
        lines[first] = rng.choice(("  ", "\t", "    ")) + lines[first]
    elif how == 4:
        lines[first] = lines[first].strip()
    else:
        lines[first : first + 2] = ["".join(lines[first : first + 2])]
    return "\n".join(lines)


def _spots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with every key or index into it."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _spots(node[key])


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _nested(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((2, 70, 300))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


CHANGES: tuple[Callable[[Any, Any, random.Random], Any], ...] = (
    lambda value, other, rng: rng.choice((*SCALARS, rng.choice(WORDS), rng.choice(NUMBERS))),
    lambda value, other, rng: _copy(other),
    lambda value, other, rng: [_copy(value)] * rng.choice((0, 2, 50)),
    lambda value, other, rng: _nested(value, rng),
    lambda value, other, rng: f"{value}{rng.choice(WORDS)}" if isinstance(value, str) else None,
)


def _changed(root: Any, rng: random.Random) -> bool:
    """Change a tree in place: another value, another place, gone, again, deeper; whether there was one."""
    spots = list(_spots(root))
    if not spots:
        return False
    holder, key = rng.choice(spots)
    other_holder, other = rng.choice(spots)
    how = rng.randrange(7)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice((*WORDS[:12], "extra", str(other)))] = holder[key]
    else:
        holder[key] = rng.choice(CHANGES)(holder[key], other_holder[other], rng)
    return True


def _tree(data: bytes, rng: random.Random) -> bytes:
    """Change a tree of YAML or JSON at one place: another value, another place, gone, again, deeper."""
    text = data.decode("utf-8", "replace")
    try:
        root = yaml.load(text, Loader=yaml.CSafeLoader)  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError):
        return _insert(data, rng)
    if not _changed(root, rng):
        return _insert(data, rng)
    try:
        if text.lstrip().startswith(("{", "[")):
            return json.dumps(root, default=str).encode("utf-8", "replace")
        return str(yaml.dump(root, Dumper=yaml.CSafeDumper, allow_unicode=True)).encode("utf-8", "replace")
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        return _insert(data, rng)


def _xml(data: bytes, rng: random.Random) -> bytes:
    """Change a tree of XML at one place."""
    try:
        root = ElementTree.fromstring(data)  # damage by us, of our own seeds
    except (ElementTree.ParseError, ValueError, LookupError):
        return _insert(data, rng)
    elements = list(root.iter())
    one, other = rng.choice(elements), rng.choice(elements)
    how = rng.randrange(6)
    if how == 0 and one.attrib:
        one.set(rng.choice(list(one.attrib)), re.sub("[\0\ufeff\x85]", "", rng.choice((*NUMBERS, *WORDS))))
    elif how == 1 and one.attrib:
        one.attrib.pop(rng.choice(list(one.attrib)))
    elif how == 2 and len(one):
        one.remove(rng.choice(list(one)))
    elif how == 3 and other is not root and one not in other.iter():
        one.append(other)
    elif how == 4:
        one.text = re.sub("[\0\ufeff\x85]", "", rng.choice((*NUMBERS, *WORDS)))
    else:
        inner = one
        for _ in range(rng.choice((2, 80, 300))):
            inner = ElementTree.SubElement(inner, one.tag, dict(one.attrib))
    try:
        return ElementTree.tostring(root)
    except (RecursionError, ValueError):
        return _insert(data, rng)


def _matching(data: bytes, rng: random.Random) -> bytes:
    """Change the tree that a file holds, XML or YAML."""
    return _xml(data, rng) if data.lstrip()[:1] == b"<" else _tree(data, rng)


DAMAGES: tuple[Damage, ...] = (
    _flip, _insert, _cut, _repeat, _line_ends, _encode, _on_text(_number), _on_text(_number), _on_text(_word),
    _on_text(_word), _on_text(_lines), _on_text(_lines), _matching, _matching, _matching,
)  # fmt: skip
