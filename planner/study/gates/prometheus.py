"""Live figures from a Prometheus server, over its HTTP API."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from planner.errors import GateError

LARGEST_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True)
class Prometheus:
    """A server and how long to wait for it.

    Attributes
    ----------
    token
        Bearer token; empty for none.
    """

    url: str
    timeout: float = 10.0
    token: str = ""

    def query(self, expression: str) -> list[float]:
        """Return the values of an instant query, one per series; none where no series matches.

        Raises
        ------
        GateError
            If the server cannot be reached, refuses the expression, or answers with something else.
        """
        kind, result = self._asked(expression)
        return _finite([result] if kind == "scalar" else [one.get("value") for one in result])

    def labels(self, expression: str, name: str) -> set[str]:
        """Return the values of a label among the series of an instant query; empty ones do not count.

        Raises
        ------
        GateError
            As :meth:`query`.
        """
        kind, result = self._asked(expression)
        metrics = [] if kind == "scalar" else [one.get("metric") for one in result]
        found = [metric.get(name) for metric in metrics if isinstance(metric, dict)]
        return {str(value) for value in found if value}

    def _asked(self, expression: str) -> tuple[str, list[Any]]:
        answer = self._get("/api/v1/query", {"query": expression})
        if answer.get("status") != "success":
            raise GateError(f"{self.url}: {expression}: {answer.get('error', 'the query failed')}")
        data = answer.get("data")
        data = data if isinstance(data, dict) else {}
        kind, result = data.get("resultType"), data.get("result")
        if kind == "scalar" and isinstance(result, list):
            return kind, result
        if kind == "vector" and isinstance(result, list) and all(isinstance(one, dict) for one in result):
            return kind, result
        raise GateError(
            f"{self.url}: {expression}: gives a {kind}; write an expression with one value a series"
        )

    def _get(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        address = f"{self.url.rstrip('/')}{path}?{urllib.parse.urlencode(parameters)}"
        if not address.startswith(("http://", "https://")):
            raise GateError(
                f"{self.url!r} is no address of a server; write for example http://prometheus:9090"
            )
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                body = answer.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            body = error.read(LARGEST_ANSWER)
            if error.code not in (400, 422, 503):  # the API explains these in the body
                raise GateError(f"{self.url}: answers {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise GateError(f"{self.url}: cannot be reached: {reason}") from None
        if len(body) > LARGEST_ANSWER:
            raise GateError(
                f"{self.url}: the answer is larger than {LARGEST_ANSWER} bytes; sum over fewer series"
            )
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise GateError(f"{self.url}: answers with no JSON; is this a Prometheus server?") from None
        if not isinstance(found, dict):
            raise GateError(f"{self.url}: answers with something else than Prometheus does")
        return found


def _finite(samples: list[Any]) -> list[float]:
    """Return the values of samples ``[time, "value"]``; NaN counts as absent."""
    try:
        values = [float(sample[1]) for sample in samples]
    except (TypeError, ValueError, LookupError, OverflowError):
        raise GateError("the server's answer holds a sample without a value") from None
    return [value for value in values if not math.isnan(value)]
