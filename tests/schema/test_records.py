from __future__ import annotations

import pytest
from pydantic import ValidationError

from planner.schema import Fault, FaultError
from tests.schema.samples import Link, Rack


def test_records_are_frozen_and_strict() -> None:
    """No field changes after construction, none is unknown."""
    link = Link(source="a", target="b", bandwidth=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        link.source = "c"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Link.model_validate({"source": "a", "target": "b", "bandwidth": 1.0, "lane": 1})


def test_a_document_built_in_python_knows_its_header() -> None:
    """The header fills itself in, and no other is accepted."""
    assert Rack().schema_ == Rack.header() == "rack/3"
    assert Rack.model_validate({"schema": "rack/3"}) == Rack()
    with pytest.raises(ValidationError, match="expected rack/3"):
        Rack.model_validate({"schema": "rack/2"})


def test_fields_have_two_names_in_python() -> None:
    """A field whose document name is a Python keyword has another in code."""
    assert Rack.model_validate({"from": "x"}) == Rack.model_validate({"parent": "x"})


def test_not_a_number_is_refused() -> None:
    """JSON could not hold it."""
    with pytest.raises(ValidationError, match="finite"):
        Rack(scale=float("nan"))


def test_a_fault_error_reads_well_without_a_document() -> None:
    """In Python code the text alone has to do."""
    error = FaultError([Fault(("links", 1), "no vertex 'x'", "add it"), Fault((), "too few")])
    assert str(error) == "links.1: no vertex 'x' (add it); : too few"
