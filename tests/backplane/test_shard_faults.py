"""Tests of wsrelay.backplane.shard with faults of the broker, in memory."""

import itertools
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tests.harness.backplane import BrokerTestCase
from tests.harness.fake_redis import EPOCH_MS, Error, Id
from wsrelay.backplane import tail
from wsrelay.backplane.entry import EMPTY
from wsrelay.backplane.redis_errors import NoBroker
from wsrelay.backplane.state import State
from wsrelay.errors import BackplaneDown
from wsrelay.message import Run


class CongestedTests(BrokerTestCase):
    """A broker that takes nothing."""

    def test_close_while_congested(self) -> None:
        """Clients closed for an outage need not wait for the deadline: their answers are read while others are held."""
        node = self.node(backplane_pending_bytes=1000, backplane_grace_seconds=5.0)
        _, publisher = node.client("/x"), node.client("/x")
        self.broker.pause()
        for _ in range(8):
            publisher.say("m" * 300)
            node.settle()
        self.assertTrue(node.factory.congested)
        node.wait(8.9)
        self.assertEqual(self.state(node), State.DOWN)
        self.assertEqual(len(node.factory.connections), 0)

    def test_slow_reader(self) -> None:
        """Publishers are held for what does not come back, too: else the broker and this node would keep it all."""
        node = self.node(backplane_pending_bytes=1000, http=True)
        publisher = node.client("/x")
        read = self.broker._xread
        self.broker._xread = lambda connection, *_: connection.block(lambda: None, 1000)  # type: ignore[method-assign]
        node.wait(1.5)
        for _ in range(8):
            publisher.say("m" * 300)
            node.settle()
        self.assertEqual((self.shard(node).outbox.pending_bytes, node.factory.congested), (0, True))
        self.assertLess(publisher.server.member.messages_in, 8)
        self.assertRaises(BackplaneDown, node.factory.backplane.check, "x")
        self.broker._xread = read  # type: ignore[method-assign]
        node.wait(4)
        self.assertEqual((node.factory.congested, publisher.server.member.messages_in), (False, 8))


class OpeningTests(BrokerTestCase):
    """A pair that is open, and then refused."""

    def test_trim_refused(self) -> None:
        """An ACL without XTRIM keeps the shard down, with one line: else it would be interrupted by each trim."""
        self.broker.refusals["XTRIM"] = "NOPERM no"
        node = self.node()
        node.wait(10)
        self.assertEqual(self.state(node), State.DOWN)
        self.assertEqual([len(self.logged(level)) for level in (LogLevel.error, LogLevel.warn)], [1, 0])
        self.broker.refusals.clear()
        node.wait(3)
        self.assertEqual(self.state(node), State.UP)

    def test_newest_refused(self) -> None:
        """Nothing is sent before the broker has said whether it has the newest entry."""
        node = self.node()
        node.wait(2)
        execute, refused = self.broker.execute, []

        def refuse(connection: Any, words: list[bytes]) -> Any:
            if words[0] == b"XRANGE" and words[2] != b"1-0" and not refused:
                refused.append(words)
                raise Error("LOADING wait")
            return execute(connection, words)

        self.broker.restart(lose=None)
        self.broker.execute = refuse  # type: ignore[method-assign]
        node.wait(1)
        self.assertEqual((len(refused), node.stats.backplane.reconnects["loading"]), (1, 1))
        self.assertGreater(node.stats.backplane.resent, 0)

    def test_newest_of_another(self) -> None:
        """Where the id of the newest entry is that of something else now, the window is sent again."""
        node = self.node()
        node.wait(2)
        self.broker.restart(lose=None)
        newest = str(self.shard(node).outbox.newest_id).encode()
        self.broker.log().entries.append((Id.parse(newest), [b"a", b"b"]))
        node.wait(1)
        self.assertEqual(self.state(node), State.UP)
        self.assertGreater(node.stats.backplane.resent, 0)
        self.assertRegex(self.logged(LogLevel.warn)[-1], "skipping an entry that no relay has sent: no field")
        self.assertEqual(node.stats.backplane.gaps, 0)

    def test_enter_cancels_another(self) -> None:
        """A client that is let in may end another that waits."""
        self.broker.pause()
        node = self.node()
        waiting = [node.factory.backplane.enter("x") for _ in range(3)]
        waiting[0].addCallback(lambda _: waiting[1].cancel())
        self.broker.resume()
        node.settle()
        self.assertEqual([one.called for one in waiting], [True] * 3)
        self.failureResultOf(waiting[1], CancelledError)
        self.assertIs(self.successResultOf(waiting[2]), None)


