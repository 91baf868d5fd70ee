"""Ways to damage a dump: what copying, cutting, editing and attacks do to files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
from collections.abc import Callable
from typing import Any

Damage = Callable[[Any, random.Random], Any]
HUGE = "9" * 40
DEPTH = 20_000
_WORD = re.compile(r"\S+")
_NUMBER = re.compile(r"[0-9]+")
_VALUE = re.compile(r'([A-Za-z_][\w.-]*)="([^"<>]*)"')
_CELL = re.compile(r"<([A-Za-z_]\w*)>([^<>\n]+)</\1>")
_BLOCK = 512


def drop_cell(text: str, rng: random.Random) -> str:
    """Drop one word."""
    return _replaced(text, _WORD, "", rng)


def swap_cells(text: str, rng: random.Random) -> str:
    """Swap two words of one line."""
    lines = text.split("\n")
    rich = [index for index, line in enumerate(lines) if len(line.split()) > 1]
    if not rich:
        return text
    number = rng.choice(rich)
    words = re.split(r"(\s+)", lines[number])
    left, right = rng.sample([index for index, word in enumerate(words) if word.strip()], 2)
    words[left], words[right] = words[right], words[left]
    lines[number] = "".join(words)
    return "\n".join(lines)


def swap_values(text: str, rng: random.Random) -> str:
    """Swap the values of one attribute or element in two places; two words where there is no XML."""
    pattern = _VALUE if len(_VALUE.findall(text)) > 1 else _CELL
    by_key: dict[str, list[re.Match[str]]] = {}
    for match in pattern.finditer(text):
        by_key.setdefault(match[1], []).append(match)
    pairs = [found for found in by_key.values() if len({match[2] for match in found}) > 1]
    if not pairs:
        return swap_cells(text, rng)
    found = rng.choice(pairs)
    first, second = sorted(rng.sample(found, 2), key=lambda match: match.start())
    parts = (text[: first.start(2)], second[2], text[first.end(2) : second.start(2)], first[2])
    return "".join(parts) + text[second.end(2) :]


def double_id(text: str, rng: random.Random) -> str:
    """Give one thing the identity of another: copy a value of an attribute, or a word, over a like one."""
    matches = list(_VALUE.finditer(text)) or list(_CELL.finditer(text))
    if not matches:
        words = list(_WORD.finditer(text))
        if len(words) < 2:
            return text
        target, source = rng.sample(words, 2)
        return text[: target.start()] + source[0] + text[target.end() :]
    target = rng.choice(matches)
    source = rng.choice([match for match in matches if match[1] == target[1]])
    return text[: target.start(2)] + source[2] + text[target.end(2) :]


def drop_line(text: str, rng: random.Random) -> str:
    """Drop one line."""
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def double_line(text: str, rng: random.Random) -> str:
    """Repeat one line."""
    lines = text.split("\n")
    number = rng.randrange(len(lines))
    return "\n".join([*lines[: number + 1], *lines[number:]])


def truncate(text: str, rng: random.Random) -> str:
    """Cut the text inside a line."""
    return text[: rng.randrange(max(1, len(text)))].rstrip("\r\n")


def huge_number(text: str, rng: random.Random) -> str:
    """Put a number of forty digits in place of one."""
    return _replaced(text, _NUMBER, HUGE, rng)


def crlf(text: str, rng: random.Random) -> str:
    """End lines as other systems do."""
    return text.replace("\n", rng.choice(("\r\n", "\r")) if "\r" not in text else "\r\n")


def mark(text: str, rng: random.Random) -> str:
    """Begin with a byte-order mark."""
    return "\ufeff" + text


def blanks(text: str, rng: random.Random) -> str:
    """Turn tabs into blanks, or double the blanks of a line's inside."""
    if "\t" in text and rng.random() < 0.5:
        return text.replace("\t", " " * rng.randint(2, 9))
    return text.replace("\t", "\t\t", rng.randint(1, 3))


def junk(text: str, rng: random.Random) -> str:
    """Put a few characters of any kind anywhere."""
    place = rng.randrange(len(text) + 1)
    odd = "".join(chr(rng.choice([0, 7, 34, 38, 60, 62, 0xFEFF, 0x1F600])) for _ in range(3))
    return text[:place] + odd + text[place:]


