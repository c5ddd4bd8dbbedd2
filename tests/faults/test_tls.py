"""TLS: floods of records that give the connection inside nothing, which its rate limits count; and slow readers."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults.support import ATTACKED, attacked, closes_with, connect, masked, port, pour, remarks
from tests.harness.clients import WebsocketsClient, binary, handshake, read_to_end, tls_context
from tests.harness.live import LOOPBACK, SECONDS, Relay, make_certificate, relay
from tests.harness.tls import TlsClient
from wsrelay import closecodes

pytestmark = pytest.mark.interop

#: Many times what the limits below allow.
FLOOD_BYTES = 2**16

#: Records without a byte for the connection inside, and with one.
FLOODS: dict[str, Callable[[TlsClient], bytes]] = {
    "key updates": lambda client: client.key_update(),
    "key updates to be answered": lambda client: client.key_update(wanted=True),
    "single bytes": lambda client: client.seal(b"x"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay on TCP, with TLS, and with TLS behind a PROXY header, whose limits a flood exceeds at once."""
    tls = f"ssl:0:interface=127.0.0.1:privateKey={make_certificate(tmp_path_factory.mktemp('tls'))}"
    with relay(
        *("--max-frames-per-second", "1000", "--burst-seconds", "1", "--rate-grace-seconds", "1"),
        # Else the address is held, and no connection exceeds its own rate for long.
        *("--address-rate-factor", "0"),
        *("--handshake-seconds", "3600", "--close-seconds", "1", "--admin", tls),
        listen=[LOOPBACK, tls, f"haproxy:{tls}"],
    ) as started:
        yield started


class Session:
    """A TLS session with a relay.

    Args:
        connection: the socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.client = TlsClient(self._exchange)
        self.client.shake_hands()

    def _exchange(self, data: bytes) -> bytes:
        self.socket.sendall(data)
        return self.socket.recv(2**16)

    def open(self, proxy: bytes = b"") -> None:
        """Open a WebSocket connection, and begin a message."""
        answer = self.client.ask(self.client.seal(proxy + handshake(f"/{ATTACKED}")))
        while not answer:  # session tickets came first
            answer = self.client.ask(b"")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        self.socket.sendall(self.client.seal(masked(0x82, length=FLOOD_BYTES)))

    def flood(self, make: Callable[[TlsClient], bytes]) -> bytes:
        """Return the records of a flood."""
        records = [make(self.client)]
        records += [make(self.client) for _ in range(FLOOD_BYTES // len(records[0]))]
        return b"".join(records)


@pytest.mark.parametrize("make", FLOODS.values(), ids=FLOODS.keys())
def test_tls_records(server: Relay, make: Callable[[TlsClient], bytes]) -> None:
    """A flood of records is an excess of frames or control frames: each connection is closed."""
    with attacked(server) as attack, ExitStack() as stack:
        sessions = [Session(stack.enter_context(connect(server, 1))) for _ in range(20)]
        for session in sessions:
            session.open()
        floods = [session.flood(make) for session in sessions]
        for session, flood in zip(sessions, floods, strict=True):
            pour(session.socket, flood)
        attack.bystanders.welcome()
        for session in sessions:
            read_to_end(session.socket)


@pytest.mark.parametrize("endpoint", [1, 2], ids=["TLS", "TLS with PROXY"])
def test_tls_records_before_request(server: Relay, endpoint: int) -> None:
    """Without a request, the connection ends at the first records beyond a few."""
    with attacked(server) as attack, ExitStack() as stack:
        lines = remarks(server)
        session = Session(stack.enter_context(connect(server, endpoint)))
        pour(session.socket, session.flood(FLOODS["key updates"]))
        read_to_end(session.socket)
        attack.bystanders.exchange()
        assert remarks(server) == lines


def test_tls_records_behind_proxy(server: Relay) -> None:
    """The connection behind a PROXY header is charged, not its wrapper."""
    with attacked(server) as attack, ExitStack() as stack:
        session = Session(stack.enter_context(connect(server, 2)))
        session.open(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        pour(session.socket, session.flood(FLOODS["key updates"]))
        read_to_end(session.socket)
        attack.bystanders.exchange()


def test_admin_tls_records(server: Relay) -> None:
    """The admin endpoint ends such a connection, too."""
    with attacked(server) as attack, ExitStack() as stack:
        host, _, port = server.admin.rstrip("/").removeprefix("https://").partition(":")
        session = Session(stack.enter_context(socket.create_connection((host, int(port)), SECONDS)))
        pour(session.socket, session.flood(FLOODS["key updates"]))
        read_to_end(session.socket)
        attack.bystanders.exchange()


MIB = 2**20

PONG = b"\x8a\x04ping"

#: The versions of TLS that OpenSSL offers by default.
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def frame(message: bytes) -> bytes:
    """Return the relay's frame of a binary message of 50 to 65535 bytes."""
    size = len(message)
    return b"\x82" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)) + message


def member(server: Relay, certificate: Path, version: ssl.TLSVersion, room: str = ATTACKED) -> ssl.SSLSocket:
    """Return a client over TLS with a small receive buffer that has joined and reads nothing more."""
    context = tls_context(certificate)
    context.minimum_version = context.maximum_version = version
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(SECONDS)
    raw.connect(("127.0.0.1", port(server, 1)))
    joined = context.wrap_socket(raw, server_hostname="localhost")
    joined.sendall(handshake(f"/{room}"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += joined.recv(1)
    return joined


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_tls_slow_reader(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """A slow reader over TLS gets all messages in order, small and large ones, and answers to its pings behind them."""
    certificate = make_certificate(tmp_path)
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate}"
    with (
        relay("--no-compress", listen=[LOOPBACK, tls]) as server,
        closing(member(server, certificate, version)) as slow,
        WebsocketsClient(server.url(ATTACKED)) as publisher,
    ):
        messages = [bytes([number % 256]) * (50_000 if number % 3 else 50) for number in range(90)]
        expected = b"".join(frame(message) for message in messages)
        for number, message in enumerate(messages):
            publisher.say(binary(message))
            if number % 30 == 0:
                slow.sendall(masked(0x89, b"ping"))
        received, step = b"", 100
        while len(received.replace(PONG, b"")) < len(expected):
            received += slow.recv(step)
            step = min(step + 100, 2**16)
        assert PONG in received
        assert received.replace(PONG, b"") == expected


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_tls_never_readers(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Clients over TLS that never read cost one log; each is evicted, and sees whole messages and 1013 if it reads."""
    certificate = make_certificate(tmp_path)
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate}"
    with (
        relay("--room-log-bytes", str(2 * MIB), "--no-compress", listen=[LOOPBACK, tls]) as server,
        attacked(server, shared=False) as attack,
        ExitStack() as stack,
        WebsocketsClient(server.url(ATTACKED)) as publisher,
        WebsocketsClient(server.url(ATTACKED)) as current,
    ):
        readers = [stack.enter_context(closing(member(server, certificate, version))) for _ in range(20)]
        message = bytes(range(250)) * 200
        for _ in range(120):
            publisher.say(binary(message))
            assert current.hear() == message
        assert attack.grown_bytes() < 16 * MIB
        for reader in readers:
            data = b""
            while closecodes.TOO_SLOW.text.encode() not in data[-200:]:
                data += (more := reader.recv(2**16))
                assert more
            assert closes_with(closecodes.TOO_SLOW, data)
            assert data.startswith(frame(message) * (len(data) // len(frame(message))))
        publisher.ws.close()
        current.ws.close()
