"""Accepts of a listening port, and their transport."""

import errno
import gc
import socket
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port, Server
from twisted.internet.unix import Port as UnixPort
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.net import accepts
from wsrelay.net.accepts import ACCEPTS, Accepted, lean_accepts


class AcceptCase(SynchronousTestCase):
    """A listening port without a reactor: the tests are its turns."""

    def listen(self, factory: Any, interface: str = "127.0.0.1", *, lean: bool = True) -> Any:
        """Return a port of a mocked reactor."""
        return self.begin(Port(0, factory, 240, interface, Mock()), lean)

    def begin(self, port: Any, lean: bool = True) -> Any:
        """Let a port listen until the end of the test."""
        port.startListening()
        self.addCleanup(port.connectionLost, Failure(ConnectionDone()))
        if lean:
            lean_accepts(port)
        return port

    def connect(self, port: Any, family: int = socket.AF_INET) -> socket.socket:
        """Return a client."""
        client = socket.socket(family)
        self.addCleanup(client.close)
        client.connect(port.socket.getsockname())
        return client

    def accepted(self, port: Any) -> Any:
        """Return the transport of the next connection."""
        port.doRead()
        transport = port.reactor.addReader.call_args[0][0]
        self.addCleanup(transport.connectionLost, Failure(ConnectionDone()))
        return transport


class AcceptTests(AcceptCase):
    """Accepts in one turn."""

    def accepts(self, *, lean: bool) -> list[int]:
        """Return the accepts of each turn in a burst of 240 clients."""
        factory = Mock(**{"buildProtocol.return_value": None})  # refuses: the connection is closed
        port = self.listen(factory, lean=lean)
        for _ in range(240):
            self.connect(port)
        turns = []
        while sum(turns) < 240:
            before = factory.buildProtocol.call_count
            port.doRead()
            turns.append(factory.buildProtocol.call_count - before)
        return turns

    def test_accepts_bounded(self) -> None:
        """A burst is accepted in turns of 64; the rest waits in the kernel."""
        self.assertEqual(self.accepts(lean=True), [ACCEPTS] * 3 + [240 - 3 * ACCEPTS])

    def test_twisted_accepts_more_each_turn(self) -> None:
        """Canary (TRAPS 75): without the bound, a turn accepts a hundred connections, and the next one more."""
        self.assertEqual(self.accepts(lean=False), [100, 120, 20])

    def test_accepts_adapt(self) -> None:
        """A port tries as many accepts as came in the last turn, and twice as many after a turn without an end."""
        port = self.listen(Mock(**{"buildProtocol.return_value": None}))
        tried = []
        for clients in (1, 1, 3, 0):
            for _ in range(clients):
                self.connect(port)
            port.doRead()
            tried.append(port.numberAccepts)
        self.assertEqual(tried, [1, 2, 4, 1])

    def test_other_ports(self) -> None:
        """A port that is no socket of Twisted is left alone."""
        port: Any = Mock(spec=["socket"])
        lean_accepts(port)
        self.assertNotIn("doRead", vars(port))

    def test_accept_refused(self) -> None:
        """An error of the kernel is Twisted's to handle: it ends nothing."""
        port = self.listen(Mock())
        listening, port.socket = port.socket, Mock()
        port.socket._accept.side_effect = OSError(errno.ECONNABORTED, "aborted")
        port.socket.accept.side_effect = OSError(errno.ECONNABORTED, "aborted")
        port.doRead()
        port.socket.accept.assert_called_once_with()
        port.socket = listening

    def test_factory_raises(self) -> None:
        """An exception of a factory is logged; the next connection is accepted."""
        factory = Mock(**{"buildProtocol.side_effect": [RuntimeError, Protocol()]})
        port = self.listen(factory)
        self.connect(port)
        port.doRead()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        gc.collect()  # the refused socket closes itself
        self.connect(port)
        self.assertTrue(self.accepted(port).protocol.connected)


