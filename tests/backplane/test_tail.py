"""Tests of wsrelay.backplane.tail, on a broker in memory."""

import math
from unittest import mock

from twisted.logger import LogLevel

from tests.harness.backplane import BrokerTestCase
from wsrelay.backplane.entry import Entry, Id, pack
from wsrelay.backplane.redis_errors import NoBroker
from wsrelay.backplane.state import State
from wsrelay.message import Run
from wsrelay.names import PROBE_ROOM
from wsrelay.wire.frames import BINARY, TEXT, encode

LOST = (1013, "messages were lost: reconnect and fetch the state again")


class TailTests(BrokerTestCase):
    """Reading."""

    def test_foreign_messages(self) -> None:
        """Messages of all rooms of an entry are delivered in their order; those of rooms that are not here counted."""
        node = self.node()
        a, b = node.client("/a"), node.client("/b")
        text = [encode(TEXT, b"%d" % number) for number in range(4)]
        blob = pack(
            [("a", text[0] + text[1], 2), ("b", encode(BINARY, b"\0"), 1), ("c", b"".join(text), 4), ("a", text[2], 1)]
        )
        self.broker.add(Entry("other", 1, blob).fields())
        node.settle()
        self.assertEqual((a.messages, b.messages), (["0", "1", "2"], [b"\0"]))
        self.assertEqual(dict(node.stats.backplane.read_messages), {"yes": 4, "no": 4})

    def test_counts(self) -> None:
        """Entries are counted, own ones included, and duplicates."""
        node = self.node()
        before = node.stats.backplane.read_entries
        for seq in (1, 2, 2, 1, 3):
            self.publish_elsewhere(seq, "x")
        node.settle()
        self.assertEqual(node.stats.backplane.read_entries - before, 5)
        self.assertEqual((node.stats.backplane.duplicates, node.stats.backplane.gaps), (2, 0))

    def test_round_trip(self) -> None:
        """The time from sending an entry to reading it back is observed."""
        node = self.node()
        before = node.stats.backplane.round_trip_seconds.total
        self.broker.pause()
        node.factory.backplane.publish("x", Run.text("hi"))
        node.settle()
        node.wait(0.5)
        self.broker.resume()
        node.settle()
        self.assertAlmostEqual(node.stats.backplane.round_trip_seconds.total - before, 0.5)

    def test_probe_room(self) -> None:
        """The readiness probe gets its own messages only: another node's would make this one ready."""
        node = self.node()
        probe = node.client("/room")
        node.factory.hub.leave(probe.server.member)
        node.factory.hub.join(PROBE_ROOM, probe.server.member)
        self.publish_elsewhere(1, "foreign", room=PROBE_ROOM)
        node.factory.backplane.publish(PROBE_ROOM, Run.text("own"))
        node.settle()
        self.assertEqual(probe.messages, ["own"])

    def test_undecodable(self) -> None:
        """An entry whose messages are none is a gap and a log line; reading goes on."""
        for fields in (
            ["n", "other", "s", 1, "m", b"\xc1"],
            ["n", "other", "s", 1, "m", pack([("room", b"", 0)])],
        ):
            node = self.node()
            client = node.client()
            identity = self.broker.add(fields)
            self.publish_elsewhere(2, "x")
            node.settle()
            self.assertEqual(len(self.flushLoggedErrors()), 1)
            lines = [line for line in self.logged(LogLevel.critical) if identity.decode() in line]
            self.assertEqual(len(lines), 1)
            self.assertEqual((client.closed, self.state(node).value), (LOST, "up"))
            self.setUp()

    def test_of_no_relay(self) -> None:
        """An entry that is none is skipped: the next one of its node shows whether one was lost."""
        node = self.node()
        client = node.client()
        for fields in (["x", "y"], ["n", "other", "s", "one", "m", pack([])]):
            self.broker.add(fields)
            node.settle()
        self.assertEqual((len(self.logged(LogLevel.warn)), client.closed), (2, None))
        self.publish_elsewhere(2, "x")
        node.settle()
        self.assertEqual((node.stats.backplane.gaps, client.closed), (1, LOST))

    def test_delivery_raises(self) -> None:
        """A bug in a delivery is logged, and the next entries are delivered."""
        node = self.node(slow_policy=("latest",))
        client = node.client()
        with self.subTest():
            publish, node.factory.hub.publish = node.factory.hub.publish, None
            self.publish_elsewhere(1, "1")
            node.settle()
            node.factory.hub.publish = publish
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.publish_elsewhere(2, "2")
        node.settle()
        self.assertEqual((client.messages, dict(node.stats.evictions)), (["2"], {"latest": 1}))

    def test_reply_size(self) -> None:
        """The number of entries asked for keeps replies near 1 MiB, from 1 to 1024."""
        node = self.node()

        def asked() -> int:
            return int(self.broker.words("XREAD")[-1][1])

        self.assertEqual(self.broker.words("XREAD")[0][:4], [b"COUNT", b"64", b"BLOCK", b"1000"])
        self.publish_elsewhere(1, "x")
        node.settle()
        node.wait(1)
        self.assertEqual(asked(), 1024)
        for seq, size, expected in ((2, 2**18, 3), (3, 2**21, 1), (4, 2**12, 255)):
            self.publish_elsewhere(seq, "x" * size)
            node.settle()
            self.assertEqual(asked(), expected)
        self.broker.cut()
        node.settle()
        count = len(self.broker.words("XREAD"))
        node.wait(0.25)
        self.assertEqual(self.broker.words("XREAD")[count][1], b"64", "after an outage sizes are unknown")

    def test_next_read_before_delivery(self) -> None:
        """The next entries are asked for before these are delivered: the broker works meanwhile."""
        node = self.node()
        node.client()
        counts: list[int] = []
        publish = node.factory.hub.publish
        node.factory.hub.publish = lambda room, run: counts.append(len(asked.stream)) or publish(room, run)
        asked = self.shard(node)._pair.reader.transport
        self.publish_elsewhere(1, "x")
        node.settle()
        self.assertEqual(len(counts), 1)
        self.assertGreater(counts[0], 0)

    def test_learn(self) -> None:
        """What the stream has at the start tells where each node is; what is behind it is delivered."""
        for seq in range(5, 200):
            self.publish_elsewhere(seq, "old")
        self.publish_elsewhere(9, "old", node="stopped", bye=True)
        node = self.node()
        client = node.client()
        self.assertEqual(node.factory.backplane.status().nodes, 2)
        self.publish_elsewhere(199, "old")
        self.publish_elsewhere(200, "new")
        node.settle()
        self.assertEqual((client.messages, node.stats.backplane.gaps), (["new"], 0))

    def test_learn_again(self) -> None:
        """After an outage without members all is learnt anew: later ones are not given what was published meanwhile."""
        node = self.node(backplane_grace_seconds=1.0)
        self.publish_elsewhere(1, "1")
        node.settle()
        self.broker.is_down = True
        self.broker.cut()
        node.wait(30)
        self.assertEqual(self.state(node), State.DOWN)
        self.publish_elsewhere(2, "2")
        self.broker.is_down = False
        node.wait(5)
        client = node.client()
        self.publish_elsewhere(3, "3", age=20.0)
        self.publish_elsewhere(4, "4", age=1.0)
        node.settle()
        self.assertEqual((client.messages, node.stats.backplane.gaps), (["4"], 0))

    def test_learn_forgets(self) -> None:
        """What was read and is not delivered yet is dropped, and marks of another stream."""
        tail = self.shard(self.node()).tail
        tail.marks.add(1, b"5-0")
        tail._backlog.append((b"5-0", []))
        tail._delivering = iter([None])
        tail.learn(Id(7, 0), 0.0)
        tail._deliver()
        self.assertEqual(
            (tail._delivering, len(tail._backlog), tail.marks.oldest_kept(Id(7, 0), 1, 0)), (None, 0, Id(0, 0))
        )

    def test_go_on(self) -> None:
        """It goes on behind the last entry that was read, if that is still there; else from the start."""
        node = self.node()
        tail = self.shard(node).tail
        tail.go_on([])
        self.assertEqual(tail.newest, Id(0, 0))
        node.wait(1)
        newest = Id(*self.broker.log().last)
        self.assertEqual(tail.newest, newest)
        tail.go_on([bytes(field) for field in self.broker.log().entries[-1][1]])
        self.assertEqual(tail.newest, newest)
        tail.marks.add(1, b"5-0")
        tail.go_on(self.broker.log().entries[0][1])
        self.assertEqual((tail.newest, len(tail.marks._marks)), (Id(0, 0), 0))

    def test_go_on_from_the_start(self) -> None:
        """What is read once more is skipped."""
        node = self.node()
        client = node.client()
        for seq in (1, 2, 3):
            self.publish_elsewhere(seq, f"{seq}")
        node.settle()
        self.broker.log().lose(1)
        self.broker.cut()
        node.settle()
        node.wait(1)
        self.publish_elsewhere(3, "3")
        self.publish_elsewhere(4, "4")
        node.settle()
        self.assertEqual((client.messages, node.stats.backplane.gaps), (["1", "2", "3", "4"], 0))

    def test_sent_again(self) -> None:
        """An entry that a broker lost and that is sent again is skipped if it is from before this node's start."""
        self.clock.advance(100)
        node = self.node()
        client = node.client()
        node.wait(20)
        self.publish_elsewhere(7, "before", age=30.0)
        self.publish_elsewhere(8, "after", age=10.0)
        self.publish_elsewhere(9, "new")
        node.settle()
        self.assertEqual((client.messages, node.stats.backplane.gaps), (["after", "new"], 0))

    def test_stretches(self) -> None:
        """Deliveries that take long are done in several turns, in their order; what comes meanwhile is behind them."""
        node = self.node()
        client, tail, publish = node.client(), self.shard(node).tail, node.factory.hub.publish

        def slowly(room: str, run: Run) -> None:
            node.busy += 0.015
            publish(room, run)
            if run.plain.endswith(b"0"):
                self.publish_elsewhere(2, "10", "11")
                while self.broker.pump():
                    self.assertTrue(tail.is_behind)

        node.factory.hub.publish = slowly
        self.publish_elsewhere(1, *(f"{number}" for number in range(10)))
        with mock.patch.object(tail, "_deliver", wraps=tail._deliver) as deliver:
            node.settle()
        self.assertEqual(client.messages, [f"{number}" for number in range(12)])
        self.assertGreater(deliver.call_count, 5)
        self.assertFalse(tail.is_behind)
        self.publish_elsewhere(3, "12")
        node.settle()
        self.assertEqual(client.messages[-1], "12")

    def test_stretches_without_connection(self) -> None:
        """What was read is delivered also where the connection ends meanwhile, and once."""
        node = self.node()
        client, shard, publish = node.client(), self.shard(node), node.factory.hub.publish

        def slowly(room: str, run: Run) -> None:
            node.busy += 1
            publish(room, run)
            shard._doubt(NoBroker("closed", "gone"))

        node.factory.hub.publish = slowly
        self.publish_elsewhere(1, "1", "2", "3")
        node.settle()
        self.assertEqual((client.messages, self.state(node)), (["1", "2", "3"], State.INTERRUPTED))
        node.factory.hub.publish = publish
        node.wait(1)
        self.publish_elsewhere(2, "4")
        node.settle()
        self.assertEqual((client.messages, self.state(node)), (["1", "2", "3", "4"], State.UP))

    def test_loss_while_delivering(self) -> None:
        """What is sent while messages from before a loss are delivered is void at once: no node may take its ids."""
        node = self.node(history=("**=5",))
        node.client()
        epochs, tail, publish = self.shard(node)._epochs, self.shard(node).tail, node.factory.hub.publish
        seen: list[bool] = []

        def slowly(room: str, run: Run) -> None:
            if not seen:
                before = epochs._timeline.epoch
                tail.lose()
                seen.append(epochs.stamp > before == epochs._timeline.epoch)
            publish(room, run)

        node.factory.hub.publish = slowly
        self.publish_elsewhere(1, "1")
        node.settle()
        self.assertEqual(seen, [True])
        void = epochs.stamp
        self.publish_elsewhere(2, "2")
        node.settle()
        self.assertGreater(epochs._timeline.epoch, void)

    def test_stretches_across_connections(self) -> None:
        """While what was read is delivered, new connections do not read."""
        node = self.node()
        client, tail, publish = node.client(), self.shard(node).tail, node.factory.hub.publish
        counts: list[int] = []

        def slowly(room: str, run: Run) -> None:
            counts.append(len(self.broker.words("XREAD")))
            if not counts[1:]:
                connection, asked = tail._connection, tail.asked_at
                tail.end()
                tail.begin(connection)
                self.assertEqual((tail.asked_at, asked), (math.inf, asked))
                tail.asked_at = asked
            publish(room, run)

        node.factory.hub.publish = slowly
        self.publish_elsewhere(1, "1", "2")
        node.settle()
        self.assertEqual(client.messages, ["1", "2"])
        self.publish_elsewhere(2, "3")
        node.settle()
        self.assertEqual(client.messages, ["1", "2", "3"])

    def test_end(self) -> None:
        """After its end nothing is asked."""
        node = self.node()
        tail = self.shard(node).tail
        tail.end()
        self.publish_elsewhere(1, "x")
        count = len(self.broker.words("XREAD"))
        node.settle()
        self.assertEqual(len(self.broker.words("XREAD")), count)
