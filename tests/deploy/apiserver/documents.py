"""Small documents that an API server takes, to be changed by tests."""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]
_POD: Json = {
    "containers": [{"name": "main", "image": "registry.example.org/app:1", "ports": [{"containerPort": 80}]}]
}


def pod(**spec: Any) -> Json:
    """Return a pod with some fields of its specification replaced."""
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "here"}}
    return {**whole, "spec": {**copy.deepcopy(_POD), **spec}}


def container(**fields: Any) -> Json:
    """Return a pod whose only container has some fields replaced."""
    found = pod()
    found["spec"]["containers"][0] |= fields
    return found


def deployment(**spec: Any) -> Json:
    """Return a Deployment with some fields of its specification replaced."""
    template = {"metadata": {"labels": {"app": "one"}}, "spec": copy.deepcopy(_POD)}
    own = {"selector": {"matchLabels": {"app": "one"}}, "template": template}
    meta = {"name": "one", "namespace": "here"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {**own, **spec}}


def of(kind: str, api: str, spec: Json | None = None, **fields: Any) -> Json:
    """Return an object of any kind."""
    whole: Json = {"apiVersion": api, "kind": kind, "metadata": {"name": "one"}, **fields}
    return whole if spec is None else {**whole, "spec": spec}


def claim(**request: Any) -> Json:
    """Return a claim of one GPU with some fields of its request replaced."""
    exactly = {"deviceClassName": "gpu.nvidia.com", **request}
    return of(
        "ResourceClaim",
        "resource.k8s.io/v1",
        {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    )
