"""The relay on real sockets with third-party clients.

One relay process per test. The absence of a message is shown by the next one, never by waiting.
"""

import logging
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.clients import (
    HERE,
    Client,
    WebsocketsClient,
    autobahn_client,
    binary,
    brief,
    handshake,
    mute,
    node_client,
    read_to_end,
    text,
    tls_context,
)
from tests.harness.live import (
    LISTENING,
    LOOPBACK,
    SECONDS,
    Process,
    command_line,
    make_certificate,
    relay,
    require,
    run,
    taken_port,
)

pytestmark = pytest.mark.interop

MIB = 2**20


def noise(size: int, seed: int = 0) -> bytes:
    """Return incompressible bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


#: Messages of each kind and size.
MESSAGES = [
    text("Grüße, 世界 🙂"),
    binary(bytes(range(256))),
    text(""),
    binary(b""),
    text("é" * (MIB // 2)),
    binary(noise(1024) * 1024),
    text("Gr", "ü".encode()[:1], "ü".encode()[1:], "", "ße"),
    binary(b"\x00", b"", b"\xff" * 70_000),
    binary(*[noise(1024) * 60] * 17),
    text("last"),
]


def exchange(publisher: Client, others: Sequence[Client], outsiders: Sequence[Client]) -> None:
    """Publish all kinds of messages: the others get them in order, publisher and outsiders get nothing."""
    for said in MESSAGES:
        publisher.say(said)
    publisher.hears_nothing()
    for other in others:
        for said in MESSAGES:
            assert brief(other.hear()) == brief(said.heard)
    for client in (*others, *outsiders):
        client.hears_nothing()


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_rooms(deflate: bool) -> None:
    """Three clients of one room get each other's messages; a client of another room gets none."""
    options = [] if deflate else ["--no-compress"]
    with relay(*options) as server, ExitStack() as stack:
        inside: list[Client] = [
            stack.enter_context(WebsocketsClient(server.url("/chat/42"), deflate=deflate)),
            stack.enter_context(WebsocketsClient(server.url("/chat/42"), deflate=deflate)),
            stack.enter_context(node_client(server.url("/chat/42"), *["--deflate"] * deflate)),
        ]
        outside = stack.enter_context(WebsocketsClient(server.url("/chat/43"), deflate=deflate))
        assert ["permessage-deflate" in client.extensions for client in (*inside, outside)] == [deflate] * 4

        for publisher in inside:
            exchange(publisher, [client for client in inside if client is not publisher], [outside])
        exchange(outside, [], inside)


def test_deflate_beside_plain() -> None:
    """Clients with and without compression in one room get the same messages."""
    with relay() as server, ExitStack() as stack:
        members: list[Client] = [
            stack.enter_context(WebsocketsClient(server.url("/room"), deflate=True)),
            stack.enter_context(WebsocketsClient(server.url("/room"))),
            stack.enter_context(node_client(server.url("/room"), "--deflate")),
        ]
        for publisher in members:
            exchange(publisher, [client for client in members if client is not publisher], [])


