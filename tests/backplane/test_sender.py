"""Tests of wsrelay.backplane.sender, on a broker in memory."""

from tests.harness.backplane import BrokerTestCase
from wsrelay.backplane import entry
from wsrelay.backplane.entry import Entry
from wsrelay.message import Run


class SenderTests(BrokerTestCase):
    """Sending."""

    def entries(self) -> list[Entry]:
        """Return the entries of the stream with messages."""
        parsed = [entry.parse(fields) for _, fields in self.broker.log().entries]
        return [found for found in parsed if found.blob != entry.EMPTY]

    def counts(self) -> list[int]:
        """Return the number of messages in each entry."""
        return [sum(record.count for record in entry.unpack(found.blob)) for found in self.entries()]

    def test_one_entry_per_turn(self) -> None:
        """What is published in one turn of the reactor is one entry, of all rooms."""
        node = self.node()
        calls = len(self.clock.getDelayedCalls())
        for number in range(10):
            node.factory.backplane.publish(f"room{number % 3}", Run.text(f"{number}"))
            self.assertEqual(len(self.clock.getDelayedCalls()), calls + 1)
        self.assertEqual(self.entries(), [])
        node.settle()
        self.assertEqual(self.counts(), [10])

    def test_one_entry_in_flight(self) -> None:
        """While an entry is not acknowledged, what is published forms the next: seqs are contiguous."""
        node = self.node()
        self.broker.pause()
        for number in range(10):
            node.factory.backplane.publish("room", Run.text(f"{number}"))
            node.settle()
        self.assertEqual(len(self.broker.connections[0].waiting), 1)
        self.broker.resume()
        node.settle()
        self.assertEqual(self.counts(), [1, 9])
        seqs = [entry.parse(fields).seq for _, fields in self.broker.log().entries]
        self.assertEqual(seqs, list(range(1, len(seqs) + 1)))

    def test_entry_bytes(self) -> None:
        """An entry has 64 KiB of frames at most, or one message."""
        node = self.node()
        for size in (30_000, 30_000, 30_000, 200_000, 10):
            node.factory.backplane.publish("room", Run.text("x" * size))
        node.settle()
        self.assertEqual(self.counts(), [2, 1, 1, 1])

    def test_without_connection(self) -> None:
        """Without a connection messages wait, and heartbeats are not made up for."""
        node = self.node()
        self.broker.is_down = True
        self.broker.cut()
        node.settle()
        sent = self.shard(node)._sender.last_seq
        node.factory.backplane.publish("room", Run.text("hi"))
        node.wait(5)
        self.assertEqual(self.shard(node)._sender.last_seq, sent)
        self.broker.is_down = False
        node.wait(4)
        self.assertEqual(self.counts(), [1])

    def test_proof_behind_resent(self) -> None:
        """On new connections what is sent again comes first, then a new entry, which proves them."""
        node = self.node()
        self.broker.swallow("XADD")
        node.factory.backplane.publish("room", Run.text("hi"))
        node.settle()
        del self.broker.answers["XADD"]
        self.broker.cut()
        node.settle()
        node.wait(0.25)
        seqs = [entry.parse(fields).seq for _, fields in self.broker.log().entries]
        self.assertEqual(seqs, [1, 2, 2, 3])
        self.assertEqual((node.stats.backplane.resent, self.state(node).value), (1, "up"))

    def test_published_entries(self) -> None:
        """What the broker has acknowledged is counted."""
        node = self.node()
        before = node.stats.backplane.published_entries
        self.broker.pause()
        node.factory.backplane.publish("room", Run.text("hi"))
        node.settle()
        self.assertEqual(node.stats.backplane.published_entries, before)
        self.broker.resume()
        node.settle()
        self.assertEqual(node.stats.backplane.published_entries, before + 1)
