"""The picture of `topology_svg` as PNG: its elements, drawn by matplotlib after the same style sheet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element as Tag
from xml.etree.ElementTree import fromstring

from planner.report.style import drawing_css
from planner.report.topology_view import topology_svg
from planner.report.topology_view_css import Element, StyleSheet
from planner.report.uses import Loads
from planner.topology.cluster import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path

SCALE = 2.0
"""Pixels for each px of the drawing, so that words of 10 px stay readable."""
MOST_PIXELS = 12_000
"""Largest width or height; a larger drawing is scaled down."""
_PER_INCH = 72.0
"""px of the drawing to an inch, so that one of matplotlib's points is one px."""
_WORDS = 0.88
"""Size of words against that of the drawing, whose boxes are measured for a narrower typeface."""
_ROUND = 0.5523
"""Length of the handles of a cubic that is a quarter of a circle, by its radius."""
_MOVE = re.compile(r"translate\(([-\d.]+) ([-\d.]+)\)")
_COMMAND = re.compile(r"([MHVC])([-\d. ]+)")


def topology_png(topology: Topology, loads: Loads | None = None) -> bytes:
    """Return the picture of `topology_svg`, in its light scheme, as a PNG file.

    Parameters
    ----------
    loads
        Utilisation of directed links, as for `topology_svg`.
    """
    from matplotlib.figure import Figure

    root = fromstring(topology_svg(topology, loads))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    figure = Figure(figsize=(width / _PER_INCH, height / _PER_INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    _Canvas(axes, StyleSheet(drawing_css(1))).draw(root, (Element("svg", frozenset({"drawing"})),), 0.0, 0.0)
    file = BytesIO()
    dpi = _PER_INCH * min(SCALE, MOST_PIXELS / max(width, height))
    figure.savefig(file, format="png", dpi=dpi, metadata={"Title": root.attrib["aria-label"]})
    return file.getvalue()


class _Canvas:
    """Draws elements on axes whose unit is one px, the second one downwards."""

    def __init__(self, axes: Axes, sheet: StyleSheet) -> None:
        self.axes, self.sheet = axes, sheet

    def draw(self, tag: Tag, above: tuple[Element, ...], x: float, y: float) -> None:
        """Draw what is in an element, moved by ``x`` and ``y``; later elements lie above earlier ones."""
        move = _MOVE.fullmatch(tag.attrib.get("transform", ""))
        if move is not None:
            x, y = x + float(move[1]), y + float(move[2])
        for child, element in _children(tag):
            path = (*above, element)
            if element.name == "g":
                self.draw(child, path, x, y)
            elif element.name == "rect":
                self._shape(_rounded(child.attrib), self.sheet.style(path), x, y)
            elif element.name == "path":
                self._shape(_curve(child.attrib["d"]), self.sheet.style(path), x, y)
            elif element.name == "text":
                self._words(child, self.sheet.style(path), x, y)

    def _shape(self, path: Path, style: Mapping[str, str], x: float, y: float) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.transforms import Affine2D

        dashes = style.get("stroke-dasharray", "none")
        width = float(style.get("stroke-width", "1").removesuffix("px"))
        patch = PathPatch(
            path.transformed(Affine2D().translate(x, y)),
            facecolor=_colour(style, "fill", "black"),
            edgecolor=_colour(style, "stroke", "none"),
            linewidth=width if style.get("stroke", "none") != "none" else 0.0,
            linestyle="solid" if dashes == "none" else (0, [float(one) / width for one in dashes.split()]),
            capstyle="butt",
            zorder=len(self.axes.patches) + len(self.axes.texts),
        )
        self.axes.add_patch(patch)

    def _words(self, tag: Tag, style: Mapping[str, str], x: float, y: float) -> None:
        self.axes.text(
            x + float(tag.attrib["x"]),
            y + float(tag.attrib["y"]),
            (tag.text or "").replace("$", r"\$"),
            fontsize=_WORDS * float(style.get("font-size", "11px").removesuffix("px")),
            fontweight="bold" if int(style.get("font-weight", "400")) >= 600 else "normal",
            color=_colour(style, "fill", "black"),
            horizontalalignment="left" if style.get("text-anchor") == "start" else "center",
            verticalalignment="baseline",
            zorder=len(self.axes.patches) + len(self.axes.texts),
        )


def _children(tag: Tag) -> Iterator[tuple[Tag, Element]]:
    """Yield the elements inside another, each with what style rules ask of it."""
    children = list(tag)
    classes = [frozenset(child.attrib.get("class", "").split()) for child in children]
    after: list[frozenset[str]] = [frozenset()]
    for own in reversed(classes[1:]):
        after.append(after[-1] | own)
    for child, own, followers in zip(children, classes, reversed(after), strict=False):
        yield child, Element(child.tag.rpartition("}")[2], own, followers)


def _colour(style: Mapping[str, str], key: str, default: str) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgba

    name = style.get(key, default)
    if name == "none":
        return to_rgba("none")
    return to_rgba(name, float(style.get(f"{key}-opacity", 1)) * float(style.get("opacity", 1)))


def _rounded(attributes: Mapping[str, str]) -> Path:
    """Return the outline of a ``rect``."""
    from matplotlib.path import Path

    left, top, width, height, radius = (
        float(attributes.get(key, 0)) for key in ("x", "y", "width", "height", "rx")
    )
    right, bottom, r = left + width, top + height, min(radius, width / 2, height / 2)
    k = r * (1 - _ROUND)
    points = [
        (left + r, top), (right - r, top), (right - k, top), (right, top + k), (right, top + r),
        (right, bottom - r), (right, bottom - k), (right - k, bottom), (right - r, bottom),
        (left + r, bottom), (left + k, bottom), (left, bottom - k), (left, bottom - r),
        (left, top + r), (left, top + k), (left + k, top), (left + r, top), (left + r, top),
    ]  # fmt: skip
    side = [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path(points, [Path.MOVETO, *side * 4, Path.CLOSEPOLY])


def _curve(description: str) -> Path:
    """Return the line that a ``path`` of absolute M, H, V and C commands describes."""
    from matplotlib.path import Path

    points: list[tuple[float, float]] = []
    codes = []
    for command, text in _COMMAND.findall(description):
        values = [float(value) for value in text.split()]
        if command == "H":
            values = [values[0], points[-1][1]]
        elif command == "V":
            values = [points[-1][0], values[0]]
        points += zip(values[::2], values[1::2], strict=True)
        codes += {"M": [Path.MOVETO], "C": [Path.CURVE4] * 3}.get(command, [Path.LINETO])
    return Path(points, codes)