@pytest.mark.parametrize(
    "fragments",
    [[noise(MIB)], [noise(MIB // 16)] * 16, [noise(1024) * 64] * 16],
    ids=["noise", "fragments of noise", "fragments"],
)
def test_deflate_limit(fragments: list[bytes]) -> None:
    """A message of the maximum size passes, also if deflate makes it larger, and in fragments."""
    with relay("--echo") as server, WebsocketsClient(server.url("/room"), deflate=True) as client:
        client.say(binary(*fragments))
        assert brief(client.hear()) == brief(b"".join(fragments))


def test_deflate_off() -> None:
    """With --no-compress, permessage-deflate is not negotiated."""
    with relay("--no-compress") as server, WebsocketsClient(server.url("/room"), deflate=True) as client:
        assert client.extensions == ""


def test_autobahn() -> None:
    """Autobahn's client exchanges messages with another client and gets none of its own."""
    with (
        relay() as server,
        autobahn_client(server.url("/room")) as autobahn,
        WebsocketsClient(server.url("/room")) as other,
        WebsocketsClient(server.url("/elsewhere")) as outside,
    ):
        exchange(autobahn, [other], [outside])
        exchange(other, [autobahn], [outside])
        autobahn.close()


def test_echo() -> None:
    """With --echo the publisher gets its own messages, in the order of the room."""
    with (
        relay("--echo") as server,
        WebsocketsClient(server.url("/room")) as publisher,
        node_client(server.url("/room")) as other,
    ):
        for said in MESSAGES:
            publisher.say(said)
        for client in (publisher, other):
            assert [brief(client.hear()) for _ in MESSAGES] == [brief(said.heard) for said in MESSAGES]
            client.hears_nothing()


def test_message_order() -> None:
    """All subscribers get the messages of several publishers in the same order."""
    each = 200
    with relay() as server, ExitStack() as stack:
        publishers = [stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(3)]
        subscribers: list[Client] = [
            stack.enter_context(WebsocketsClient(server.url("/room"))),
            stack.enter_context(node_client(server.url("/room"))),
        ]
        threads = [
            threading.Thread(
                target=lambda name=name, client=client: [client.say(text(f"{name} {i}")) for i in range(each)]
            )
            for name, client in enumerate(publishers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        first, second = ([client.hear() for _ in range(3 * each)] for client in subscribers)

    assert first == second
    for name in range(3):
        assert [message for message in first if str(message).startswith(f"{name} ")] == [
            f"{name} {i}" for i in range(each)
        ]


def test_unix_socket(tmp_path: Path) -> None:
    """Clients on a unix socket and on TCP share rooms."""
    path = str(tmp_path / "relay.sock")
    with (
        relay(listen=[LOOPBACK, f"unix:{path}"]) as server,
        WebsocketsClient("ws://localhost/room", unix=path) as inside,
        WebsocketsClient(server.url("/room")) as outside,
    ):
        assert server.addresses[1] == f"ws+unix:{path}"
        exchange(inside, [outside], [])
        exchange(outside, [inside], [])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def tls(certificate: Path) -> str:
    """Return an endpoint for wss."""
    return f"ssl:0:interface=127.0.0.1:privateKey={certificate}"


@pytest.mark.parametrize(
    ("offered", "selected"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)]
)
def test_tls(certificate: Path, offered: list[str], selected: str | None) -> None:
    """wss works with and without ALPN."""
    with (
        relay(listen=[tls(certificate)]) as server,
        WebsocketsClient(server.url("/room"), ssl=tls_context(certificate, offered)) as client,
        WebsocketsClient(server.url("/room"), ssl=tls_context(certificate)) as other,
    ):
        assert server.url().startswith("wss://127.0.0.1:")
        assert client.ws.socket.selected_alpn_protocol() == selected
        exchange(client, [other], [])
        exchange(other, [client], [])


def test_tls_node(certificate: Path) -> None:
    """wss works with Node."""
    with (
        relay(listen=[tls(certificate)]) as server,
        node_client(server.url("/room"), environ={"NODE_EXTRA_CA_CERTS": str(certificate)}) as client,
        WebsocketsClient(server.url("/room"), ssl=tls_context(certificate)) as other,
    ):
        exchange(client, [other], [])
        exchange(other, [client], [])


def test_tls_folder(certificate: Path) -> None:
    """A ``tls:`` endpoint, with a folder of certificates by name, works with ALPN."""
    (certificate.parent / "localhost.pem").write_bytes(certificate.read_bytes())
    with (
        relay(listen=[f"tls:{certificate.parent}:port=0:interface=127.0.0.1"]) as server,
        server.connect() as connection,
        WebsocketsClient(
            server.url("/room").replace("127.0.0.1", "localhost"),
            sock=connection,
            ssl=tls_context(certificate, ["h2", "http/1.1"]),
        ) as client,
    ):
        assert client.ws.socket.selected_alpn_protocol() == "http/1.1"


def test_systemd_socket() -> None:
    """The relay listens on a socket inherited from systemd."""
    with taken_port() as passed:
        # LISTEN_PID is the pid of the relay, which only the child knows.
        listen = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=relay exec "$@" 3<&"$0"'
        command = [
            "bash",
            "-c",
            listen,
            str(passed.fileno()),
            *command_line("twistd", "--listen", "systemd:domain=INET:index=0"),
        ]
        with Process(command, pass_fds=[passed.fileno()]) as process:
            (url,) = process.output.wait_for(LISTENING)
            assert url == f"ws://127.0.0.1:{passed.getsockname()[1]}/"
            with WebsocketsClient(url + "room") as client, WebsocketsClient(url + "room") as other:
                exchange(client, [other], [])
            process.signal(signal.SIGTERM)
            assert process.wait() == 0


def test_proxy_protocol() -> None:
    """With the PROXY protocol, the log has the client's address."""
    with (
        relay(listen=[f"haproxy:{LOOPBACK}"]) as server,
        server.connect() as connection,
    ):
        connection.sendall(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n")
        with WebsocketsClient(server.url("/room"), sock=connection):
            (peer,) = server.output.wait_for(r"(\S+) joined 'room'")
            assert peer == "tcp4:203.0.113.7:4711"


@pytest.mark.parametrize("kind", ["tcp", "haproxy", "ssl"])
def test_tcp_nodelay(kind: str, certificate: Path) -> None:
    """TCP_NODELAY is set on accepted sockets before the handshake ends."""
    endpoints = {"tcp": LOOPBACK, "haproxy": f"haproxy:{LOOPBACK}", "ssl": tls(certificate)}
    options = {"ssl": tls_context(certificate)} if kind == "ssl" else {}
    with (
        relay(
            "--validate", "python:nodelay:validate", listen=[endpoints[kind]], environ={"PYTHONPATH": str(HERE)}
        ) as server,
        server.connect() as connection,
    ):
        if kind == "haproxy":
            connection.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d 443\r\n" % connection.getsockname()[1])
        with WebsocketsClient(server.url("/room"), sock=connection, subprotocols=["0", "1"], **options) as client:
            assert client.ws.subprotocol == "1"


def curl(url: str, *options: str) -> tuple[str, dict[str, str], str]:
    """Return status line, header fields by lower-case name, and body of a response to curl."""
    answered = run(
        require("curl"), "--silent", "--show-error", "--include", "--max-time", str(SECONDS), "--noproxy", "*",
        "--path-as-is", *options, url,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stdout
    head, _, body = answered.stdout.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.split("\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return status, {name.lower(): value for name, value in fields.items()}, body


def upgrading(**fields: str) -> list[str]:
    """Return curl's options for a handshake with additional fields."""
    _, *lines = handshake(**fields).decode().strip().split("\r\n")
    return [word for line in lines if not line.startswith("Host:") for word in ("--header", line)]


REFUSALS = [
    pytest.param("/a//b", upgrading(), "400 Bad Request", "empty", id="path"),
    pytest.param("/a/../b", upgrading(), "400 Bad Request", "..", id="dots"),
    pytest.param("/room", upgrading(Origin="https://evil.example"), "403 Forbidden", "origin", id="origin"),
    pytest.param("/room", ["--request", "POST"], "405 Method Not Allowed", "GET", id="method"),
    pytest.param("/room", [], "426 Upgrade Required", "WebSocket", id="no upgrade"),
    pytest.param("/room", ["--http1.0", "--no-alpn"], "426 Upgrade Required", "HTTP/1.1", id="old http"),
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("path", "options", "status", "reason"), REFUSALS)
def test_handshake_refusals(
    path: str, options: list[str], status: str, reason: str, scheme: str, refusing: dict[str, str]
) -> None:
    """A refused handshake gets status, reason, Content-Length and Connection: close."""
    line, fields, body = curl(refusing[scheme] + path, "--insecure", *options)
    assert line == f"HTTP/1.1 {status}"
    assert reason in body
    assert fields["content-length"] == str(len(body))
    assert fields["connection"] == "close"
    assert "server" not in fields


@pytest.fixture(scope="module")
def refusing(certificate: Path) -> Iterator[dict[str, str]]:
    """The URLs of a relay by scheme."""
    with relay(listen=[LOOPBACK, tls(certificate)]) as server:
        plain, secure = (address.rstrip("/") for address in server.addresses)
        yield {"http": plain.replace("ws:", "http:"), "https": secure.replace("wss:", "https:")}


#: Messages published to a stalled subscriber, and the allowed growth of the relay's memory.
STALLED_MESSAGES = 50
STALLED_GROWTH_BYTES = 16 * MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_backpressure() -> None:
    """A stalled subscriber is evicted with 1013, delays no other subscriber, and costs bounded memory."""
    messages = [binary(noise(MIB, seed)) for seed in range(STALLED_MESSAGES)]
    with (
        relay("--close-seconds", "1") as server,
        mute(server, "/room", receive_bytes=4096) as stalled,
        WebsocketsClient(server.url("/room")) as publisher,
        WebsocketsClient(server.url("/room")) as subscriber,
    ):
        before = server.memory_bytes("VmRSS")
        # In step: a subscriber as fast as the publisher must not count as a slow consumer.
        for said in messages:
            publisher.say(said)
            assert brief(subscriber.hear()) == brief(said.heard)
        growth = server.memory_bytes("VmHWM") - before
        logging.getLogger(__name__).info("the relay grew by %.1f MiB", growth / MIB)  # --log-cli-level=INFO shows it

        server.output.wait_for(r"left 'room' .* relay closed with 1013")
        assert len(read_to_end(stalled)) < STALLED_MESSAGES * MIB / 2
        subscriber.hears_nothing()
    assert growth < STALLED_GROWTH_BYTES, f"grew by {growth / MIB:.1f} MiB"
