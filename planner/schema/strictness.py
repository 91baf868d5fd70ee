"""Numbers of a document are numbers: ``true`` is not 1 and ``"8"`` is not 8.

Pydantic's own strict mode would also refuse lists for tuples and NumPy integers from Python code.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic_core import PydanticKnownError, core_schema

_APART = ("keys_schema", "serialization", "metadata")


def refuse_look_alikes(schema: Any, model: type) -> None:
    """Put a check before every number inside the core schema of ``model``, in place.

    Keys of mappings are left alone, because a document writes every key as text; so are other models inside,
    which look after themselves.
    """
    if isinstance(schema, list):
        parts = list(enumerate(schema))
    elif isinstance(schema, dict) and not (schema.get("type") == "model" and schema["cls"] is not model):
        apart = _APART if isinstance(schema.get("type"), str) else ()
        parts = [(key, part) for key, part in schema.items() if key not in apart]
    else:
        return
    for key, part in parts:
        if isinstance(part, dict) and part.get("type") in ("int", "float"):
            schema[key] = _checked(part)
        else:
            refuse_look_alikes(part, model)


def _checked(number: Any) -> core_schema.CoreSchema:
    error: Literal["int_type", "float_type"] = "int_type" if number["type"] == "int" else "float_type"

    def refuse(value: object) -> object:
        if isinstance(value, bool | str):
            raise PydanticKnownError(error)
        return value

    return core_schema.no_info_before_validator_function(refuse, number)
