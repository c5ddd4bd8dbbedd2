"""Tests of tests.harness.fake_redis: it answers as a real broker does, and its faults are what they say."""

from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.broker import Broker, BrokerError
from tests.harness.fake_redis import EPOCH_MS, Connection, FakeRedis

Ask = Callable[..., Any]


class Wire:
    """A connection to the broker in memory."""

    def __init__(self, broker: FakeRedis) -> None:
        self.connection = Connection(broker)
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)
        self.reader = hiredis.Reader(notEnoughData=self)
        broker.connections.append(self.connection)

    def send(self, *words: Any) -> None:
        """Send a command."""
        self.connection.dataReceived(hiredis.pack_command(words))

    def replies(self) -> list[Any]:
        """Return the replies so far."""
        self.reader.feed(self.transport.value())
        self.transport.clear()
        return list(iter(self.reader.gets, self))

    def ask(self, *words: Any) -> Any:
        """Send a command and return its reply; errors are raised."""
        self.send(*words)
        (reply,) = self.replies()
        if isinstance(reply, hiredis.ReplyError):
            raise BrokerError(str(reply))
        return reply


def conversation(ask: Ask) -> Iterator[Any]:
    """Ask all that the relay asks, and yield the replies, with ids as their number."""
    ids: dict[bytes, int] = {}

    def named(reply: Any) -> Any:
        if isinstance(reply, list):
            return [named(one) for one in reply]
        return f"id {ids[reply]}" if reply in ids else reply

    for number in range(3):
        ids[ask("XADD", "k", "*", "n", "a", "s", number, "m", b"\0\r\n")] = number
    first, second, _ = ids
    for command in (
        ("PING",),
        ("CLIENT", "SETNAME", "wsrelay-x"),
        ("CLIENT", "NO-EVICT", "on"),
        ("SELECT", 0),
        ("XREAD", "COUNT", 2, "BLOCK", 10, "STREAMS", "k", "0-0"),
        ("XREAD", "COUNT", 9, "BLOCK", 10, "STREAMS", "k", second),
        ("XRANGE", "k", second, second),
        ("XRANGE", "k", "1-0", "0-1", "COUNT", 1),
        ("XRANGE", "none", "-", "+", "COUNT", 1),
        ("XREVRANGE", "k", "+", "-", "COUNT", 1),
        ("XREVRANGE", "none", "+", "-", "COUNT", 1),
        ("XTRIM", "none", "MINID", "~", "5-0"),
        ("XTRIM", "k", "MINID", "~", first),
        ("HSET", "h", "a", "1"),
        ("HSET", "h", "a", "2"),
        ("HSET", "h", "b", b"\xff"),
        ("HGETALL", "h"),
        ("HGETALL", "none"),
        ("HDEL", "h", "a"),
        ("HDEL", "h", "a"),
    ):
        yield command[0], named(ask(*command))
    for wrong in (("NONSENSE",), ("XADD", "k", "*", "n"), ("AUTH", "x", "y")):
        try:
            yield ask(*wrong)
        except BrokerError as error:
            yield str(error).split()[0]


class AnswerTests(SynchronousTestCase):
    """Replies."""

    @pytest.mark.deploy
    def test_as_redis(self) -> None:
        """All commands of the relay get the same replies as from redis-server."""
        expected = []
        with Broker() as real:
            expected += conversation(real.command)
        self.assertEqual(list(conversation(Wire(FakeRedis(MemoryReactorClock())).ask)), expected)

    def test_block(self) -> None:
        """XREAD waits for an entry, or for its time, and holds up what is behind it."""
        clock = MemoryReactorClock()
        broker = FakeRedis(clock)
        reader, writer = Wire(broker), Wire(broker)
        reader.send("XREAD", "COUNT", 9, "BLOCK", 1000, "STREAMS", "k", "0-0")
        reader.send("PING")
        clock.advance(0.9)
        self.assertEqual(reader.replies(), [])
        writer.ask("XADD", "k", "*", "m", "1")
        entry = b"%d-0" % (EPOCH_MS + 900)
        self.assertEqual(reader.replies(), [[[b"k", [[entry, [b"m", b"1"]]]]], b"PONG"])

        reader.send("XREAD", "COUNT", 9, "BLOCK", 1000, "STREAMS", "k", entry)
        clock.advance(1)
        self.assertEqual((reader.replies(), clock.getDelayedCalls()), ([None], []))

    def test_pause(self) -> None:
        """While it is silent nothing is executed; then all is, also what ended connections have sent."""
        clock = MemoryReactorClock()
        broker = FakeRedis(clock)
        reader, writer = Wire(broker), Wire(broker)
        reader.send("XREAD", "COUNT", 9, "BLOCK", 1000, "STREAMS", "k", "0-0")
        broker.pause()
        writer.send("XADD", "k", "*", "m", "1")
        writer.connection.connectionLost()
        clock.advance(2)
        self.assertEqual((reader.replies(), broker.streams), ([], {b"k": broker.streams[b"k"]}))
        broker.resume()

        self.assertEqual(len(broker.streams[b"k"].entries), 1)
        self.assertEqual((len(reader.replies()), writer.replies()), (1, []))

    def test_lose(self) -> None:
        """Ids go back with the entries that are lost."""
        broker = FakeRedis(MemoryReactorClock())
        ask = Wire(broker).ask
        added = [ask("XADD", "k", "*", "m", "1") for _ in range(3)]
        ask("HSET", "h", "a", "1")
        broker.lose(2)
        self.assertEqual(ask("XADD", "k", "*", "m", "1"), added[1])
        broker.lose()
        self.assertEqual((ask("XRANGE", "k", "-", "+"), ask("HGETALL", "h")), ([], []))

    def test_refusals(self) -> None:
        """It refuses what the test says, and everything without the password."""
        broker = FakeRedis(MemoryReactorClock(), password=b"geheim")
        broker.refusals["PING"] = "OOM full"
        wire = Wire(broker)
        self.assertRaisesRegex(BrokerError, "NOAUTH", wire.ask, "INFO")
        self.assertRaisesRegex(BrokerError, "WRONGPASS", wire.ask, "AUTH", "x")
        self.assertEqual(wire.ask("AUTH", "geheim"), b"OK")
        self.assertRaisesRegex(BrokerError, "OOM full", wire.ask, "PING")
        self.assertIn(b"run_id:r1\r\n", wire.ask("INFO"))
