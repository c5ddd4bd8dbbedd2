"""Tests of wsrelay.net.sockets, on real sockets of this machine."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import SECONDS, missing, taken_port
from wsrelay.net.sockets import Listener, is_every_ipv6, source, unmapped
from wsrelay.net.tls import TlsConnection


def require_ipv6() -> None:
    """Fail in CI, and skip elsewhere, if this machine has no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        missing("IPv6", "sysctl net.ipv6.conf.all.disable_ipv6=0")


class Adopting(MemoryReactorClock):
    """A reactor in memory that keeps a copy of each socket it adopts."""

    def __init__(self, keep: Callable[[socket.socket], object]) -> None:
        super().__init__()
        self._keep = keep

    def adoptStreamPort(self, fileno: int, addressFamily: int, factory: Factory) -> Any:
        self._keep(socket.socket(fileno=os.dup(fileno)))
        return super().adoptStreamPort(fileno, addressFamily, factory)


class ListenerTests(SynchronousTestCase):
    """Listening on all IPv6 addresses."""

    def setUp(self) -> None:
        require_ipv6()
        self.sockets: list[socket.socket] = []
        self.addCleanup(lambda: [made.close() for made in self.sockets])
        self.reactor = Adopting(self.sockets.append)
        self.listener = Listener(self.reactor)

    def test_dual_stack(self) -> None:
        """Alone, the socket accepts IPv4 and IPv6; the option is set, so that the sysctl has no effect."""
        self.listener.listenTCP(0, Factory(), 5, "::")
        [made] = self.sockets
        self.assertEqual(made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 0)
        self.assertFalse(os.get_blocking(made.fileno()))
        self.assertFalse(made.get_inheritable())
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, made.getsockname()[1]), SECONDS).close()

    def test_ipv6_only(self) -> None:
        """The socket leaves the port to IPv4 on request; otherwise the kernel refuses it (TRAPS 99)."""
        with taken_port() as taken:
            port = taken.getsockname()[1]
            error = self.assertRaises(CannotListenError, self.listener.listenTCP, port, Factory(), 5, "::")
            self.assertEqual(error.socketError.errno, errno.EADDRINUSE)
            self.assertEqual(str(error), f"Couldn't listen on [::]:{port}: [Errno 98] Address already in use.")
            self.listener.ipv6_only = True
            self.listener.listenTCP(port, Factory(), 5, "::")
        [made] = self.sockets
        self.assertEqual(made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 1)

    def test_without_dual_stack(self) -> None:
        """A machine without dual-stack sockets serves IPv6."""
        self.patch(socket, "has_dualstack_ipv6", lambda: False)
        self.listener.listenTCP(0, Factory(), 5, "::")
        self.assertEqual(self.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 1)

    def test_without_ipv6(self) -> None:
        """A machine without IPv6 is reported as such."""
        raised = OSError(errno.EAFNOSUPPORT, "")

        def refuse(*_: object, **__: object) -> None:
            raise raised

        self.patch(socket, "create_server", refuse)
        error = self.assertRaises(CannotListenError, self.listener.listenTCP, 1, Factory(), 5, "::")
        self.assertEqual(error.socketError.errno, errno.EAFNOSUPPORT)
        raised = OSError()
        error = self.assertRaises(CannotListenError, self.listener.listenTCP, 1, Factory(), 5, "::")
        self.assertEqual(error.socketError.errno, errno.EADDRNOTAVAIL)

    def test_tls(self) -> None:
        """TLS listens in the same way, and its records are counted."""
        factory = Factory()
        self.listener.listenSSL(0, factory, CertificateOptions(), 5, "::")
        [(_, family, wrapper)] = self.reactor.adoptedPorts
        self.assertEqual(family, socket.AF_INET6)
        self.assertIs(wrapper.wrappedFactory, factory)
        self.assertIs(wrapper.protocol, TlsConnection)

    def test_other_interfaces(self) -> None:
        """For any other interface the reactor listens."""
        factory = Factory()
        for interface in ("", "127.0.0.1", "::1"):
            self.listener.listenTCP(1, factory, 5, interface)
            self.listener.listenSSL(2, factory, CertificateOptions(), 5, interface)
            port, wrapper, *how = self.reactor.tcpServers.pop()
            self.assertEqual((port, wrapper.wrappedFactory, wrapper.protocol), (2, factory, TlsConnection))
            self.assertEqual(how, [5, interface])
            self.assertEqual(self.reactor.tcpServers.pop(), (1, factory, 5, interface))
        self.assertEqual(self.sockets, [])


class AddressTests(SynchronousTestCase):
    """Addresses."""

    def test_is_every_ipv6(self) -> None:
        """The wildcard is known in any spelling."""
        for interface, every in (("::", True), ("0::0", True), ("::1", False), ("", False), ("0.0.0.0", False)):
            self.assertEqual(is_every_ipv6(interface), every, interface)

    def test_unmapped(self) -> None:
        """An IPv4 client at a dual-stack socket has its IPv4 address; other addresses are unchanged."""
        self.assertEqual(unmapped(IPv6Address("TCP", "::ffff:192.0.2.7", 5)), IPv4Address("TCP", "192.0.2.7", 5))
        for address in (
            IPv6Address("TCP", "::1", 5),
            IPv6Address("TCP", "::ffff:0:102:304", 5),
            IPv4Address("TCP", "192.0.2.7", 5),
            UNIXAddress(b"/run/relay"),
        ):
            self.assertIs(unmapped(address), address)

    def test_source(self) -> None:
        """The source is the TCP address, or the process at the other end of a unix socket, if the system tells it."""
        address = IPv4Address("TCP", "192.0.2.7", 5)
        transport = StringTransport(peerAddress=address)
        self.assertIs(source(transport), address)
        transport = StringTransport(peerAddress=UNIXAddress(None))
        self.assertIsNone(source(transport))
        accepted, connected = socket.socketpair(socket.AF_UNIX)
        self.addCleanup(accepted.close)
        self.addCleanup(connected.close)
        transport.socket = accepted  # type: ignore[attr-defined]  # as Twisted's transports have
        self.assertEqual(source(transport), os.getpid())
        self.patch(socket, "SO_PEERCRED", None)
        del socket.SO_PEERCRED
        self.assertIsNone(source(transport))
