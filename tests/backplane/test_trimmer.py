"""Tests of wsrelay.backplane.trimmer, on a broker in memory."""

from unittest import mock

from twisted.internet.defer import Deferred

from tests.harness.backplane import BrokerTestCase
from tests.harness.support import Relay
from wsrelay.backplane.trimmer import KEPT_SECONDS, UNTRIMMED_SECONDS

LOST = (1013, "messages were lost: reconnect and fetch the state again")


class TrimTests(BrokerTestCase):
    """The stream stays within its bounds."""

    def test_by_age(self) -> None:
        """Entries are kept for the grace and 45 s more."""
        node = self.node(backplane_grace_seconds=5.0)
        node.wait(200)
        first, last = (self.broker.log().entries[at][0].ms / 1000 for at in (0, -1))
        self.assertTrue(5 + KEPT_SECONDS <= last - first <= 5 + KEPT_SECONDS + 10, last - first)

    def test_by_bytes(self) -> None:
        """Beyond --backplane-log-bytes, the oldest are dropped; the last entries stay."""
        node = self.node(backplane_log_bytes=1_000_000, max_message_bytes=100_000)
        client = node.client()
        for _ in range(60):
            client.say("x" * 60_000)
            node.wait(0.1)
        node.wait(2)
        size = sum(len(fields[5]) for _, fields in self.broker.log().entries)
        self.assertTrue(500_000 < size < 1_500_000, size)

    def test_refused(self) -> None:
        """A broker that refuses to trim is given up."""
        node = self.node()
        self.broker.refusals["XTRIM"] = "NOPERM this user has no permissions to run the 'xtrim' command"
        node.wait(UNTRIMMED_SECONDS + 1)
        self.assertEqual(node.stats.backplane.reconnects["noperm"] > 0, True)

    def test_once_a_second(self) -> None:
        """Trimming, and forgetting of silent nodes, is done once a second, and only once it is up for a while."""
        node = self.node()
        before = len(self.broker.words("XTRIM"))
        node.wait(UNTRIMMED_SECONDS - 1)
        self.assertEqual(len(self.broker.words("XTRIM")), before)
        node.wait(1)
        inbox = self.shard(node).tail.inbox
        before = len(self.broker.words("XTRIM"))
        with mock.patch.object(type(inbox), "forget", autospec=True) as forget:
            node.wait(10)
        self.assertEqual((len(self.broker.words("XTRIM")) - before, forget.call_count), (10, 10))
        forget.assert_called_with(inbox, self.clock.seconds())
        self.broker.is_down = True
        self.broker.cut()
        node.settle()
        before = len(self.broker.words("XTRIM"))
        node.wait(5)
        self.assertEqual(len(self.broker.words("XTRIM")), before)

    def test_trimmed_too_far(self) -> None:
        """A node that is behind what another has trimmed sees a gap."""
        one, two = self.nodes(backplane_grace_seconds=60.0)
        a, b = one.client(), two.client()
        a.say("1")
        one.settle()
        with mock.patch.object(self.shard(two), "_connect", Deferred):
            for connection in self.broker.connections[2:]:
                connection.transport.loseConnection()
            one.wait(1)
            a.say("2")
            one.settle()
            self.broker.log().entries.clear()
            a.say("3")
            one.settle()
            self.shard(two)._opening.cancel()
        self.flushLoggedErrors()
        one.wait(5)
        self.assertEqual((b.closed, two.stats.backplane.gaps), (LOST, 1))
        self.assertTrue(a.open)


class HistoryTests(BrokerTestCase):
    """How long the stream is kept."""

    def span(self, node: Relay) -> float:
        """Return the seconds that the stream spans after some time."""
        node.wait(400)
        first, last = (self.broker.log().entries[at][0].ms / 1000 for at in (0, -1))
        return last - first

    def epochs(self, *nodes: Relay) -> list[str]:
        """Return the epoch of each node."""
        return [node.factory.hub.histories.at("room").epoch for node in nodes]

    def test_history_seconds(self) -> None:
        """Entries are kept as long as histories."""
        span = self.span(self.node(history=("room=1",), history_seconds=200.0))
        self.assertTrue(200 <= span <= 215, span)

    def test_without_limit(self) -> None:
        """Without a limit on ages only bytes count."""
        self.assertGreater(self.span(self.node(history=("room=1",), history_seconds=0.0)), 395)

    def test_not_at_once(self) -> None:
        """After an outage, nothing is trimmed before all nodes have found their entries."""
        one, two = self.nodes(history=("room=1",), history_seconds=20.0, backplane_grace_seconds=1.0)
        one.wait(70)
        before = self.epochs(one, two)
        self.broker.is_down = True
        self.broker.cut()
        one.wait(100)
        self.broker.is_down = False
        one.wait(UNTRIMMED_SECONDS - 1)
        self.assertEqual(self.epochs(one, two), before)
