from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from planner.schema import Name

ADAPTER: TypeAdapter[str] = TypeAdapter(Name)


@pytest.mark.parametrize("name", ["a", "node-0", "gpu:0", "0000:3b:00.0", "meta/llama-3.1", "x" * 253])
def test_ordinary_names_pass(name: str) -> None:
    """Host names, addresses on the bus, and model names are names."""
    assert ADAPTER.validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a b", "-a", ".a", "a\n", "a\x00", "x" * 254, "é", "a[0]", "../x", "${x}", 5]
)
def test_what_would_confuse_is_refused(name: object) -> None:
    """Spaces, control characters, brackets and leading punctuation."""
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(name)
