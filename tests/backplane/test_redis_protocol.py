"""Tests of wsrelay.backplane.redis_protocol, with the real hiredis."""

import sys
from unittest import mock

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from wsrelay.backplane.redis_errors import NotRedis, RedisError
from wsrelay.backplane.redis_protocol import RedisProtocol, Reply, check_hiredis
from wsrelay.backplane.url import Password


class RedisProtocolTests(SynchronousTestCase):
    """A connection."""

    def setUp(self) -> None:
        """Make a connection that records replies and its end."""
        self.transport = StringTransport()
        self.protocol = RedisProtocol()
        self.protocol.makeConnection(self.transport)
        self.replies: list[Reply] = []
        self.lost: list[Failure] = []
        self.protocol.lost = self.lost.append

    def test_command(self) -> None:
        """A command is an array of bulk strings."""
        self.protocol.command(self.replies.append, "XADD", "\N{SNOWMAN}", 5, b"\0")
        self.assertEqual(self.transport.value(), b"*4\r\n$4\r\nXADD\r\n$3\r\n\xe2\x98\x83\r\n$1\r\n5\r\n$1\r\n\x00\r\n")

    def test_replies(self) -> None:
        """Replies are given in order to the callbacks, wherever the stream is cut; errors are values."""
        stream = b"+OK\r\n:5\r\n$-1\r\n*2\r\n$1\r\na\r\n-ERR b\r\n-OOM full\r\n"
        for size in (1, 7, 100):
            self.replies.clear()
            for _ in range(5):
                self.protocol.command(self.replies.append, "PING")
            for start in range(0, len(stream), size):
                self.protocol.dataReceived(stream[start : start + size])
            *plain, (word, inner), outer = self.replies
            self.assertEqual((plain, word), ([b"OK", 5, None], b"a"))
            self.assertEqual((str(inner), str(outer), outer.code), ("ERR b", "OOM full", "OOM"))
            self.assertIsInstance(inner, RedisError)

    def test_not_redis(self) -> None:
        """Anything but RESP, or a reply without a command, ends the connection; nothing after that is read."""
        for data in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n"):
            self.setUp()
            self.protocol.command(self.replies.append, "PING")
            self.protocol.dataReceived(data)
            self.protocol.dataReceived(b"+OK\r\n")
            self.protocol.connectionLost(Failure(ConnectionAborted()))
            self.assertTrue(self.transport.disconnecting)
            self.assertEqual([failure.type for failure in self.lost], [NotRedis])
            self.assertIs(self.protocol.ended, self.lost[0])
            self.assertLess(len(self.replies), 2)

    def test_lost(self) -> None:
        """The end is reported once; commands after it are not sent, and no callback is called."""
        self.protocol.command(self.replies.append, "PING")
        self.transport.clear()
        reason = Failure(ConnectionDone())
        self.protocol.connectionLost(reason)
        self.protocol.command(self.replies.append, "PING")
        self.protocol.login(self.replies.append, "", Password(b"geheim"))
        self.protocol.abort()
        self.assertEqual((self.lost, self.replies, self.transport.value()), ([reason], [], b""))

    def test_abort(self) -> None:
        """After an abort, neither replies of the same read nor the end are reported."""
        self.protocol.command(lambda _: self.protocol.abort(), "PING")
        self.protocol.command(self.replies.append, "PING")
        self.protocol.dataReceived(b"+PONG\r\n+PONG\r\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.protocol.abort()
        self.assertEqual((self.replies, self.lost), ([], []))
        ended = self.protocol.ended
        self.assertTrue(ended is not None and ended.check(ConnectionAborted))

    def test_owner_without_lost(self) -> None:
        """Before an owner has set ``lost``, the end is only remembered."""
        protocol = RedisProtocol()
        protocol.makeConnection(StringTransport())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIsNot(protocol.ended, None)

    def test_login(self) -> None:
        """AUTH has the user, if there is one, and the password, which is kept nowhere."""
        self.protocol.login(self.replies.append, "", Password(b"geheim"))
        self.protocol.login(self.replies.append, "me", Password(b"geheim"))
        self.assertEqual(
            self.transport.value(),
            b"*2\r\n$4\r\nAUTH\r\n$6\r\ngeheim\r\n*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\ngeheim\r\n",
        )
        self.assertNotIn("geheim", repr(vars(self.protocol)))
        self.protocol.dataReceived(b"-WRONGPASS geheim\r\n+OK\r\n")
        error, ok = self.replies
        self.assertEqual((str(error), ok), ("WRONGPASS", b"OK"))

    def test_tcp_options(self) -> None:
        """On TCP, small writes are not delayed, and a vanished broker is found by the kernel."""
        transport = mock.Mock(spec=["write", "setTcpNoDelay", "setTcpKeepAlive"])
        alsoProvides(transport, ITCPTransport)
        RedisProtocol().makeConnection(transport)
        transport.setTcpNoDelay.assert_called_once_with(True)
        transport.setTcpKeepAlive.assert_called_once_with(True)

    def test_direct_send(self) -> None:
        """On a plain socket a command is sent at once, as far as it goes; the rest, and what comes later, waits."""

        class Transport(Connection):
            def __init__(self) -> None:
                self.socket, self.queued, self._tempDataLen = mock.Mock(), b"", 0

            def write(self, data: bytes) -> None:
                self.queued += data
                self.dataBuffer = self.queued

        packed = b"*1\r\n$4\r\nPING\r\n"
        for taken, queued in ((len(packed), b""), (5, packed[5:]), (BlockingIOError(), packed), (OSError(), packed)):
            transport, protocol = Transport(), RedisProtocol()
            transport.socket.send.side_effect = [taken]
            protocol.makeConnection(transport)
            protocol.command(self.replies.append, "PING")
            self.assertEqual(transport.queued, queued)
            transport.socket.send.assert_called_once_with(packed)
            if queued:
                protocol.command(self.replies.append, "PING")
                self.assertEqual((transport.queued, transport.socket.send.call_count), (queued + packed, 1))

    def test_direct_read(self) -> None:
        """On a plain socket what has come is taken at once; its end and its failure end the connection."""

        class Transport(Connection):
            def __init__(self) -> None:
                self.socket, self._tempDataLen = mock.Mock(), 0

        transport, protocol = Transport(), RedisProtocol()
        transport.socket.send.side_effect = len
        protocol.makeConnection(transport)
        protocol.command(self.replies.append, "PING")
        transport.socket.recv.side_effect = [b"+PO", BlockingIOError(), b"NG\r\n", b"", OSError()]
        ends = [transport.doRead() for _ in range(5)]
        self.assertEqual(ends, [None, None, None, CONNECTION_DONE, CONNECTION_LOST])
        self.assertEqual(self.replies, [b"PONG"])

    def test_send_with_tls(self) -> None:
        """With TLS nothing passes by the transport."""

        class Transport(Connection):
            TLS = True

            def __init__(self) -> None:
                self.socket, self.queued, self._tempDataLen = mock.Mock(), b"", 0

            def write(self, data: bytes) -> None:
                self.queued += data

        transport, protocol = Transport(), RedisProtocol()
        protocol.makeConnection(transport)
        protocol.command(self.replies.append, "PING")
        self.assertEqual((transport.socket.send.call_count, transport.queued[-6:]), (0, b"PING\r\n"))

    def test_check_hiredis(self) -> None:
        """Without hiredis, the text says how to install it."""
        check_hiredis()
        with mock.patch.dict(sys.modules, {"hiredis": None}):
            self.assertRaisesRegex(ValueError, r"pip install 'wsrelay\[redis\]'$", check_hiredis)
