"""The PNG of a machine is the picture of its SVG."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib import image

from planner.cli import cli
from planner.report.style import drawing_css
from planner.report.topology_view_css import Element, StyleSheet
from planner.report.topology_view_png import SCALE, topology_png
from planner.topology import load_topology


def pixels(name: str) -> np.ndarray:
    """Return the picture of a preset, rows of RGBA from 0 to 1."""
    return np.asarray(image.imread(BytesIO(topology_png(load_topology(name))), format="png"))


def test_the_picture_has_the_size_of_the_drawing_and_something_on_it() -> None:
    """Two pixels for each px of the SVG; white around, with ink on a part of it."""
    found = pixels("dgx-h100")
    assert found.shape[1] % SCALE == 0 and found.shape[0] > 600 and found.shape[1] > 1800
    assert (found[0] == 1).all() and (found[-1] == 1).all()
    assert 0.02 < (found[..., :3].min(axis=2) < 0.9).mean() < 0.5


def test_links_are_drawn_between_the_chips() -> None:
    """A machine with more links has more ink."""
    ink = {
        name: int((pixels(name)[..., :3].min(axis=2) < 0.75).sum()) for name in ("mi300x-8", "pcie-4090x8")
    }
    assert ink["mi300x-8"] > ink["pcie-4090x8"]


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((Element("rect", frozenset({"frame"})),), "fill", "#fafbfc"),
        ((Element("path", frozenset({"wire", "ux", "pcie"})),), "stroke-opacity", ".55"),
        ((Element("path", frozenset({"wire", "ux", "infiniband"})),), "stroke-width", "3.5px"),
        (
            (Element("g", frozenset({"chip", "numa"})), Element("rect", frozenset({"body"}))),
            "fill",
            "#f3f5f8",
        ),
        (
            (Element("g", frozenset({"chip", "gpu", "idle"})), Element("rect", frozenset({"body"}))),
            "fill",
            "#ffffff",
        ),
        ((Element("rect", frozenset({"cell", "k0"}), frozenset({"dot"})),), "fill-opacity", ".18"),
        ((Element("rect", frozenset({"cell", "k0"})),), "fill-opacity", ".85"),
        ((Element("rect", frozenset({"cell", "k0"})),), "fill", "#4477aa"),
    ],
)
def test_rules_hold_as_a_browser_applies_them(path: tuple[Element, ...], key: str, value: str) -> None:
    """More classes win over fewer, later rules over earlier ones; variables are filled in."""
    drawing = Element("svg", frozenset({"drawing"}))
    assert StyleSheet(drawing_css(1)).style((drawing, *path))[key] == value


def test_show_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG goes to the file named with -o, else to NAME.png, and never over another one."""
    monkeypatch.chdir(tmp_path)
    words = ["topology", "show", "gh200-single", "--format", "png"]
    assert CliRunner().invoke(cli, [*words, "-o", "a.png"]).stdout == "a.png\n"
    assert CliRunner().invoke(cli, words).stdout == "gh200-single.png\n"
    assert Path("a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" == Path("gh200-single.png").read_bytes()[:8]
    assert CliRunner().invoke(cli, words).exit_code == 1
