"""Behind nginx and HAProxy: validators see the proxy's word about a client, never the client's own."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.proxies import PROXIES, haproxy
from tests.faults.support import ATTACKED, GATES, attacked, port
from tests.harness.clients import WebsocketsClient, handshake, text
from tests.harness.live import LOOPBACK, SECONDS, Relay, relay
from wsrelay.http.fields import JOINED

pytestmark = pytest.mark.interop

#: The validator's view of every client behind a proxy.
PROXIED = "'proxy' from '127.0.0.1'"


@pytest.fixture(scope="module")
def server() -> Iterator[Relay]:
    """A relay that trusts the proxy."""
    options = ["--validate", "origin:*", "--validate", "python:gates:proxied", "--close-seconds", "1"]
    with relay(*options, environ=GATES) as started:
        yield started


@pytest.fixture(scope="module", params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest, server: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy in front of the relay."""
    folder = tmp_path_factory.mktemp(request.param)
    with PROXIES[request.param](port(server), folder) as listening:
        yield listening


def asked(server: Relay, count: int = 0) -> list[str]:
    """Return user and address of clients behind the proxy, as logged by the validator; wait for this many.

    Bystanders do not come through it, and what was printed of them may be read late.
    """
    return server.output.wait_for(r"(?m)asked for ((?!None from None$).*)", count)


def test_proxied_upgrade(server: Relay, proxy: int) -> None:
    """Two clients behind the proxy exchange messages, with user and address from the proxy."""
    with attacked(server) as attack:
        before = len(asked(server))
        with ExitStack() as stack:
            url = f"ws://127.0.0.1:{proxy}/{ATTACKED}"
            one, other = (stack.enter_context(WebsocketsClient(url)) for _ in range(2))
            one.say(text("hello"))
            assert other.hear() == "hello"
        attack.bystanders.exchange()
        assert asked(server, before + 2)[before:] == [PROXIED] * 2


def smuggling(line: bytes, fields: bytes = b"", behind: bytes = b"", first: bytes = b"") -> bytes:
    """Return a handshake with additional lines, and optionally bytes behind it."""
    head = handshake(f"/{ATTACKED}").removesuffix(b"\r\n")
    if first:
        head = first + head[head.index(b"\r\n") :]
    return head + line + b"\r\n" * bool(line) + fields + b"\r\n" + behind


USER = b"X-User: attacker"
SECOND = handshake(f"/{ATTACKED}/second").removesuffix(b"\r\n") + USER + b"\r\n\r\n"

SMUGGLED = {
    "plainly": smuggling(USER),
    "twice": smuggling(USER + b"\r\n" + USER),
    "lower case": smuggling(b"x-user: attacker"),
    **{
        f"behind {separator!r}": smuggling(b"X-A: a" + separator + USER)
        for separator in (
            *(b"\x85", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\r", b"\n", b"\0", b"\xe2\x80\xa8"),
            *(b"\r ", b"\n ", b"\r\n ", b"\r\n\t", b"\r\n\x0b", b"\r\r\n", b"\n\r\n", b"\r\n\0", b"\0\r\n", b"\t"),
        )
    },
    **{
        f"spelled {name!r}": smuggling(name + b": attacker")
        for name in (
            b"X-User ",
            b"X-User\t",
            b" X-User",
            b"x_user",
            b"X_User",
            b"X-User\0",
            b"X-User\x0b",
            b"X-Us\xc3\xa9r",
        )
    },
    "without a colon": smuggling(b"X-User\r\n : attacker"),
    "named by Connection": smuggling(USER, b"Connection: Upgrade, X-User\r\n"),
    "in the target": smuggling(b"", first=b"GET /attacked?a=\x0bx-user:attacker HTTP/1.1"),
    "in the line": smuggling(b"", first=b"GET /attacked HTTP/1.1\rX-User: attacker\r"),
    "in a chunked body": smuggling(
        b"Transfer-Encoding: chunked", behind=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SECOND), SECOND)
    ),
    "in a body": smuggling(b"Content-Length: %d" % len(SECOND), behind=SECOND),
    "in a body of two lengths": smuggling(b"Content-Length: 0", b"Content-Length: %d\r\n" % len(SECOND), behind=SECOND),
    "in a body of two kinds": smuggling(
        b"Transfer-Encoding: chunked", b"Content-Length: %d\r\n" % len(SECOND), behind=b"0\r\n\r\n" + SECOND
    ),
    "in a chunk of another coding": smuggling(b"Transfer-Encoding: \x0bchunked", behind=b"0\r\n\r\n" + SECOND),
    "in the next request": smuggling(b"", behind=SECOND),
    "in HTTP/1.0": smuggling(USER, first=b"GET /attacked HTTP/1.0"),
    "in a huge request": smuggling(b"X-A: " + b"a" * 7000, USER + b"\r\n" + b"X-B: " + b"b" * 7000 + b"\r\n"),
    "in many lines": smuggling(b"\r\n".join([b"X-A: a"] * 80), USER + b"\r\n"),
}


