"""Markup is made of escaped text only."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from planner.report.svg import clean, element


@given(st.text(), st.text())
def test_any_text_survives_as_text(inside: str, attribute: str) -> None:
    """Whatever is put in, as content or attribute, is read back the same, save what XML forbids."""
    read = ET.fromstring(element("text", inside, data_name=attribute))
    assert list(read) == []
    expected = clean(inside).replace("\r\n", "\n").replace("\r", "\n")
    assert (read.text or "") == expected
    assert read.get("data-name") is not None


def test_numbers_are_short() -> None:
    """Coordinates have at most two decimals and no trailing zeros."""
    assert element("rect", x=1.0, y=2.3456, width=0.5) == '<rect x="1" y="2.35" width="0.5"></rect>'
