"""A little SVG: elements as safe markup, short numbers, every text escaped."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
Attribute = str | float | int | None
NOTHING = Markup()


def clean(text: str) -> str:
    """Return ``text`` with what XML forbids, or what reorders the line around it, replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def percent(share: float) -> str:
    """Return a share of the width as a CSS percentage."""
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Return one element; text children and attribute values are escaped, markup children are kept.

    In attribute names a trailing underscore is dropped and the others become hyphens; ``None`` leaves
    the attribute out.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        shown = escape(clean(value)) if isinstance(value, str) else number(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{shown}"')
    inside = [child if isinstance(child, Markup) else escape(clean(child)) for child in children]
    parts.extend([">", *inside, f"</{name}>"])
    return Markup("".join(parts))


def group(*children: str, x: float = 0.0, y: float = 0.0, class_: str | None = None) -> Markup:
    """Return a group of elements, moved by ``x`` and ``y``."""
    move = f"translate({number(x)} {number(y)})" if x or y else None
    return element("g", *children, class_=class_, transform=move)


def title(text: str) -> Markup:
    """Return the hover text of the element that it is put into."""
    return element("title", text)


def joined(parts: list[Markup]) -> Markup:
    """Return the parts one after the other."""
    return Markup("").join(parts)


def shorten(text: str, most: int) -> str:
    """Return at most ``most`` characters of ``text``, with an ellipsis where something was cut."""
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"