def test_proxied_smuggling(server: Relay, proxy: int) -> None:
    """A client that forges its user, in any spelling, is refused, or is the proxy's user (CVE-2026-44546)."""
    harmful = {}
    with attacked(server) as attack:
        count = len(asked(server))
        for spelling, request in SMUGGLED.items():
            with socket.create_connection(("127.0.0.1", proxy), SECONDS) as connection:
                connection.sendall(request)
                status = connection.makefile("rb").readline()
                connection.shutdown(socket.SHUT_WR)
            attack.bystanders.exchange()
            opened = b" 101 " in status
            seen = asked(server, count + opened)[count:]
            # 501 and 502 come from the proxies: unknown coding, and an early answer of the relay.
            refused = re.match(rb"HTTP/1\.[01] (4\d\d|50[12]) |$", status)
            if not (opened or refused) or seen != [PROXIED] * opened:
                harmful[spelling] = status, seen
            count += len(seen)
    assert harmful == {}


#: Lists but those that nginx itself refuses in several lines.
LISTS = sorted(JOINED.keys() - {"expect", "if-match", "if-none-match"})

#: What honest clients send, and other proxies in front add.
UNUSUAL = {
    "a cookie in UTF-8": smuggling("Cookie: name=José".encode()),
    "a cookie in latin-1": smuggling(b"Cookie: name=Jos\xe9\xa0"),
    "a city": smuggling("cf-ipcity: São Paulo".encode()),
    "two cookies": smuggling(b"Cookie: a=b\r\nCookie: c=d"),
    "long cookies": smuggling(b"Cookie: a=%s; b=%s" % (b"x" * 4094, b"y" * 4094)),
    "lists": smuggling(b"\r\n".join(f"{name}: {value}".encode() for name in LISTS for value in "ab")),
    "empty members": smuggling(b"Sec-WebSocket-Protocol: a, \r\nSec-WebSocket-Protocol: ,b,,"),
    "an address": smuggling(b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2"),
    "a URL as target": smuggling(b"", first=b"GET http://127.0.0.1/attacked HTTP/1.1"),
    "a query in latin-1": smuggling(b"", first=b"GET /attacked?q=caf%E9 HTTP/1.1"),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_proxied_unusual_requests(server: Relay, proxy: int, case: str) -> None:
    """Unusual but well-formed requests pass a proxy and the relay, and the user is the proxy's."""
    with attacked(server) as attack:
        count = len(asked(server))
        with socket.create_connection(("127.0.0.1", proxy), SECONDS) as connection:
            connection.sendall(UNUSUAL[case])
            assert connection.makefile("rb").readline().split()[1] == b"101"
        attack.bystanders.exchange()
        assert asked(server, count + 1)[count:] == [PROXIED]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_proxy_protocol(version: str, tmp_path: Path) -> None:
    """With HAProxy's PROXY header of either version, the relay sees the client's address."""
    with (
        relay(listen=[LOOPBACK, f"haproxy:{LOOPBACK}"]) as server,
        attacked(server) as attack,
        haproxy(port(server, 1), tmp_path, version) as listening,
        WebsocketsClient(f"ws://127.0.0.1:{listening}/proxied") as one,
        WebsocketsClient(f"ws://127.0.0.1:{listening}/proxied") as other,
    ):
        one.say(text("hello"))
        assert other.hear() == "hello"
        peers = [f"tcp4:127.0.0.1:{client.ws.socket.getsockname()[1]}" for client in (one, other)]
        assert server.output.wait_for(r"(\S+) joined 'proxied'", 2) == peers
        one.ws.close()
        other.ws.close()
        attack.bystanders.exchange()
