"""The extender over real HTTP: messages of the scheduler, and what no scheduler sends."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.manifest_situations import situations
from planner.deploy.agent.extender import routes, rules
from planner.deploy.agent.server import Guard, make_server

FIELDS = ["Pod", "NodeNames", "Nodes", "metadata", "labels", "items", "name"]
TRAYS = [f"tray-{index}" for index in range(6)]


@contextmanager
def serving(guard: Guard | None = None) -> Iterator[int]:
    """Yield the port of an extender for a plan on four trays of one NVLink domain."""
    (one,) = [one for one in situations() if one.name == "NVLink domain"]
    server = make_server(("127.0.0.1", 0), routes(rules(one.plan, one.topology)), guard)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as found:
        yield found


def ask(port: int, path: str, body: bytes, method: str = "POST", **headers: str) -> tuple[int, bytes]:
    """Return status and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def arguments(job: str = "serve", **more: Any) -> bytes:
    pod = {"metadata": {"name": "p", "labels": {"app.kubernetes.io/part-of": job}}}
    return json.dumps({"Pod": pod, **({"NodeNames": [*TRAYS, "elsewhere"]} | more)}).encode()


def test_nodes_of_another_group_are_refused(port: int) -> None:
    """Nodes of the plan's NVLink group pass, one that shares no NVLink with it fails with the reason."""
    status, body = ask(port, "/filter", arguments())
    found = json.loads(body)
    assert status == 200 and found["NodeNames"] == TRAYS
    assert list(found["FailedNodes"]) == ["elsewhere"] and "NVLink group" in found["FailedNodes"]["elsewhere"]


def test_whole_nodes_come_back_whole(port: int) -> None:
    """A scheduler without a node cache sends nodes and gets the same objects back; fields in any case."""
    nodes = [{"metadata": {"name": name}, "status": {"x": 1}} for name in ("tray-0", "elsewhere")]
    body = json.dumps({"pod": json.loads(arguments())["Pod"], "nodes": {"items": nodes}}).encode()
    found = json.loads(ask(port, "/filter", body)[1])
    assert found["Nodes"]["items"] == nodes[:1] and found["NodeNames"] is None


def test_planned_nodes_come_first(port: int) -> None:
    """Planned trays score 10, others of their domain 5, the rest 0; a pod of no plan has no preference."""
    scores = {one["Host"]: one["Score"] for one in json.loads(ask(port, "/prioritize", arguments())[1])}
    assert [scores[name] for name in TRAYS] == [10, 10, 10, 10, 5, 5] and scores["elsewhere"] == 0
    other = json.loads(ask(port, "/prioritize", arguments("another"))[1])
    assert {one["Score"] for one in other} == {0}
    assert json.loads(ask(port, "/filter", arguments("another"))[1])["FailedNodes"] == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/filter", b"{", 400),
        ("POST", "/filter", b"\xff\xfe", 400),
        ("POST", "/filter", b"[" * 100_000, 400),
        ("POST", "/filter", b"[]", 400),
        ("POST", "/filter", b'{"Pod": {"metadata": {"labels": []}}, "NodeNames": []}', 400),
        ("POST", "/filter", b'{"Pod": {}, "NodeNames": [1]}', 400),
        ("POST", "/filter", b'{"Pod": {}}', 400),
        ("POST", "/filter", json.dumps({"Pod": {}, "NodeNames": ["n"] * 20_001}).encode(), 413),
        ("GET", "/filter", b"", 405),
        ("POST", "/elsewhere", b"{}", 404),
        ("GET", "/healthz", b"", 200),
    ],
)
def test_what_is_malformed_is_answered(port: int, method: str, path: str, body: bytes, status: int) -> None:
    """Whatever is sent gets a status, and the extender goes on answering."""
    assert ask(port, path, body, method)[0] == status
    assert ask(port, "/filter", arguments())[0] == 200


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
    )
)
def test_no_json_makes_it_fail(port: int, value: Any) -> None:
    """Any JSON is answered with a result or with the reason of a refusal."""
    assert ask(port, "/filter", json.dumps(value).encode())[0] in (200, 400)


def test_oversized_and_unmeasured_bodies_are_not_read() -> None:
    """A body over the limit, of no length or sent in chunks is refused by its header alone."""
    with serving(Guard(largest_body=1000)) as port:
        assert ask(port, "/filter", b" " * 1001)[0] == 413
        for headers in ("Content-Length: x", "Content-Length: -1", "Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                link.sendall(f"POST /filter HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n".encode())
                assert b" 411 " in link.recv(1000).split(b"\r\n")[0]


def test_a_body_that_does_not_come_is_given_up() -> None:
    """A request that stops half way ends with the time-out, and others are answered meanwhile."""
    with (
        serving(Guard(timeout=0.3)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as link,
    ):
        link.sendall(b"POST /filter HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert ask(port, "/filter", arguments())[0] == 200
        assert link.recv(1000) == b""


def test_without_the_token_nothing_but_health_is_told() -> None:
    """With a token set, requests need it; probes of the kubelet do not."""
    with serving(Guard(token="secret")) as port:
        assert ask(port, "/filter", arguments())[0] == 401
        assert ask(port, "/filter", arguments(), Authorization="Bearer wrong")[0] == 401
        assert ask(port, "/filter", arguments(), Authorization="Bearer secret")[0] == 200
        assert ask(port, "/healthz", b"", "GET")[0] == 200
