"""A model of writes over TLS: the peer decrypts exactly what was written, in order, whatever the socket takes."""

import errno
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from tests.harness.tls import TlsClient
from tests.net.test_tls_writes import ShortRecords, TlsWriteTestCase

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")

#: Sizes of writes: around one record, several records, and more than Twisted writes at once.
SIZES = st.one_of(st.integers(0, 40), st.integers(16370, 16400), st.integers(0, 200_000))

#: What a socket takes of a write: nothing, a part, all.
TAKES = st.one_of(st.just(0), st.integers(1, 60), st.integers(1, 40_000), st.just(2**30))

STEPS = st.one_of(
    st.tuples(st.sampled_from(["send", "write"]), SIZES),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["update", "wanted", "say"]), st.integers(1, 3)),
)


class Socket:
    """A socket that takes some bytes of each write.

    Args:
        takes: how many, for each of the next writes; then all.
    """

    def __init__(self, takes: list[int]) -> None:
        self.takes = deque(takes)
        self.sent = b""

    def fileno(self) -> int:
        return -1

    def send(self, data: Any) -> int:
        size = min(self.takes.popleft() if self.takes else len(data), len(data))
        if not size:
            raise BlockingIOError(errno.EAGAIN, "full")
        self.sent += bytes(data[:size])
        return size


class ModelTests(TlsWriteTestCase):
    """Any writes, reads and turns of the reactor."""

    def start(self, version: int, takes: list[int], on_resume: list[int]) -> tuple[TlsClient, Socket, list[bytes]]:
        """Make a connection that writes data of some sizes when it is resumed; return what it writes, too."""
        self.begin()
        client = self.connect(version)
        client.give(self.exchange(b""))
        fake, written = Socket(takes), []
        self.tcp.socket = fake
        rest = list(on_resume)
        self.inside.on_resume = lambda: rest and self.put("send", rest.pop(), written)
        return client, fake, written

    def put(self, name: str, size: int, written: list[bytes]) -> None:
        """Write different bytes each time."""
        data = bytes([(len(written) * 7 + 1) % 256]) * size
        written.append(data)
        getattr(self.tls, name)(data)
        self.check()

    def check(self) -> None:
        """The connection is paused while ciphertext waits, and at no other time."""
        waiting = bool(self.tcp.dataBuffer or self.tcp._tempDataBuffer)
        self.assertEqual(self.inside.is_paused, waiting)
        self.assertEqual(self.tcp in self.reactor.getWriters(), waiting)

    @given(
        st.sampled_from([SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]),
        st.booleans(),
        st.lists(TAKES, max_size=12),
        st.lists(SIZES, max_size=3),
        st.lists(STEPS, max_size=14),
    )
    def test_tls_model(
        self, version: int, is_short: bool, takes: list[int], on_resume: list[int], steps: list[Any]
    ) -> None:
        """The peer gets what was written, and the connection what the peer sent."""
        client, fake, written = self.start(version, takes, on_resume)
        if is_short:
            self.tls._tlsConnection = ShortRecords(self.tls._tlsConnection)
        said = b""
        for name, number in steps:
            if name in ("send", "write"):
                self.put(name, number, written)
            elif name == "turn":
                for _ in range(number):
                    self.turn()
            else:
                records = b"".join(self.record(client, name) for _ in range(number))
                said += b"s" * number * (name == "say" or version == SSL.TLS1_2_VERSION)
                self.tls.dataReceived(records)
            self.check()
        while self.reactor.getWriters():
            self.turn()
        self.check()
        self.assertEqual(self.read(client, fake.sent), b"".join(written))
        self.assertEqual(self.inside.received, said)

    def record(self, client: TlsClient, name: str) -> bytes:
        """Return a record of the peer: a byte of data, or, with TLS 1.3, a KeyUpdate."""
        if client.session.get_protocol_version_name() != "TLSv1.3":
            client.session.send(b"s")
            return client.pending()
        return client.seal(b"s") if name == "say" else client.key_update(wanted=name == "wanted")

    def turn(self) -> None:
        """Let the reactor write once."""
        for writer in self.reactor.getWriters():
            self.assertIsNone(writer.doWrite())
