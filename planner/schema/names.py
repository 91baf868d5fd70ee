"""What a thing in a document may be called."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$"

Name: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=NAME_PATTERN),
    Field(description="A name: a letter or digit, then letters, digits and . _ / : -"),
]
"""A name of 1 to 253 characters: a letter or digit, then letters, digits and ``. _ / : -``."""
