"""The two base models of every document: a strict record, and a document with a header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator

from planner.schema.strictness import refuse_look_alikes

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

DOCUMENT_CONTEXT = {"document": True}
"""Validation context while a file is read: numbers without a unit are refused where a quantity is due."""


def in_document(context: Any) -> bool:
    """Return whether values come from a document rather than from Python code."""
    return isinstance(context, Mapping) and bool(context.get("document"))


@dataclass(frozen=True)
class Fault:
    """A mistake that a model found across its fields, with the place inside the model.

    Attributes
    ----------
    loc
        Keys and indices from the model that raises to the offending value, by document name.
    text
        What is wrong.
    hint
        What to do about it.
    """

    loc: tuple[str | int, ...]
    text: str
    hint: str = ""


class FaultError(ValueError):
    """Raised by a model validator to report several located mistakes at once, such as dangling names."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(_line(fault) for fault in self.faults))


def _line(fault: Fault) -> str:
    where = ".".join(str(step) for step in fault.loc)
    return f"{where}: {fault.text}" + (f" ({fault.hint})" if fault.hint else "")


class Record(BaseModel):
    """A part of a document: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make numbers strict about look-alikes."""
        schema = handler(source)
        refuse_look_alikes(handler.resolve_ref_schema(schema), cls)
        return schema

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed; what was derived from the old fields is forgotten."""
        copy = super().model_copy(update=update, deep=deep)
        for name in set(copy.__dict__) - set(type(self).model_fields):
            del copy.__dict__[name]
        return copy


class Document(Record):
    """A whole document, with the header ``schema: KIND/VERSION``.

    A subclass sets ``kind`` and ``version``; the header then fills itself in when it is built in Python.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    schema_: str = Field(default="", alias="schema", validate_default=True)
    """Header, ``KIND/VERSION``."""

    @field_validator("schema_")
    @classmethod
    def _check_header(cls, header: str) -> str:
        if header not in ("", cls.header()):
            raise ValueError(f"expected {cls.header()}, not {header}")
        return cls.header()

    @classmethod
    def header(cls) -> str:
        """Return the header of this kind of document, such as ``topology/1``."""
        return f"{cls.kind}/{cls.version}"
