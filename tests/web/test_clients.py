"""Tests of wsrelay.web.clients: how the canary reaches a relay. What it does there is tests.web.test_canary's."""

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import Transport
from wsrelay import canary
from wsrelay.net.endpoints import Door
from wsrelay.web.clients import connect

#: What Twisted calls of pyOpenSSL.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def made(self, client: Any) -> None:
        self.told.append("made")

    def opened(self) -> None:
        self.told.append("opened")

    def heard(self, client: Any, payload: bytes) -> None:
        self.told.append(payload.decode())

    def lost(self, client: Any, problem: str) -> None:
        self.told.append(problem)


class ConnectTests(SynchronousTestCase):
    """Doors."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.listener = Listener()

    def connect(self, door: Door) -> None:
        connect(self.listener, self.reactor, door, 1.0)

    def first_bytes(self, door: Door) -> bytes:
        """Return what a client says when it has connected to a door."""
        self.connect(door)
        client = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = Transport()
        client.makeConnection(transport)
        return transport.value()

    def test_tcp(self) -> None:
        """What listens on all addresses is asked on loopback, what listens on one, there."""
        for address, where in (
            (IPv4Address("TCP", "127.0.0.1", 1), ("127.0.0.1", 1)),
            (IPv4Address("TCP", "0.0.0.0", 2), ("127.0.0.1", 2)),
            (IPv4Address("TCP", "192.0.2.1", 3), ("192.0.2.1", 3)),
            (IPv6Address("TCP", "::", 4), ("::1", 4)),
            (IPv6Address("TCP", "2001:db8::1", 5), ("2001:db8::1", 5)),
        ):
            self.connect(Door(address))
            self.assertEqual(self.reactor.tcpClients[-1][:2], where)

    def test_unix(self) -> None:
        """A unix socket is asked by its path."""
        self.connect(Door(UNIXAddress(b"/run/relay")))
        self.assertEqual(self.reactor.unixClients[0][0], b"/run/relay")

    def test_handshake(self) -> None:
        """It shows the secret, and says no more than it must."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1)))

        self.assertTrue(said.startswith(b"GET / HTTP/1.1\r\n"))
        self.assertIn(f"\r\nwsrelay-canary: {canary.FIELDS['wsrelay-canary']}\r\n".encode(), said)
        self.assertNotIn(b"user-agent", said.lower())
        self.assertEqual(self.listener.told, ["made"])

    def test_proxy(self) -> None:
        """Behind PROXY, it says first that this is no client of the proxy's."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1), speaks_proxy=True))
        self.assertTrue(said.startswith(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"))

    def test_tls(self) -> None:
        """With TLS, it begins with that."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1), is_tls=True))
        self.assertTrue(said.startswith(b"\x16\x03"))

    def test_nonsense(self) -> None:
        """What answers nonsense, which may be somebody else's program, is told apart from a refusal."""
        self.connect(Door(IPv4Address("TCP", "127.0.0.1", 1)))
        client = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = Transport()
        client.makeConnection(transport)
        client.dataReceived(b"HTTP/1.1\r\n\r\n")
        client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.listener.told, ["made", 'it was refused with Bad HTTP response status line "HTTP/1.1"'])
