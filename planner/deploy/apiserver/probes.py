"""Rules for probes and life-cycle handlers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.deploy.apiserver.syntax import Problems, at, at_least, one_of, port, port_number, required

Json = Mapping[str, Any]
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def probes(one: Json, path: str, *, allowed: bool) -> Problems:
    """Yield what is wrong with the probes of a container."""
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = one.get(name)
        if probe is None:
            continue
        where = f"{path}.{name}"
        if not allowed:
            yield f"{where}: Forbidden: may not be set for init containers without restartPolicy Always"
        if "sleep" in probe:
            yield f"{where}.sleep: a probe cannot sleep"
        yield from handler(probe, where)
        yield from at_least(
            where, probe, 0, "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
            "failureThreshold",
        )  # fmt: skip
        yield from at_least(where, probe, 1, "terminationGracePeriodSeconds")
        if name != "readinessProbe" and probe.get("successThreshold") not in (None, 0, 1):
            yield f"{where}.successThreshold: must be 1"
        elif name == "readinessProbe" and "terminationGracePeriodSeconds" in probe:
            yield f"{where}.terminationGracePeriodSeconds: must not be set for readinessProbes"


def handler(action: Json, path: str) -> Problems:
    """Yield what is wrong with what a probe or a life-cycle hook does."""
    given = [name for name in _HANDLERS if name in action]
    if len(given) != 1:
        yield (
            f"{path}: Required value: must specify a handler type"
            if not given
            else f"{path}: one handler only"
        )
    for name in given:
        where, body = f"{path}.{name}", action[name]
        if name == "exec":
            yield from required(f"{where}.command", body.get("command"))
        elif name == "grpc":
            yield from at(f"{where}.port", port_number(body.get("port", 0)))
        elif name == "sleep":
            yield from at_least(where, body, 0, "seconds")
        else:
            yield from at(f"{where}.port", port(body["port"]) if "port" in body else "Required value")
            yield from one_of(f"{where}.scheme", body.get("scheme"), "HTTP", "HTTPS")
        for index, header in enumerate(body.get("httpHeaders") or []):
            name = header.get("name") or ""
            if not _HEADER.fullmatch(name):
                yield f"{where}.httpHeaders[{index}].name: {name!r} is no name of an HTTP header"
