"""Plain HTTP on real sockets with curl, through TCP, TLS and the PROXY protocol."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LOOPBACK, Process, Relay, make_certificate, relay, require, run

pytestmark = pytest.mark.interop

TAIL = ("--header", "Accept: text/event-stream")


def curl(url: str, *options: str, **run_options: Any) -> str:
    """Return body and status as printed by curl, separated by a newline."""
    fixed = ("--silent", "--show-error", "--insecure", "--write-out", "\n%{http_code}")
    return run(require("curl"), *fixed, *options, url, **run_options).stdout


@contextmanager
def tail(url: str) -> Iterator[Process]:
    """Run curl on an event stream, and wait for its start."""
    with Process([require("curl"), "--silent", "--no-buffer", "--insecure", *TAIL, url]) as tailing:
        tailing.output.wait_for("retry: ")
        yield tailing


def http_url(server: Relay, path: str, endpoint: int = 0) -> str:
    """Return the URL of a room for curl."""
    return server.addresses[endpoint].replace("ws", "http", 1) + path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay with plain, TLS and PROXY endpoints."""
    pem = make_certificate(tmp_path_factory.mktemp("certificate"))
    tls = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with relay("--http", listen=[LOOPBACK, tls, f"haproxy:{LOOPBACK}"]) as started:
        yield started


@pytest.mark.parametrize("endpoint", [0, 1, 2], ids=["tcp", "tls", "proxy"])
def test_publish_and_tail(server: Relay, endpoint: int) -> None:
    """A POST reaches a WebSocket and an event stream; a WebSocket message reaches the event stream."""
    url = http_url(server, f"room-{endpoint}", endpoint)
    proxied = ("--haproxy-protocol",) if endpoint == 2 else ()
    streamed = http_url(server, f"room-{endpoint}")
    with WebsocketsClient(server.url(f"/room-{endpoint}")) as client, tail(streamed) as tailing:
        answer, _, status = curl(url, *proxied, "--data", "Grüße, 世界").split("\n")
        assert (json.loads(answer), status) == ({"room": f"room-{endpoint}", "members": 2}, "202")
        assert client.hear() == "Grüße, 世界"
        client.say(text("hello"))
        assert tailing.output.wait_for("data: (.*)\n", 2) == ["Grüße, 世界", "hello"]


def test_publish_file(server: Relay, tmp_path: Path) -> None:
    """A posted file is one binary message, chunked or not; Wsrelay-Except leaves one connection out."""
    file = tmp_path / "noise"
    file.write_bytes(bytes(range(256)) * 3000)
    kind = ("--header", "Content-Type: image/png")
    with WebsocketsClient(server.url("/files")) as one, WebsocketsClient(server.url("/files")) as other:
        handle = one.ws.response.headers["Wsrelay-Connection"]
        chunks = ("--header", "Transfer-Encoding: chunked", "--header", f"Wsrelay-Except: {handle}")
        assert curl(http_url(server, "files"), *kind, "--data-binary", f"@{file}").endswith("\n202")
        assert curl(http_url(server, "files"), *kind, *chunks, "--data-binary", f"@{file}").endswith("\n202")
        assert [other.hear(), other.hear(), one.hear()] == [file.read_bytes()] * 3
        one.hears_nothing()


def test_describe_room(server: Relay) -> None:
    """A GET for JSON returns the numbers of members and publishers."""
    with WebsocketsClient(server.url("/described")):
        answer = curl(http_url(server, "described"), "--header", "Accept: application/json")
    assert json.loads(answer.split("\n")[0]) == {"room": "described", "members": 1, "publishers": 1}


def test_head(server: Relay) -> None:
    """A HEAD ends at once, with the fields of GET: for a room, a stream and a refusal, over TLS, too."""
    for accept, status in (("application/json", 200), ("text/event-stream", 200), ("*/*", 426)):
        for endpoint in (0, 1):
            url = http_url(server, "headed", endpoint)
            head, _, shown = curl(url, "--head", "--header", f"Accept: {accept}").rpartition("\n")
            assert (head.startswith(f"HTTP/1.1 {status} "), shown) == (True, str(status))
            assert head.endswith("Connection: close\n\n"), head


def test_http_refusals(server: Relay) -> None:
    """Refusals reach curl with status and reason, also in the middle of a request body."""
    assert curl(http_url(server, "room")).endswith(" from here\n\n426")
    assert curl(http_url(server, "room"), "--request", "PUT").endswith("\n405")
    large = ("--header", "Expect:", "--data-binary", "@-")
    answer = curl(http_url(server, "room"), *large, input="x" * 3_000_000, stdin=None)
    assert answer.endswith("1048576 bytes at most\n\n413"), answer


def test_event_stream_end() -> None:
    """On a stop, event streams end with the reason, and curl exits with 0."""
    with relay("--http", "--drain-seconds", "0") as server, tail(http_url(server, "room")) as tailing:
        server.stop()
        assert tailing.output.wait_for('data: (.*"code": 1012.*)')
        assert tailing.wait() == 0
