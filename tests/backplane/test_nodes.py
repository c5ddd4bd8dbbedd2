"""Tests of wsrelay.backplane.nodes, on a broker in memory."""

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from tests.harness.backplane import BrokerTestCase
from tests.harness.support import Relay
from wsrelay import __version__
from wsrelay.backplane.nodes import ANSWER_SECONDS, DESCRIBE_SECONDS, KEPT_SECONDS, LISTED_SECONDS, PRUNE_ROUNDS
from wsrelay.stats import NodeStatus

KEY = b"wsrelay:{0}:nodes"


class NodesTests(BrokerTestCase):
    """The list of nodes."""

    def read(self, node: Relay) -> list[NodeStatus]:
        """Return the list, as a node sees it, in the order of names."""
        reading = Deferred.fromCoroutine(node.factory.backplane.nodes())
        node.settle()
        return sorted(self.successResultOf(reading), key=lambda found: found.name)

    def names(self, node: Relay) -> list[str]:
        """Return the names in the list."""
        return [found.name for found in self.read(node)]

    def test_two_nodes(self) -> None:
        """Each node has described itself, and sees the other one."""
        one, two = self.nodes(2)
        clients = [one.client("/a"), one.client("/a"), one.client("/b")]
        one.wait(DESCRIBE_SECONDS)
        first, second = self.read(two)

        self.assertEqual((first.name, second.name), ("node0", "node1"))
        self.assertEqual((first.id, second.id), (one.factory.node_id, two.factory.node_id))
        self.assertEqual((first.connections, first.rooms, first.version), (len(clients), 2, __version__))
        self.assertEqual((first.since, first.lag_seconds), (1_000_000.0, 0.0))
        self.assertLessEqual(first.seen_seconds_ago, 2)
        self.assertEqual(second.seen_seconds_ago, 0)
        self.assertEqual(self.names(one), ["node0", "node1"])

    def test_itself(self) -> None:
        """A node lists itself as it is now, also before it has described itself, and without a broker."""
        self.broker.is_down = True
        node = self.node(node_name="me")
        [found] = self.read(node)
        self.assertEqual((found.name, found.connections), ("me", 0))
        self.broker.is_down = False
        node.wait(3)
        node.client()
        [found] = self.read(node)
        self.assertEqual((found.connections, found.seen_seconds_ago), (1, 0))

    def test_host_name(self) -> None:
        """Without --node-name a node has its host's name."""
        node = self.node()
        self.patch_host("relay-7")
        self.assertEqual(self.names(node), ["relay-7"])

    def patch_host(self, name: str) -> None:
        """Give this host a name."""
        from wsrelay import factory  # noqa: PLC0415

        self.patch(factory.socket, "gethostname", lambda: name)

    def test_silent_node(self) -> None:
        """A node that has said nothing for ten seconds is left out, and removed from the hash after a minute."""
        one, two = self.nodes(2)
        one.wait(DESCRIBE_SECONDS)
        self.shard(two).close()
        one.wait(LISTED_SECONDS - 1)
        self.assertEqual(self.names(one), ["node0", "node1"])
        one.wait(2)
        self.assertEqual(self.names(one), ["node0"])
        self.assertEqual(len(self.broker.hashes[KEY]), 2)
        one.wait(KEPT_SECONDS)
        self.assertEqual(self.names(one), ["node0"])
        self.assertEqual(list(self.broker.hashes[KEY]), [one.factory.node_id.encode()])

    def test_killed_node(self) -> None:
        """The description of a node that was killed is removed, also if nobody asks for the list."""
        one, two = self.nodes(2)
        one.wait(DESCRIBE_SECONDS)
        self.shard(two).close()
        one.wait(2 * PRUNE_ROUNDS * DESCRIBE_SECONDS + 1)
        self.assertEqual(list(self.broker.hashes[KEY]), [one.factory.node_id.encode()])

    def test_stop(self) -> None:
        """A node that stops leaves the list at once."""
        one, two = self.nodes(2)
        one.wait(DESCRIBE_SECONDS)
        Deferred.fromCoroutine(two.factory.backplane.stop())
        one.settle()
        self.assertEqual(list(self.broker.hashes[KEY]), [one.factory.node_id.encode()])

    def test_foreign_values(self) -> None:
        """What is no description is removed, and does not disturb; fields of a newer version are ignored."""
        node = self.node()
        node.wait(DESCRIBE_SECONDS)
        known = json.loads(self.broker.hashes[KEY][node.factory.node_id.encode()])
        newer = known | {"node": known["node"] | {"id": "n", "name": "newer", "colour": "red"}, "more": 1}
        wrong: list[Any] = [1, [], {}, {"node": {}, "at": 1}, known | {"at": "x"}, known | {"node": 1}]
        texts = [b"", b"\xff", b"{", *(json.dumps(value).encode() for value in wrong)]
        self.broker.hashes[KEY] |= {b"%d" % number: text for number, text in enumerate(texts)}
        self.broker.hashes[KEY][b"n"] = json.dumps(newer).encode()

        self.assertEqual(self.names(node), sorted([node.factory.describe().name, "newer"]))
        self.assertEqual(set(self.broker.hashes[KEY]), {b"n", node.factory.node_id.encode()})

    def test_of_the_future(self) -> None:
        """After the broker's clock went back, a description is not of the future."""
        one, two = self.nodes(2)
        one.wait(DESCRIBE_SECONDS)
        key = two.factory.node_id.encode()
        ahead = json.loads(self.broker.hashes[KEY][key])
        self.broker.hashes[KEY][key] = json.dumps(ahead | {"at": ahead["at"] + 60_000}).encode()
        self.assertEqual([found.seen_seconds_ago for found in self.read(one)], [0, 0])

    def test_refused(self) -> None:
        """A broker that refuses the hash costs the list of the others, and nothing else."""
        one, _ = self.nodes(2)
        one.wait(DESCRIBE_SECONDS)
        self.broker.refusals |= {"HGETALL": "NOPERM no", "HSET": "NOPERM no"}
        self.assertEqual(self.names(one), ["node0"])
        one.wait(5)
        self.assertEqual(dict(one.stats.backplane.reconnects), {})
        self.assertEqual(len([line for line in self.logged(LogLevel.warn) if "cannot list this one" in line]), 2)

    def test_no_answer(self) -> None:
        """A broker that does not answer holds up the list for a second."""
        one, _ = self.nodes(2)
        one.wait(DESCRIBE_SECONDS)
        self.broker.pause()
        reading = Deferred.fromCoroutine(one.factory.backplane.nodes())
        one.settle()
        self.assertNoResult(reading)
        one.wait(ANSWER_SECONDS)
        self.assertEqual([found.name for found in self.successResultOf(reading)], ["node0"])
        self.broker.resume()
        one.wait(1)
        self.assertEqual(self.names(one), ["node0", "node1"])

    def test_shards(self) -> None:
        """With several shards a node lists those that read one of its own, each once, with its newest description."""
        one, two = self.nodes(2, backplane="redis://broker/?shards=4")
        one.wait(DESCRIBE_SECONDS)
        self.assertEqual(self.names(one), ["node0"])
        for room in ("/room1", "/room2", "/room3", "/room4", "/room5"):
            one.client(room)
            two.client(room)
        one.wait(DESCRIBE_SECONDS)
        first, second = self.read(one)
        self.assertEqual((first.name, second.name, second.connections), ("node0", "node1", 5))

    def test_start_once(self) -> None:
        """Its end may come twice, or without a start."""
        node = self.node()
        nodes = node.factory.backplane._nodes
        nodes.stop()
        nodes.stop()
        count = len(self.broker.words("HSET"))
        node.wait(5)
        self.assertEqual(len(self.broker.words("HSET")), count)

    def test_other_number_of_shards(self) -> None:
        """Nodes that spread rooms over other shards would not meet: that is logged once for each."""
        one, two = self.node(node_name="one"), self.node(node_name="two", backplane="redis://broker?shards=4")
        one.client("/a")
        for room in ("/a", "/b", "/c", "/d", "/e", "/f"):
            two.client(room)
        one.wait(DESCRIBE_SECONDS)
        self.read(one)
        self.read(one)
        expected = "backplane: node two has ?shards=4, and this one 1: rooms are split; give all the same"
        self.assertEqual(self.logged(LogLevel.error), [expected])