class TransportTests(AcceptCase):
    """The transport of an accepted connection."""

    def test_accepted_addresses(self) -> None:
        """A transport has the addresses of both ends, for IPv4 and IPv6."""
        for interface, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            port = self.listen(Factory.forProtocol(Protocol), interface)
            client = self.connect(port, family)
            transport = self.accepted(port)
            self.assertIsInstance(transport, Accepted)
            ends = [(end.host, end.port) for end in (transport.getPeer(), transport.getHost())]
            self.assertEqual(ends, [client.getsockname()[:2], port.socket.getsockname()[:2]])

    def test_accepted_host_shared(self) -> None:
        """Connections of one host share the string of its address."""
        port = self.listen(Factory.forProtocol(Protocol))
        self.connect(port)
        self.connect(port)
        port.doRead()
        one, other = (call[0][0] for call in port.reactor.addReader.call_args_list[-2:])
        self.addCleanup(one.connectionLost, Failure(ConnectionDone()))
        self.addCleanup(other.connectionLost, Failure(ConnectionDone()))
        self.assertIs(one.client[0], other.client[0])

    def test_accepted_hosts_forgotten(self) -> None:
        """Strings of past hosts are freed: clients with ever new addresses do not fill the memory (TRAPS 146)."""
        for number in range(2000):
            host, *_ = accepts._shared((f"2001:db8::{number:x}", 5, 0, 0))
        self.assertLess(sys.getrefcount(host), 10)  # of a string that is never freed: some 2 ** 32
        self.assertLess(accepts._one_string.cache_info().currsize, 2000)

    def test_accepted_link_local(self) -> None:
        """A link-local client's address has its scope."""
        port = self.listen(Factory.forProtocol(Protocol), "::1")
        client = socket.socket(socket.AF_INET6)
        port.socket, listening = Mock(), port.socket
        port.socket._accept.side_effect = [(client.detach(), ("fe80::1", 5, 0, 1)), BlockingIOError]
        scope = socket.if_indextoname(1)
        self.assertEqual(self.accepted(port).getPeer().host, f"fe80::1%{scope}")
        port.socket = listening

    def test_accepted_options(self) -> None:
        """A connection does not block and has no delay, without a call for the latter."""
        port = self.listen(Factory.forProtocol(Protocol))
        self.connect(port)
        transport = self.accepted(port)
        self.assertEqual(transport.socket.gettimeout(), 0)
        self.assertTrue(transport.getTcpNoDelay())
        transport.setTcpNoDelay(False)
        self.assertFalse(transport.getTcpNoDelay())
        transport.setTcpNoDelay(True)
        self.assertEqual(transport.getTcpNoDelay(), sys.platform != "linux")

    def test_accepted_writes(self) -> None:
        """What is written in pieces arrives in order, then the end."""
        port = self.listen(Factory.forProtocol(Protocol))
        client = self.connect(port)
        transport = self.accepted(port)
        transport.write(b"one ")
        transport.writeSequence([b"two ", b"three"])
        transport.doWrite()
        self.assertEqual(client.recv(100), b"one two three")
        transport.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(client.recv(100), b"")

    def test_accepted_reads(self) -> None:
        """Each outcome of a read is as with Twisted's own transport."""
        full = BlockingIOError(errno.EWOULDBLOCK, "")
        for outcome in (b"data", b"", full, ConnectionResetError(errno.ECONNRESET, ""), OSError(errno.EBADF, "")):
            answers, received = [], []
            for kind in (Accepted, Server):
                transport: Any = kind.__new__(kind)
                transport.socket, transport.protocol = Mock(), Mock()
                transport.socket.recv.side_effect = [outcome]
                answers.append(transport.doRead())
                received.append(transport.protocol.mock_calls)
            self.assertEqual((answers[0], received[0]), (answers[1], received[1]), outcome)

    def test_accepted_memory(self) -> None:
        """All transports share one table of names, also those that are set late (TRAPS 61)."""
        port = self.listen(Factory.forProtocol(Protocol))
        sizes = []
        for _ in range(40):
            self.connect(port)
            transport = self.accepted(port)
            transport.registerProducer(Mock(), True)
            transport.dataBuffer, transport.offset, transport.producerPaused = b"", 0, False
            transport.write(b"a")
            sizes.append(sys.getsizeof(vars(transport)))
        self.assertLess(max(sizes[30:]), 300)

    def test_unix_transport(self) -> None:
        """A unix socket accepts with Twisted's transport, from clients with and without a name."""
        path = Path(self.mktemp()).resolve()
        port = self.begin(UnixPort(str(path), Factory.forProtocol(Protocol), reactor=Mock()))
        for name in (None, "/".join([*path.parts[:-1], "client"])):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            if name is not None:
                client.bind(name)
                self.addCleanup(Path(name).unlink)
            client.connect(str(path))
            transport = self.accepted(port)
            self.assertNotIsInstance(transport, Accepted)
            self.assertEqual(transport.getPeer(), UNIXAddress(name))

    def test_canary_server(self) -> None:
        """Canary: Twisted's transport has the methods and attributes that this one relies on."""
        port = self.listen(Factory.forProtocol(Protocol), lean=False)
        self.connect(port)
        port.doRead()
        transport = port.reactor.addReader.call_args[0][0]
        self.addCleanup(transport.connectionLost, Failure(ConnectionDone()))
        self.assertIs(type(transport), Server)
        known = {"reactor", "socket", "fileno", "protocol", "client", "connected", "logstr", "repstr"}
        unused = {"server", "sessionno", "hostname", "_tempDataBuffer", "_tempDataLen"}
        self.assertEqual(set(vars(transport)), known | unused)
