"""Names from user input made legal where they go: object names, label values, arguments, file names.

Rules of Kubernetes: object names and the names of services are DNS labels (RFC 1123; services must also begin
with a letter, RFC 1035), label values hold at most 63 characters; ``$`` begins a reference to a variable in
commands, arguments and environment values, and ``$$`` stands for one ``$``.
"""

from __future__ import annotations

import hashlib
import re

from planner.deploy.errors import DeployError

LONGEST_NAME = 40
"""Characters left for a name, so that what controllers append (pod indices, hashes) still fits into 63."""
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,61}[A-Za-z0-9])?")
_BOOLEANS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that some YAML readers take for something else than text when they are not quoted."""


def dns_label(text: str, limit: int = LONGEST_NAME) -> str:
    """Return a legal object name for ``text``: itself where legal, else a slug and part of its hash."""
    if len(text) <= limit and _DNS_LABEL.fullmatch(text) and "--" not in text and text not in _BOOLEANS:
        return text
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not slug or not slug[0].isalpha():
        slug = f"x-{slug}".strip("-")
    return f"{slug[: limit - 9].rstrip('-')}-{short_hash(text)}"


def short_hash(text: str) -> str:
    """Return eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]


def is_dns_label(text: object) -> bool:
    """Return whether a value is a name that every kind of object may bear."""
    return isinstance(text, str) and _DNS_LABEL.fullmatch(text) is not None


def is_label_value(text: object) -> bool:
    """Return whether a value may be the value of a label."""
    return isinstance(text, str) and (not text or _LABEL_VALUE.fullmatch(text) is not None)


def is_host_name(text: str) -> bool:
    """Return whether a text can be the name of a host, and so a value of ``kubernetes.io/hostname``."""
    return _HOST.fullmatch(text) is not None


def literal(text: str) -> str:
    """Return ``text`` so that the kubelet passes it on unchanged in commands, arguments and environment."""
    return possible(text).replace("$", "$$")


def possible(text: str) -> str:
    """Return ``text``, which goes to a process as an argument or variable.

    Raises
    ------
    DeployError
        If it holds a null character, which ends every such text.
    """
    if "\0" in text:
        raise DeployError(f"{text!r} holds a null character and cannot be handed to a program")
    return text


def path_part(text: str) -> str:
    """Return ``text`` as one component of a path, without anything that a shell or a file system reads.

    ``organisation/model`` becomes ``organisation--model``, as in the cache of Hugging Face.
    """
    joined = text.replace("/", "--")
    part = re.sub(r"[^A-Za-z0-9._-]+", "-", joined).strip(".-")
    return part if part == joined and len(part) < 200 else f"{part[:60]}-{short_hash(text)}".lstrip("-")


def variable_part(text: str) -> str:
    """Return ``text`` as part of the name of an environment variable."""
    return dns_label(text).replace("-", "_").upper()


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts ``node-2`` before ``node-10``."""
    pieces = re.split(r"([0-9]{1,18})", text)
    return tuple((1, int(piece), piece) if index % 2 else (0, 0, piece) for index, piece in enumerate(pieces))
