"""A connection as awaited bytes."""

from typing import Any

from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.connection import Connection
from wsrelay.selftest.outcome import Silence


class ConnectionTests(SynchronousTestCase):
    """What comes is kept until it is awaited."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.connection = Connection("client", self.clock, 10)
        self.connection.makeConnection(self.transport)

    def read(self, seconds: float | None = None) -> "Deferred[bytes]":
        """Begin to read."""
        return Deferred.fromCoroutine(self.connection.read(seconds))

    def test_held(self) -> None:
        """The server is held on demand, and when too much has come, until something is awaited."""
        for hold in (self.connection.hold, lambda: self.connection.dataReceived(bytes(2**22 + 1))):
            hold()
            self.assertEqual(self.transport.producerState, "paused")
            reading = self.read()
            self.assertEqual(self.transport.producerState, "producing")
            reading.cancel()
            reading.addErrback(lambda _failure: None)

    def test_taken(self) -> None:
        """What comes while nothing is awaited can be taken at once; too much of it holds the server, too."""
        taken: list[bytes] = []
        self.connection.take = taken.append
        self.connection.dataReceived(b"a")
        reading = self.read()
        self.connection.dataReceived(b"b")
        self.assertEqual((self.successResultOf(reading), taken), (b"b", [b"a"]))
        for _ in range(2):
            self.connection.dataReceived(bytes(2**21 - 1))
            self.assertEqual(self.transport.producerState, "producing")
        self.connection.dataReceived(b"cc")
        self.assertEqual(self.transport.producerState, "paused")

    def test_kept(self) -> None:
        """What comes while nothing is awaited is kept."""
        self.connection.dataReceived(b"a")
        self.connection.dataReceived(b"b")
        self.assertEqual(self.successResultOf(self.read()), b"ab")

    def test_silence(self) -> None:
        """Waiting ends, after the usual time or another one; cancelling ends it at once."""
        for seconds, usual in ((None, 10), (3.0, 3)):
            reading = self.read(seconds)
            self.clock.advance(usual)
            self.assertEqual(
                str(self.failureResultOf(reading, Silence).value), f"nothing came to the client for {usual} s"
            )
        reading = self.read()
        reading.cancel()
        self.failureResultOf(reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end(self) -> None:
        """The end is empty bytes, behind what has come; trouble is kept."""
        reading = self.read()
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.successResultOf(reading), self.connection.trouble), (b"", ""))
        self.assertEqual(self.successResultOf(self.read()), b"")
        self.connection.abort()  # without effect
        self.assertFalse(self.transport.disconnecting)

    def test_trouble(self) -> None:
        """Any other end than a clean one has a text."""
        self.connection.connectionLost(Failure(ConnectionLost()))
        self.assertIn("lost", self.connection.trouble)
        self.connection.connectionLost(Failure(TLSError([("SSL routines", "", "certificate verify failed")])))
        self.assertEqual(self.connection.trouble, "certificate verify failed")

    def test_write_and_abort(self) -> None:
        """It writes, and aborts."""
        aborted: list[Any] = []
        self.transport.abortConnection = lambda: aborted.append(1)  # type: ignore[method-assign]
        self.connection.write(b"a")
        self.connection.abort()
        self.assertEqual((self.transport.value(), aborted), (b"a", [1]))
