from __future__ import annotations

import pytest
from pydantic import ValidationError

from planner import schema, units
from planner.schema.records import DOCUMENT_CONTEXT

CLASSES = [
    schema.BandwidthFigure,
    schema.LatencyFigure,
    schema.BytesFigure,
    schema.FlopsFigure,
    schema.RatioFigure,
    schema.PowerFigure,
    schema.PriceFigure,
    schema.FrequencyFigure,
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_figure_takes_text_mapping_and_number(kind: type[schema.Figure]) -> None:
    """Text and numbers count as assumed; a mapping says where the number comes from."""
    text = units.DIMENSIONS[kind.dimension].examples[0]
    value = units.parse(text, kind.dimension)
    plain = kind.model_validate(text, context=DOCUMENT_CONTEXT)
    full = kind.model_validate(
        {"value": text, "provenance": "vendor", "source": "sheet"}, context=DOCUMENT_CONTEXT
    )
    assert plain == kind.of(value) == kind.model_validate(value)
    assert (plain.provenance, plain.source) == ("assumed", "stated without a source")
    assert full == kind.of(value, "vendor", "sheet")
    assert float(full) == value


def test_a_figure_in_a_document_needs_its_unit() -> None:
    """Alone and in a mapping alike; 0 needs none."""
    for stated in (5, {"value": 5}):
        with pytest.raises(ValidationError, match="has no unit"):
            schema.LatencyFigure.model_validate(stated, context=DOCUMENT_CONTEXT)
    assert schema.LatencyFigure.model_validate(0, context=DOCUMENT_CONTEXT).value == 0


def test_provenance_is_one_of_four_words() -> None:
    """Anything else is refused."""
    with pytest.raises(ValidationError, match="measured"):
        schema.LatencyFigure.model_validate({"value": "5 us", "provenance": "guess"})


def test_a_figure_is_written_as_short_as_its_story() -> None:
    """Without provenance it is text, with provenance a mapping; both read back equal."""
    plain, full = schema.BandwidthFigure.of(450e9), schema.BandwidthFigure.of(450e9, "measured", "run 7")
    mapping = {"value": "450 GB/s", "provenance": "measured", "source": "run 7"}
    for figure, expected in ((plain, "450 GB/s"), (full, mapping)):
        written: object = figure.model_dump(mode="json")
        assert written == expected
        assert schema.BandwidthFigure.model_validate(written, context=DOCUMENT_CONTEXT) == figure


def test_a_record_takes_figures_as_they_are() -> None:
    """A figure that is already one passes unchanged."""

    class Link(schema.Record):
        rate: schema.BandwidthFigure

    figure = schema.BandwidthFigure.of(1e9, "vendor", "sheet")
    assert Link(rate=figure).rate == figure
    assert Link.model_validate({"rate": 1e9}).rate.value == 1e9