class BehindTests(BrokerTestCase):
    """A long stream."""

    def test_learning_takes_long(self) -> None:
        """A pair is not given up while the stream is read: the next one would begin at its start again."""
        self.patch(tail, "_FIRST_ENTRIES", 16)
        self.patch(tail, "_REPLY_ENTRIES", 16)
        for number in range(160):
            self.broker.log().add([b"n", b"other", b"s", b"%d" % (number + 1), b"m", EMPTY], EPOCH_MS - 1)

        def read_slowly(connection: Any, *words: bytes) -> Any:
            after, at = Id.parse(words[-1]), self.clock.seconds() + 1

            def read() -> Any:
                found = [one for one in self.broker.log().entries if one[0] > after][:16]
                return [[words[-2], found]] if found and self.clock.seconds() >= at else None

            connection.block(read, 1000)

        self.broker._xread = read_slowly  # type: ignore[method-assign]
        node = self.node()
        node.wait(20)
        self.assertEqual((self.state(node), sum(node.stats.backplane.reconnects.values())), (State.UP, 0))


class DownTests(BrokerTestCase):
    """An outage longer than the grace."""

    def test_return_while_draining(self) -> None:
        """A broker that returns early: members whose close is due get all messages in order until then, not a hole."""
        node, other = self.node(drain_seconds=20.0, backplane_grace_seconds=3.0), self.node()
        members, publisher = [node.client("/x") for _ in range(4)], other.client("/x")
        shard = self.shard(node)
        connect, shard._connect = shard._connect, lambda: fail(NoBroker("refused", "no"))
        publisher.say("0")
        node.settle()
        shard._pair.writer.connectionLost(Failure(ConnectionDone()))  # type: ignore[union-attr]
        for number in range(1, 8):
            publisher.say(f"{number}")
            node.wait(0.5)
        self.assertEqual(self.state(node), State.DOWN)
        shard._connect = connect
        node.wait(3)
        self.assertEqual(self.state(node), State.UP)
        self.assertEqual(members[3].messages, [f"{number}" for number in range(8)])
        node.wait(20)
        self.assertEqual({member.closed for member in members}, {(1013, "no broker: try again later")})

    def test_backlog_of_the_old_pair(self) -> None:
        """What the lost connection has read is delivered meanwhile, and proves nothing about the new one."""
        node, other = self.nodes(2)
        member, publisher = node.client("/x"), node.client("/x")
        foreign = other.client("/x")
        shard, later = self.shard(node), self.clock.callLater
        node.factory.busy_clock = itertools.count().__next__  # each stretch is over at once
        self.patch(
            self.clock,
            "callLater",
            lambda seconds, call, *words: later(0.125 if call == shard.tail._deliver else seconds, call, *words),
        )
        self.broker.pause()
        for number in range(4):
            foreign.say(f"{number}")
            node.settle()
            publisher.say(f"{number}")
            node.settle()
        self.broker.resume()
        node.settle()
        find = self.broker._xrevrange

        def find_slowly(connection: Any, *words: bytes) -> Any:
            found, at = find(connection, *words), self.clock.seconds() + 2
            connection.block(lambda: found if self.clock.seconds() >= at else None, 2000)

        self.broker._xrevrange = find_slowly  # type: ignore[method-assign]
        self.broker.cut()
        foreign.say("4")
        node.wait(1.5)
        self.assertEqual(self.state(node), State.INTERRUPTED)
        node.wait(4)
        self.assertEqual(self.state(node), State.UP)
        self.assertEqual(sorted(member.messages), sorted([f"{number}" for number in range(4)] * 2 + ["4"]))

    def test_stop_while_interrupted(self) -> None:
        """A stop waits for a new pair, for a second at most, if messages are to be published."""
        node = self.node()
        self.broker.cut()
        node.settle()
        node.factory.backplane.publish("x", Run.text(b"last"))
        self.assertEqual(self.state(node), State.INTERRUPTED)
        stopping = Deferred.fromCoroutine(node.factory.backplane.stop())
        node.wait(0.5)
        self.successResultOf(stopping)
        _, fields = self.broker.log().entries[-1]
        self.assertEqual((b"last" in fields[5], fields[6:]), (True, [b"b", b"1"]))

    def test_bug_in_a_gap(self) -> None:
        """A bug where a gap is told costs the connection at most; the next entries are delivered."""
        node, other = self.nodes(2)
        member = node.client("/x")
        miss, node.factory.hub.miss = node.factory.hub.miss, None  # type: ignore[method-assign, assignment]
        self.broker.log().add([b"n", b"third", b"s", b"1", b"m", b"?"], EPOCH_MS + 1)
        self.assertRaises(TypeError, node.wait, 2)
        node.factory.hub.miss = miss  # type: ignore[method-assign]
        other.client("/x").say("hi")
        node.wait(5)
        self.assertEqual(member.messages, ["hi"])
        self.assertEqual(len(self.flushLoggedErrors()), 2)
