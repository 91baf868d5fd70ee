"""Lines of bash in which no value can be anything but a value."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from planner.deploy.names import possible

HERE = 'here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"\n'


def script(title: str, *blocks: str) -> str:
    """Return a bash script; ``title`` becomes a comment of one line."""
    head = f"#!/usr/bin/env bash\n# {comment(title)}\nset -euo pipefail\n"
    body = "".join(f"\n{block.rstrip()}\n" for block in blocks if block.strip())
    return head + (HERE if "$here" in body else "") + body


def comment(text: str) -> str:
    """Return text that stays on its line of comment: everything unprintable becomes a space."""
    return "".join(character if character.isprintable() else " " for character in text)[:400]


def quote(text: str) -> str:
    """Return ``text`` as one word of bash."""
    return shlex.quote(possible(text))


def array(name: str, words: Sequence[str]) -> str:
    """Return the definition of a bash array, each word quoted on a line of its own."""
    return f"{name}=(\n" + "".join(f"  {quote(word)}\n" for word in words) + ")\n"


def exports(values: Mapping[str, str]) -> str:
    """Return exports of quoted values."""
    return "".join(f"export {name}={quote(value)}\n" for name, value in values.items())


def defaults(values: Mapping[str, str]) -> str:
    """Return exports that leave a variable alone where it is already set."""
    return "".join(f"[[ -v {name} ]] || export {name}={quote(value)}\n" for name, value in values.items())
