"""The meaning of a document as bytes: equal for documents that differ only in how they are written."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from planner.schema.records import Document

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def plain(record: BaseModel) -> dict[str, Any]:
    """Return a record as mappings, lists and scalars by document names, without what equals its default."""
    return _prune_record(record, record.model_dump(mode="json", by_alias=True))


def _prune(value: Any, dumped: Any) -> Any:
    """Return ``dumped`` without the defaults of the records inside ``value``."""
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        return _prune_record(value, dumped)
    if isinstance(value, dict) and isinstance(dumped, dict) and len(value) == len(dumped):
        return {key: _prune(item, dumped[key]) for item, key in zip(value.values(), dumped, strict=True)}
    if isinstance(value, list | tuple) and isinstance(dumped, list) and len(value) == len(dumped):
        return [_prune(item, piece) for item, piece in zip(value, dumped, strict=True)]
    if isinstance(value, set | frozenset):
        return sorted(dumped, key=json.dumps)  # the order of a set changes from run to run
    return dumped


def _prune_record(record: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    declared = type(record).model_fields
    fields = {info.serialization_alias or name: (name, info) for name, info in declared.items()}
    for key, piece in dumped.items():
        if key not in fields:
            kept[key] = piece
            continue
        name, info = fields[key]
        value = getattr(record, name)
        if name == "schema_" or not _is_default(info, value):
            kept[key] = _prune(value, piece)
    return kept


def _is_default(info: FieldInfo, value: Any) -> bool:
    """Return whether a field may be left out; a tag that tells union members apart may not."""
    if info.is_required() or (get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1):
        return False
    default = info.get_default(call_default_factory=True, validated_data={})
    return isinstance(default, bool) == isinstance(value, bool) and bool(default == value)


def canonical_json(document: Document) -> bytes:
    """Return the canonical JSON of a document: sorted keys, no spaces, shortest exact numbers, UTF-8."""
    return json.dumps(
        plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def digest(document: Document) -> str:
    """Return ``"sha256:"`` and the hexadecimal SHA-256 of the canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(document)).hexdigest()