def nest(text: str, rng: random.Random) -> str:
    """Nest something thousands of levels deep."""
    place = text.find(">", rng.randrange(len(text) + 1)) + 1 or len(text)
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return text[:place] + "<pci>" * DEPTH + "</pci>" * DEPTH + text[place:]
    return text + "\n" + rng.choice(("[" * DEPTH, "- " * DEPTH, "{a: " * DEPTH, "(" * DEPTH)) + "\n"


def bomb(text: str, rng: random.Random) -> str:
    """Declare entities that expand to gigabytes, or that read a file, or YAML anchors that do the like."""
    head = text.lstrip("\ufeff \t\r\n")
    if not head.startswith("<"):
        rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
        rows += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
        return "\n".join(rows) + "\n" + text
    entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9)
    )
    entities += rng.choice(("", '<!ENTITY z SYSTEM "file:///etc/hostname">'))
    body = re.sub(r"^(<\?.*?\?>|<!DOCTYPE[^>]*>|\s)+", "", head, flags=re.DOTALL)
    place = body.find(">") + 1
    return f"<!DOCTYPE x [{entities}]>{body[:place]}{rng.choice(('&j;', '&z;'))}{body[place:]}"


def _replaced(text: str, pattern: re.Pattern[str], new: str, rng: random.Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start()] + new + text[match.end() :]


def tar_of(data: bytes) -> bytes | None:
    """Return the archive inside a packed file, None where it is none."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"BZh"):
        return bz2.decompress(data)
    if data.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(data)
    return data if data[257:262] == b"ustar" else None


def _members(tar: bytes) -> list[tuple[int, int, int]]:
    """Return place of the header, size of the data and end of every member that is a file with content."""
    found, place = [], 0
    while place + _BLOCK <= len(tar) and tar[place]:
        digits = tar[place + 124 : place + 136].strip(b"\0 ")
        size = int(digits, 8) if digits and all(48 <= one < 56 for one in digits) else 0
        end = place + _BLOCK + -(-size // _BLOCK) * _BLOCK
        if (
            tar[place + 156 : place + 157] in (b"0", b"\0")
            and size
            and b"/cache/" not in tar[place : place + 100]
        ):
            found.append((place, size, end))
        place = end
    return found


def cut_archive(tar: bytes, rng: random.Random) -> bytes:
    """Cut the archive."""
    return tar[: rng.randrange(len(tar) + 1)]


def flip_bytes(tar: bytes, rng: random.Random) -> bytes:
    """Change a few bytes anywhere."""
    changed = bytearray(tar)
    for _ in range(rng.randint(1, 40)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def drop_member(tar: bytes, rng: random.Random) -> bytes:
    """Leave a file out."""
    files = _members(tar)
    if not files:
        return tar
    place, _, end = rng.choice(files)
    return tar[:place] + tar[end:]


def double_member(tar: bytes, rng: random.Random) -> bytes:
    """Give one file the content of another, both of the same name."""
    files = _members(tar)
    place, _, end = rng.choice(files) if files else (0, 0, 0)
    name = tar[place : place + 100].rstrip(b"\0").rpartition(b"/")[2]
    alike = [one for one in files if tar[one[0] : one[0] + 100].rstrip(b"\0").rpartition(b"/")[2] == name]
    if not alike:
        return tar
    other, _, stop = rng.choice(alike)
    header = tar[place : place + 124] + tar[other + 124 : other + 136] + tar[place + 136 : place + _BLOCK]
    return tar[:place] + header + tar[other + _BLOCK : stop] + tar[end:]


def change_member(tar: bytes, rng: random.Random) -> bytes:
    """Change a digit, or any byte, of one file."""
    files = _members(tar)
    if not files:
        return tar
    place, size, _ = rng.choice(files)
    spot = place + _BLOCK + rng.randrange(size)
    new = rng.choice((b"9", b"0", b"\0", b"-", b"x", b",", b" "))
    return tar[:spot] + new + tar[spot + 1 :]


TEXT_DAMAGE: tuple[Damage, ...] = (
    drop_cell, swap_cells, swap_values, double_id, drop_line, double_line, truncate, huge_number, crlf, mark,
    blanks, junk, nest, bomb,
)  # fmt: skip
ARCHIVE_DAMAGE: tuple[Damage, ...] = (
    cut_archive, flip_bytes, drop_member, double_member, change_member, change_member,
)  # fmt: skip
