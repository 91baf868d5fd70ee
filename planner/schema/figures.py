"""Numbers with provenance: every hardware figure says who stated it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    GetJsonSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from planner.schema.quantities import (
    Bytes,
    BytesPerSecond,
    FlopsPerSecond,
    Hertz,
    Ratio,
    Seconds,
    UsdPerHour,
    Watts,
    quantity_json_schema,
)
from planner.schema.records import Record

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

Provenance: TypeAlias = Literal["measured", "vendor", "nccl-constant", "assumed"]
NO_SOURCE = "stated without a source"


class Figure(Record):
    """A number with the reason to believe it.

    A document may state the mapping ``{value: 450 GB/s, provenance: vendor, source: aic}`` or the text
    ``450 GB/s`` alone, which counts as assumed; Python code may pass a float, in SI.

    Attributes
    ----------
    value
        The number, SI unit of ``dimension``.
    provenance
        How the number came to be known.
    source
        Key of the document's table of sources, or free text.
    """

    dimension: ClassVar[str] = "1"
    value: float
    provenance: Provenance = "assumed"
    source: str = NO_SOURCE

    def __float__(self) -> float:
        return self.value

    @classmethod
    def of(cls, value: float, provenance: Provenance = "assumed", source: str = NO_SOURCE) -> Self:
        """Return the figure of a plain SI number."""
        return cls(value=value, provenance=provenance, source=source)

    @model_validator(mode="before")
    @classmethod
    def _accept_plain(cls, data: Any) -> Any:
        """Take a number or a text for a figure without a source."""
        return data if isinstance(data, dict | Figure) else {"value": data}

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        plain = handler(self)
        if info.mode == "json" and self.provenance == "assumed" and self.source == NO_SOURCE:
            return plain["value"]
        return plain

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        full = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [quantity_json_schema(cls.dimension), full]}


class BandwidthFigure(Figure):
    """A rate, bytes/s."""

    dimension: ClassVar[str] = "bytes/s"
    value: BytesPerSecond


class LatencyFigure(Figure):
    """A time, s."""

    dimension: ClassVar[str] = "s"
    value: Seconds


class BytesFigure(Figure):
    """A size, bytes."""

    dimension: ClassVar[str] = "bytes"
    value: Bytes


class FlopsFigure(Figure):
    """A compute rate, FLOP/s."""

    dimension: ClassVar[str] = "FLOP/s"
    value: FlopsPerSecond


class RatioFigure(Figure):
    """A plain ratio."""

    dimension: ClassVar[str] = "1"
    value: Ratio


class PowerFigure(Figure):
    """A power, W."""

    dimension: ClassVar[str] = "W"
    value: Watts


class PriceFigure(Figure):
    """A price, USD/h."""

    dimension: ClassVar[str] = "USD/h"
    value: UsdPerHour


class FrequencyFigure(Figure):
    """A frequency, Hz."""

    dimension: ClassVar[str] = "Hz"
    value: Hertz
