"""Writing documents: readable YAML in the order of the fields, which loads back equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from planner.schema.canonical import plain
from planner.schema.scalars import reads_as_text

WIDTH = 110
"""Columns after which a line is broken."""
_SHORT = 3
_TAG = "tag:yaml.org,2002:"
_SPECIAL = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}


def dump_yaml(document: BaseModel | Mapping[str, Any]) -> str:
    """Return YAML text of a record, without defaults, or of a plain mapping as it is.

    Lists of scalars longer than a few entries are written in flow style.
    """
    data = plain(document) if isinstance(document, BaseModel) else dict(document)
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
    )
    return text


class _Dumper(yaml.CSafeDumper):
    """Writes words so that this program's own reader takes them for what they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_YAML_1_1_BOOLEANS = frozenset("yYnN")
"""Single letters that other readers, Kubernetes among them, still take for booleans."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" in text:
        return dumper.represent_scalar(_TAG + "str", text, style="|")
    plain = reads_as_text(text) and text not in _YAML_1_1_BOOLEANS
    style = None if plain else '"'
    return dumper.represent_scalar(_TAG + "str", text, style=style)


def _represent_float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    text = _SPECIAL.get(repr(float(value)), repr(float(value)))
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")  # without a point other readers take 1e+22 for text
    return dumper.represent_scalar(_TAG + "float", text)


def _represent_list(dumper: _Dumper, items: list[Any] | tuple[Any, ...]) -> yaml.SequenceNode:
    flat = len(items) > _SHORT and not any(isinstance(item, list | tuple | Mapping) for item in items)
    return dumper.represent_sequence(_TAG + "seq", list(items), flow_style=flat)


def _represent_mapping(dumper: _Dumper, mapping: Mapping[Any, Any]) -> yaml.MappingNode:
    node = dumper.represent_mapping(_TAG + "map", mapping.items())
    for key, _ in node.value:
        if key.value.isdecimal():
            key.tag, key.style = _TAG + "int", None  # every key is read as text, so a number needs no quotes
    return node


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(float, _represent_float)
_Dumper.add_representer(dict, _represent_mapping)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
_Dumper.add_multi_representer(str, _represent_text)
_Dumper.add_multi_representer(float, _represent_float)
_Dumper.add_multi_representer(dict, _represent_mapping)
