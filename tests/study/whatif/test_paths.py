"""Dotted paths: what they pick, what they refuse, and that nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import StudyError
from planner.study.whatif.paths import parse_path, scale_field, set_field, split_quantity

DATA: dict[str, Any] = {
    "machines": [
        {
            "name": "box",
            "links": [
                {
                    "kind": "nvlink",
                    "bandwidth": {"value": "400 GB/s", "provenance": "measured", "source": "x"},
                },
                {"kind": "pcie", "bandwidth": "50 GB/s"},
            ],
        }
    ],
    "jobs": [{"name": "chat", "rate": "2 req/s", "batch": 8}],
}


@pytest.mark.parametrize("selector", ["[0]", "[kind=nvlink]"])
def test_selectors_pick_entries_and_a_scaled_figure_loses_its_source(selector: str) -> None:
    """An entry is picked by number or by a field; a scaled figure is an assumption of the study."""
    data = copy.deepcopy(DATA)
    scale_field(data, f"machines[box].links{selector}.bandwidth", 0.5)
    figure = data["machines"][0]["links"][0]["bandwidth"]
    assert figure == {"value": "200 GB/s", "provenance": "assumed", "source": "what-if"}
    assert data["machines"][0]["links"][1] == DATA["machines"][0]["links"][1]


def test_a_star_picks_all_and_set_replaces_whole_figures() -> None:
    """All entries of a list are set, figures with their source included."""
    data = copy.deepcopy(DATA)
    set_field(data, "machines[*].links[*].bandwidth", "1 GB/s")
    assert [link["bandwidth"] for link in data["machines"][0]["links"]] == ["1 GB/s", "1 GB/s"]


def test_numbers_without_a_unit_scale_and_whole_ones_stay_whole() -> None:
    """A batch of 8 halves to 4, not to 4.0."""
    data = copy.deepcopy(DATA)
    scale_field(data, "jobs[chat].batch", 0.5)
    assert data["jobs"][0]["batch"] == 4
    assert isinstance(data["jobs"][0]["batch"], int)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("machines[bix].name", "did you mean 'box'"),
        ("machines[0].link[0].kind", "did you mean 'links'"),
        ("machines.links", "say which entries"),
        ("jobs[0].", "is not a path"),
        ("jobs[0].rate.x", "no fields"),
    ],
)
def test_a_path_to_nowhere_is_refused_with_a_hint(path: str, said: str) -> None:
    """The message names the path and what would have been right."""
    with pytest.raises(StudyError, match=said):
        set_field(copy.deepcopy(DATA), path, 1)


def test_what_is_no_number_cannot_be_scaled() -> None:
    """A name has no factor, and neither has a field that is not stated."""
    with pytest.raises(StudyError, match="not a number"):
        scale_field(copy.deepcopy(DATA), "jobs[0].name", 2.0)
    with pytest.raises(StudyError, match="not stated"):
        scale_field(copy.deepcopy(DATA), "jobs[0].cap", 2.0)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_a_study_error(text: str) -> None:
    """Nothing but a `StudyError` comes out of a path that makes no sense."""
    try:
        steps = parse_path(text)
    except StudyError:
        return
    assert steps


@given(st.floats(0.001, 1e6), st.floats(0.01, 100))
def test_scaling_scales_the_number_and_keeps_the_unit(number: float, factor: float) -> None:
    """The scaled text is the product to twelve digits, in the same unit."""
    data: dict[str, Any] = {"a": f"{number:.12g} GB/s"}
    before, _ = split_quantity(data["a"])
    scale_field(data, "a", factor)
    after, unit = split_quantity(data["a"])
    assert unit == "GB/s"
    assert after == pytest.approx(before * factor, rel=1e-11)
