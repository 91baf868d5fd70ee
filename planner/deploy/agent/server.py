"""A small HTTP server for a cluster: bounded requests, time-outs, a token, TLS."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes of a request: room for the whole nodes of a few hundred, or the names of 20,000."""
MOST_REQUESTS = 16
"""Requests that are answered at once; further ones are turned away."""


@dataclass(frozen=True)
class Answer:
    """What a request gets: status, type and body."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "application/json"


class RequestError(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Guard:
    """Limits of a server.

    Attributes
    ----------
    token
        Bearer token that every request but those for health must show; none when absent.
    certificate, key
        Files in PEM form; without them the server speaks plain HTTP.
    timeout
        Longest time between two parts of a request, s.
    """

    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout: float = 5.0
    largest_body: int = LARGEST_BODY


Route = Callable[[bytes], Answer]
OPEN = ("/healthz", "/ready")


def make_server(
    address: tuple[str, int], routes: Mapping[tuple[str, str], Route], guard: Guard | None = None
) -> ThreadingHTTPServer:
    """Return a server for routes by method and path; ``serve_forever`` runs it.

    Raises
    ------
    OSError
        If the address or a file of the certificate cannot be used.
    """
    limits = guard or Guard()
    handler = type("Handler", (_Handler,), {"routes": routes, "guard": limits, "timeout": limits.timeout})
    server = _Server(address, handler)
    if limits.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(limits.certificate, limits.key)
        # The handshake waits until the connection has its own thread and time-out.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.free = BoundedSemaphore(MOST_REQUESTS)

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over connections that break off; what a handler answers is its own affair."""


class _Handler(BaseHTTPRequestHandler):
    routes: Mapping[tuple[str, str], Route]
    guard: Guard
    protocol_version = "HTTP/1.1"
    server_version = "planner"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        server = self.server
        assert isinstance(server, _Server)
        if not server.free.acquire(blocking=False):
            self._send(_refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once"))
            return
        try:
            self._send(self._routed(method))
        except RequestError as error:
            self._send(_refusal(error.status, str(error)))
        except TimeoutError:
            self.close_connection = True
        finally:
            server.free.release()

    def _routed(self, method: str) -> Answer:
        path = self.path.partition("?")[0]
        route = self.routes.get((method, path))
        if path not in OPEN:
            self._admit()
        if route is None:
            known = any(where == path for _, where in self.routes)
            status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
            raise RequestError(status, f"no {method} of {path[:80]}")
        return route(self._body() if method == "POST" else b"")

    def _admit(self) -> None:
        token, shown = self.guard.token, self.headers.get("Authorization", "")
        if token is not None and not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            raise RequestError(HTTPStatus.UNAUTHORIZED, "a bearer token is needed")

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
        text = self.headers.get("Content-Length", "")
        if not text.isascii() or not text.isdigit():
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
        if len(text) > 12 or int(text) > self.guard.largest_body:
            limit = self.guard.largest_body
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {limit} bytes are read")
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the body ends early")
        return body

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if (
            answer.status >= HTTPStatus.BAD_REQUEST
        ):  # what was not read must not be taken for the next request
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: who asks is told."""


def _refusal(status: HTTPStatus, reason: str) -> Answer:
    return Answer(f"{reason}\n".encode(), status, "text/plain; charset=utf-8")
