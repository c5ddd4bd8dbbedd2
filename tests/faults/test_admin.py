"""Faults of clients of the admin endpoint, on real sockets; in memory: tests/admin/test_gate.py."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.support import ATTACKED, attacked, pour, remarks
from tests.faults.support import connect as connect_client
from tests.harness.clients import handshake, read_to_end
from tests.harness.live import LOOPBACK, SECONDS, Relay, make_certificate, relay
from wsrelay.admin.server import MAX_CONNECTIONS

pytestmark = pytest.mark.interop

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
END = b"\r\n"

#: Request → status of the answer.
BAD = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "zeros": (bytes(20000), 400),
    "PROXY": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + END, 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 426),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 426),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "URL of a strange host": (b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "URL of a user": (b"GET http://a@localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "strange host and URL": (b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "bytes above 0x7f in Host": (b"GET /healthz HTTP/1.1\r\nHost: localhost\xa0\r\n\r\n", 400),
    "two origins": (GET + b"Origin: http://localhost\r\nOrigin: http://localhost\r\n" + END, 400),
    "malformed query": (b"GET /rooms?after=%E9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "strange host": (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "unknown method": (b"BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "CONNECT": (b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "wrong method": (b"DELETE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "unknown path": (b"GET /../../etc/passwd.%2e HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no such path": (b"GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "huge URL": (b"GET /" + b"x" * 100_000, 414),
    "huge query": (b"GET /rooms?after=" + b"x" * 16_000 + b" HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200, 431),
    "endless head": (GET + b"X-A: a\r\n" * 10_000, 431),
    "smuggled line": (GET + b"X-A: a\x0bX-User: admin\r\n" + END, 400),
    "bare line feeds": (GET.replace(b"\r\n", b"\n") + b"\n\r\n\r\n", 400),
    "folded line": (GET + b"X-A: a\r\n b\r\n" + END, 400),
    "two lengths": (GET + b"Content-Length: 0\r\nContent-Length: 5\r\n" + END + b"hello", 400),
    "body": (b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000), 413),
    "chunks": (b"POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
    "pipelining": (2 * (GET + END), 400),
    "strange page": (
        b"POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n",
        403,
    ),
    "strange fetch": (b"POST /drain HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403),
}


@pytest.fixture(scope="module", name="server")
def fixture_server() -> Iterator[Relay]:
    """Run a relay with an admin endpoint and a handshake timeout of two seconds."""
    with relay("--admin", "tcp:0", "--handshake-seconds", "2", listen=[LOOPBACK]) as server:
        yield server


def connect(server: Relay) -> socket.socket:
    """Return a socket connected to the admin endpoint."""
    return socket.create_connection(("127.0.0.1", int(server.admin.rstrip("/").rpartition(":")[2])), SECONDS)


def ask(server: Relay, data: bytes) -> bytes:
    """Send bytes to the admin endpoint and return the answer."""
    with connect(server) as connection:
        pour(connection, data)
        return read_to_end(connection)


@pytest.mark.parametrize("path", ["healthz", "readyz", "nothing"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_admin_half_closed(server: Relay, path: str, host: str) -> None:
    """A client that shuts down its half behind its request is answered, or refused."""
    for _ in range(10):
        with connect(server) as connection:
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            assert read_to_end(connection).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("fault", BAD)
def test_admin_bad_requests(server: Relay, fault: str) -> None:
    """A bad request is answered with its fault, and not logged."""
    data, status = BAD[fault]
    with attacked(server) as attack:
        before = remarks(server)
        head, _, body = ask(server, data).partition(b"\r\n\r\n")
        attack.bystanders.exchange()

        assert head.startswith(b"HTTP/1.1 %d " % status), head
        assert len(body) > 15
        assert b"Twisted" not in head + body
        assert remarks(server) == before


def test_admin_slow_requests(server: Relay) -> None:
    """Incomplete requests get 408 at their deadline, also byte by byte."""
    with attacked(server) as attack, ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(20)]
        for byte in GET[:10]:
            for connection in slow:
                connection.sendall(bytes([byte]))
            attack.bystanders.exchange()
        assert {read_to_end(connection)[:12] for connection in slow} == {b"HTTP/1.1 408"}


def test_admin_max_connections(server: Relay) -> None:
    """200 silent connections keep no probe out, and do not disturb the relay: the oldest make room."""
    with attacked(server) as attack, ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(200)]
        for path in (b"/healthz", b"/readyz", b"/metrics"):
            assert ask(server, GET.replace(b"/healthz", path) + END).startswith(b"HTTP/1.1 200 "), path
        attack.bystanders.welcome()
        for connection in silent[-MAX_CONNECTIONS + 3 :]:
            assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")
        for connection in silent:
            connection.close()
        assert ask(server, GET + END).startswith(b"HTTP/1.1 200 ")


def test_admin_endless_request(server: Relay) -> None:
    """32 MiB without an end cost a bounded amount of time and memory."""
    with attacked(server) as attack, connect(server) as connection:
        before = attack.cpu_seconds()
        pour(connection, GET + b"X-A: " + b"a" * 2**20, 32)
        read_to_end(connection)

        assert attack.cpu_seconds() - before < 0.5
        assert attack.grown_bytes() < 8 * 2**20


def test_admin_client_gone(server: Relay) -> None:
    """Clients that leave during a probe leave nothing behind."""
    with attacked(server) as attack:
        for _ in range(20):
            with connect(server) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            attack.bystanders.exchange()
        assert ask(server, GET + END).startswith(b"HTTP/1.1 200 ")


def test_admin_plain_to_tls(tmp_path: Path) -> None:
    """On an admin endpoint with TLS, plain HTTP is told so, other plain bytes end the connection."""
    with (
        relay("--admin", f"ssl:0:privateKey={make_certificate(tmp_path)}", "--handshake-seconds", "1") as server,
        attacked(server),
        connect(server) as silent,
    ):
        assert server.admin.startswith("https://127.0.0.1:")
        assert ask(server, GET + END).startswith(b"HTTP/1.1 400 ")
        assert ask(server, b"\r\n")[:4] != b"HTTP"
        assert read_to_end(silent) == b""


def rounds(server: Relay, count: int) -> set[tuple[int, str, str]]:
    """Ask /readyz until it has probed so often; return the statuses, and the results of two checks."""
    seen: dict[float, tuple[int, str, str]] = {}
    while len(seen) < count:
        status, shown = server.ask("/readyz")
        checks = shown["checks"]
        # Two answers of one round have the same time. That of a refused probe is as short.
        seen[shown["canary_seconds"]] = status, checks["capacity"], checks["canary"]
    return set(seen.values())


def refused(server: Relay, path: str) -> bool:
    """Return whether a client is refused."""
    with connect_client(server) as connection:
        connection.sendall(handshake(path))
        return connection.recv(12)[9:] in (b"429", b"503")


def test_readiness_under_attack() -> None:
    """A client on this machine that reaches every limit of its address and its room makes the relay no less ready."""
    limits = "--max-connections-per-address 12 --max-handshakes-per-address 2 --max-room-members 3"
    rates = "--max-connects-per-second-per-address 1 --burst-seconds 40 --handshake-seconds 60"
    options = ["--admin", "tcp:0", *limits.split(), *rates.split()]
    with relay(*options) as server, attacked(server) as attack, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect_client(server))
        assert rounds(server, 5) == {(200, "ok", "ok")}
        while not refused(server, f"/{ATTACKED}"):
            attack.bystanders.exchange()
        assert rounds(server, 5) == {(200, "ok", "ok")}
        attack.bystanders.exchange()
        assert "canary" not in server.output.text


def test_readiness_of_full_relay() -> None:
    """A full relay is not ready by a check of its own; the probe shows that it relays, and takes no client's place."""
    options = ["--admin", "tcp:0", "--max-connections", "6", "--max-handshakes", "1", "--handshake-seconds", "60"]
    with relay(*options) as server, attacked(server) as attack, ExitStack() as stack:
        assert rounds(server, 3) == {(200, "ok", "ok")}
        last = stack.enter_context(connect_client(server))
        last.sendall(handshake("/last"))
        assert last.recv(12) == b"HTTP/1.1 101"
        stack.enter_context(connect_client(server))
        assert refused(server, "/more")
        assert rounds(server, 3) == {(503, "full: max_connections", "ok")}
        assert server.ask("/healthz") == (200, "ok\n")
        attack.bystanders.exchange()
        last.close()
        while rounds(server, 1) != {(200, "ok", "ok")}:
            attack.bystanders.exchange()
