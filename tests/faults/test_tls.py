"""Floods of TLS records that give the connection inside nothing: its rate limits count them all the same."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.faults.support import ATTACKED, attacked, connect, masked, pour, remarks
from tests.harness.clients import handshake, read_to_end
from tests.harness.live import LOOPBACK, SECONDS, Relay, make_certificate, relay
from tests.harness.tls import TlsClient

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
