"""Rules for volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.environment import amount_of, source_problems
from planner.deploy.apiserver.others import claim_spec
from planner.deploy.apiserver.syntax import (
    Problems,
    amount,
    at,
    dns_label,
    dns_subdomain,
    file_key,
    named,
    one_of,
    required,
    unique,
)

Json = Mapping[str, Any]
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "configMap": ("name",), "secret": ("secretName",), "hostPath": ("path",),
    "nfs": ("server", "path"), "csi": ("driver",), "iscsi": ("targetPortal", "iqn"), "fc": (), "image": (),
    "flexVolume": ("driver",), "cephfs": ("monitors",), "rbd": ("monitors", "image"),
    "glusterfs": ("endpoints", "path"), "awsElasticBlockStore": ("volumeID",),
    "gcePersistentDisk": ("pdName",),
    "azureDisk": ("diskName", "diskURI"), "azureFile": ("secretName", "shareName"), "cinder": ("volumeID",),
}  # fmt: skip
"""Fields that each source of a volume must have."""
_PATHS = ("", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice")


def volumes(values: Sequence[Json], path: str) -> Problems:
    """Yield what is wrong with the volumes of a pod; one without a source is an empty directory."""
    yield from unique(path, [one.get("name") for one in values])
    for index, one in enumerate(values):
        where = f"{path}[{index}]"
        yield from named(f"{where}.name", one.get("name"), dns_label)
        sources = [key for key in one if key != "name"]
        if len(sources) > 1:
            yield f"{where}: may not specify more than 1 volume type"
        for source in sources:
            yield from _source(source, one[source], f"{where}.{source}")


def _source(kind: str, value: Json, path: str) -> Problems:
    for field in _NEEDED.get(kind, ()):
        yield from required(f"{path}.{field}", value.get(field))
    yield from _mode(value, path)
    rule = _RULES.get(kind)
    if rule is not None:
        yield from rule(value, path)


def _empty(value: Json, path: str) -> Problems:
    size = value.get("sizeLimit")
    if size is not None and (amount(size) or 0) < 0:
        yield f"{path}.sizeLimit: Forbidden: must be a valid resource quantity"


def _claim(value: Json, path: str) -> Problems:
    yield from named(f"{path}.claimName", value.get("claimName"), dns_subdomain)


def _projected(value: Json, path: str) -> Problems:
    for index, one in enumerate(value.get("sources") or []):
        yield from _projection(one, f"{path}.sources[{index}]")
    files = [
        item.get("path")
        for one in value.get("sources") or []
        for field in ("configMap", "secret", "downwardAPI")
        for item in (one.get(field) or {}).get("items") or []
    ]
    files += [(one.get("serviceAccountToken") or {}).get("path") for one in value.get("sources") or []]
    yield from unique(f"{path}.sources", files)


def _keys(value: Json, path: str) -> Problems:
    yield from items(value.get("items") or [], f"{path}.items")


def _fields(value: Json, path: str) -> Problems:
    yield from items(value.get("items") or [], f"{path}.items", keyed=False)


def _image(value: Json, path: str) -> Problems:
    yield from one_of(f"{path}.pullPolicy", value.get("pullPolicy"), "Always", "IfNotPresent", "Never")


def _share(value: Json, path: str) -> Problems:
    if value.get("path") and not value["path"].startswith("/"):
        yield f"{path}.path: must be an absolute path"


def _ephemeral(value: Json, path: str) -> Problems:
    path, claim = f"{path}.volumeClaimTemplate", value.get("volumeClaimTemplate")
    yield from required(path, claim)
    yield from claim_spec((claim or {}).get("spec") or {}, f"{path}.spec")


def _host_path(value: Json, path: str) -> Problems:
    yield from one_of(f"{path}.type", value.get("type"), *_PATHS)
    if ".." in (value.get("path") or "").split("/"):
        yield f"{path}.path: must not contain '..'"


def items(values: Sequence[Json], path: str, *, keyed: bool = True) -> Problems:
    """Yield what is wrong with what becomes files: keys of a ConfigMap or Secret, or fields of the pod."""
    for index, one in enumerate(values):
        if keyed:
            yield from named(f"{path}[{index}].key", one.get("key"), file_key)
        else:
            yield from _field_of_pod(one, f"{path}[{index}]")
        yield from _relative(one, f"{path}[{index}]")


def _field_of_pod(one: Json, path: str) -> Problems:
    field, amounts = one.get("fieldRef"), one.get("resourceFieldRef")
    if (field is None) == (amounts is None):
        yield f"{path}: exactly one of fieldRef and resourceFieldRef is required"
    if field is not None and field.get("fieldPath") not in ("metadata.labels", "metadata.annotations"):
        yield from source_problems("fieldRef", field, f"{path}.fieldRef")
    if amounts is not None:
        yield from required(f"{path}.resourceFieldRef.containerName", amounts.get("containerName"))
        yield from amount_of(amounts, f"{path}.resourceFieldRef")


def _relative(one: Json, path: str) -> Problems:
    target = one.get("path") or ""
    yield from required(f"{path}.path", target)
    if target.startswith("/") or ".." in target.split("/"):
        yield f"{path}.path: must be a relative path without '..'"
    yield from _mode(one, path)


def _mode(value: Json, path: str) -> Problems:
    for field in ("mode", "defaultMode"):
        if field in value and not 0 <= value[field] <= 0o777:
            yield f"{path}.{field}: must be a number between 0 and 0777"


def _projection(one: Json, path: str) -> Problems:
    if len(one) != 1:
        yield f"{path}: exactly 1 volume type is required"
    for kind, value in one.items():
        if kind in ("configMap", "secret"):
            yield from required(f"{path}.{kind}.name", value.get("name"))
            yield from items(value.get("items") or [], f"{path}.{kind}.items")
        elif kind == "downwardAPI":
            yield from items(value.get("items") or [], f"{path}.{kind}.items", keyed=False)
        elif kind == "serviceAccountToken":
            yield from required(f"{path}.{kind}.path", value.get("path"))
            yield from at(
                f"{path}.{kind}.expirationSeconds",
                "" if value.get("expirationSeconds", 3600) >= 600 else "may not be below 10 minutes",
            )


_RULES: Mapping[str, Callable[[Json, str], Problems]] = {
    "emptyDir": _empty, "persistentVolumeClaim": _claim, "hostPath": _host_path, "projected": _projected,
    "configMap": _keys, "secret": _keys, "downwardAPI": _fields, "ephemeral": _ephemeral, "image": _image,
    "nfs": _share,
}  # fmt: skip
"""Rules of the sources of volumes that have more than fields that are needed."""
