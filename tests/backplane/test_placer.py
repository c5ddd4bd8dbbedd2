"""Tests of wsrelay.backplane.placer, on a broker in memory: ids, warm-up, losses."""

import itertools
from typing import Any

from tests.harness.backplane import BrokerTestCase
from tests.harness.http import ask, http_bytes
from tests.harness.support import Client, Relay
from wsrelay.backplane.entry import Entry, Record, pack
from wsrelay.backplane.waiting import AHEAD_SECONDS
from wsrelay.message import Run
from wsrelay.message_id import MessageId, epoch_of
from wsrelay.names import PROBE_ROOM
from wsrelay.wire.frames import TEXT, encode

GONE = 4410
EPOCH = epoch_of(1000)


class HistoryTestCase(BrokerTestCase):
    """Nodes whose room "room" has a history."""

    def node(self, **settings: Any) -> Relay:
        """Return a node."""
        return super().node(**{"http": True, "history": ("room=100",), "slow_policy": ("latest",), **settings})

    def read(self, node: Relay, query: str = "last=100") -> Any:
        """Return what a node tells of the room."""
        return ask(node, http_bytes(f"GET /room?{query}", fields={"Accept": "application/json"})).json

    def texts(self, node: Relay) -> list[str]:
        """Return the texts of the room's history."""
        return [message["text"] for message in self.read(node)["messages"]]

    def at(self, node: Relay) -> MessageId:
        """Return the room's position."""
        return MessageId.parse(self.read(node)["at"])

    def returned(self, node: Relay, since: MessageId) -> Client:
        """Return a client that comes back with an id."""
        client = node.client(f"/room?since={since}")
        node.settle()
        return client


class IdTests(HistoryTestCase):
    """Ids and places."""

    def test_index(self) -> None:
        """The index counts all messages of the entry, those of other rooms included."""
        text = [encode(TEXT, b"%d" % number) for number in range(6)]
        node = self.node()
        runs = [("else", text[0] + text[1], 2), ("room", text[2] + text[3], 2), ("x", text[4], 1), ("room", text[5], 1)]
        blob = pack([Record(*run) for run in runs])
        identity = self.broker.add(Entry("other", 1, blob).fields()).decode()
        node.settle()
        ids = [MessageId.parse(message["id"]).place for message in self.read(node)["messages"]]
        entry = tuple(map(int, identity.split("-")))
        self.assertEqual(ids, [(*entry, 2), (*entry, 3), (*entry, 5)])
        self.assertEqual(dict(node.stats.backplane.read_messages), {"yes": 3, "no": 3})

    def test_own_index(self) -> None:
        """The same for own entries."""
        one, other = self.nodes()
        for room in ("else", "room", "else", "room"):
            one.factory.backplane.publish(room, Run.text(room))
        one.settle()
        messages = self.read(one)["messages"]
        self.assertEqual(messages, self.read(other)["messages"])
        self.assertEqual([MessageId.parse(message["id"]).place[2] for message in messages], [1, 3])

    def test_at(self) -> None:
        """The position goes on with the stream, also where the room has no messages."""
        node = self.node()
        before = self.at(node)
        node.wait(2)
        self.assertLess(before, self.at(node))
        self.assertEqual(self.returned(node, before).closed, None)

    def test_no_room(self) -> None:
        """Messages to rooms without history go to members only; those to the readiness probe only if they are own."""
        node = self.node(history=("room=100", "**=1"))
        plain = self.node(history=("room=100",)).client("/plain")
        self.publish_elsewhere(1, "hi", room="plain")
        self.publish_elsewhere(2, "hi", room=PROBE_ROOM)
        node.settle()
        self.assertEqual((plain.messages, sorted(node.factory.hub._idle.rooms)), (["hi"], ["plain"]))


class WarmUpTests(HistoryTestCase):
    """A node that reads a stream for the first time."""

    def test_warm_up(self) -> None:
        """What the stream has is in the history, once, and not given to those who want only what is new."""
        for seq in (3, 4, 4, 3, 5):
            self.publish_elsewhere(seq, f"{seq}", epoch=EPOCH)
        node = self.node()
        client = node.client()
        self.publish_elsewhere(6, "6", epoch=EPOCH)
        node.settle()
        self.assertEqual((self.texts(node), client.messages), (["3", "4", "5", "6"], ["6"]))
        self.assertEqual((self.at(node).epoch, node.stats.backplane.gaps), (EPOCH, 0))

    def test_begin(self) -> None:
        """Ids from before the stream's first entry are gone."""
        self.clock.advance(1)
        self.publish_elsewhere(3, "3", epoch=EPOCH)
        node = self.node()
        [first] = [MessageId.parse(message["id"]) for message in self.read(node)["messages"]]
        self.assertEqual(self.returned(node, first).closed, None)
        before = MessageId(EPOCH, (first.place[0] - 1, 0))
        self.assertEqual(self.returned(node, before).closed[0], GONE)

    def test_hole(self) -> None:
        """What lies before a missing entry is not known."""
        self.publish_elsewhere(3, "3", epoch=EPOCH)
        self.clock.advance(1)
        self.publish_elsewhere(5, "5", epoch=EPOCH)
        node = self.node()
        self.assertEqual(self.texts(node), ["5"])
        place = (int(self.broker.log().entries[0][0].ms), 0, 0)
        self.assertEqual(self.returned(node, MessageId(EPOCH, place)).closed[0], GONE)

    def test_age(self) -> None:
        """Messages are as old as the broker says."""
        self.clock.advance(100)
        self.publish_elsewhere(1, "old")
        self.clock.advance(30)
        self.publish_elsewhere(2, "new")
        node = self.node(history_seconds=40.0)
        self.assertEqual(self.texts(node), ["old", "new"])
        node.wait(15)
        self.assertEqual(self.texts(node), ["new"])

    def test_stream_without_epochs(self) -> None:
        """A stream of nodes without history gets an epoch once it is read."""
        self.publish_elsewhere(1, "old")
        one, two = self.node(), self.node()
        one.wait(2)
        self.assertEqual((self.texts(one), self.texts(two)), (["old"], ["old"]))
        self.assertEqual(self.at(one).epoch, self.at(two).epoch)

    def test_two_at_once(self) -> None:
        """Nodes that start at the same time take the larger epoch."""
        nodes = [super(HistoryTestCase, self).node(settled=False, history=("**=9",), http=True) for _ in range(3)]
        nodes[0].settle()
        nodes[0].wait(2)
        self.assertEqual(len({self.at(node).epoch for node in nodes}), 1)

    def test_lost_before_the_start(self) -> None:
        """What was published before the start, lost and sent again goes to histories, and to no other room."""
        self.clock.advance(100)
        node = self.node()
        plain = node.client("/plain")
        node.wait(20)
        self.publish_elsewhere(7, "before", age=30.0)
        self.publish_elsewhere(8, "before", age=29.0, room="plain")
        self.publish_elsewhere(9, "new", room="plain")
        node.settle()
        self.assertEqual((self.texts(node), plain.messages), (["before"], ["new"]))

    def test_hole_before_the_start(self) -> None:
        """Where some of that is missing, members of rooms with history are told; others are not owed it."""
        self.publish_elsewhere(6, "known")
        self.clock.advance(100)
        node = self.node(slow_policy=("disconnect",))
        client, plain = node.client(), node.client("/plain")
        node.wait(20)
        self.publish_elsewhere(8, "before", age=30.0)
        node.settle()
        self.assertEqual((client.closed[0], plain.closed, self.texts(node)), (1013, None, ["before"]))

    def test_after_an_outage(self) -> None:
        """After an outage that its members did not survive, a node reads all anew; own messages have their ids."""
        one, two = self.nodes(backplane_grace_seconds=1.0)
        two.factory.backplane.publish("room", Run.text("1"))
        one.settle()
        self.broker.blind()
        one.wait(1.5)
        for room in ("plain", "room"):
            one.factory.backplane.publish(room, Run.text("2"))
        one.settle()
        self.broker.is_down = True
        self.broker.cut()
        one.settle()
        one.factory.backplane.publish("room", Run.text("3"))
        one.wait(5)
        self.broker.is_down = False
        del self.broker.answers["XREAD"]
        one.wait(5)
        self.assertEqual((self.texts(one), self.texts(two)), (["1", "2", "3"],) * 2)
        self.assertEqual(self.read(one)["messages"], self.read(two)["messages"])

    def test_unused_shard(self) -> None:
        """A shard without members is closed with the histories of its rooms; when it is opened again, it reads all."""
        node = self.node(backplane="redis://broker/?shards=64")
        publisher = node.client()
        publisher.say("1")
        node.settle()
        publisher.sendClose(1000)
        node.settle()
        self.assertIn("room", node.factory.hub._idle.rooms)
        node.wait(150)
        self.assertNotIn("room", node.factory.hub._idle.rooms)
        self.assertEqual(len(node.factory.backplane._shards), 1)
        client = node.client("/room?last=5")
        node.settle()
        self.assertEqual(client.messages, ["1"])


class LossTests(HistoryTestCase):
    """Losses, and outages without a loss."""

    def two(self, **settings: Any) -> tuple[Relay, Relay, Client, MessageId]:
        """Return two nodes, a publisher on the first one, and the id of its first of three messages."""
        one, two = self.nodes(**settings)
        publisher = one.client()
        for text in "123":
            publisher.say(text)
            one.wait(1)
        return one, two, publisher, MessageId.parse(self.read(one)["messages"][0]["id"])

    def test_restart(self) -> None:
        """A restart that loses nothing changes no id: clients go on, on any node."""
        one, two, publisher, first = self.two()
        self.broker.restart()
        publisher.say("4")
        one.wait(3)
        self.assertEqual([self.returned(node, first).messages for node in (one, two)], [["2", "3", "4"]] * 2)

    def test_lost_tail(self) -> None:
        """A lost tail is told; afterwards ids of the new epoch serve on any node."""
        one, two, publisher, first = self.two()
        self.broker.restart(lose=2)
        one.wait(4)
        self.assertEqual([self.returned(node, first).closed[0] for node in (one, two)], [GONE] * 2)
        self.assertEqual(self.at(one).epoch, self.at(two).epoch)
        at = self.at(one)
        self.assertGreater(at.epoch, first.epoch)
        publisher.say("4")
        one.wait(1)
        self.assertEqual([self.returned(node, at).messages for node in (one, two)], [["4"]] * 2)
        self.assertEqual((self.texts(one), self.texts(two)), (["1", "2", "3", "4"],) * 2)

    def test_lost_all(self) -> None:
        """A broker that starts empty: the same."""
        one, two, publisher, first = self.two()
        self.broker.restart(lose=None)
        one.wait(4)
        self.assertEqual([self.returned(node, first).closed[0] for node in (one, two)], [GONE] * 2)
        at = self.at(two)
        publisher.say("4")
        one.wait(1)
        self.assertEqual([self.returned(node, at).messages for node in (one, two)], [["4"]] * 2)

    def test_another_server(self) -> None:
        """Another server is taken for a loss, as the old one may have gone on."""
        one, two, _, first = self.two()
        for node in (one, two):
            self.shard(node)._served_by = "elsewhere:6379"
        self.broker.restart()
        one.wait(3)
        self.assertEqual([self.returned(node, first).closed[0] for node in (one, two)], [GONE] * 2)
        self.assertEqual(self.at(one).epoch, self.at(two).epoch)

    def test_backlog(self) -> None:
        """What was read before a loss is delivered in the old epoch, before the new one begins."""
        one, two, publisher, _ = self.two()
        tail, later, seen = self.shard(two).tail, self.clock.callLater, list[MessageId]()
        publish, two.factory.busy_clock = two.factory.hub.publish, itertools.count().__next__  # stretches are short
        self.patch(
            self.clock,
            "callLater",
            lambda seconds, call, *words: later(5.0 if call == tail._deliver else seconds, call, *words),
        )
        two.factory.hub.publish = lambda room, run: (seen.append(run.id), publish(room, run))
        for text in "456":
            publisher.say(text)
            one.settle()
        self.assertTrue(tail.is_behind)
        self.broker.restart(lose=3)
        one.wait(3)
        self.assertEqual((self.shard(two).state.value, tail.is_behind), ("interrupted", True))
        two.factory.busy_clock = lambda: 0.0
        one.wait(10)
        self.assertEqual(self.texts(two), ["1", "2", "3", "4", "5", "6"])
        self.assertEqual([place.epoch == seen[0].epoch for place in seen], [True, True, False])
        self.assertEqual(seen, sorted(seen))

    def test_outage_of_members(self) -> None:
        """After a loss in an outage that no member survived, all is read anew in a new epoch."""
        one, two, _, first = self.two(backplane_grace_seconds=1.0)
        self.broker.is_down = True
        self.broker.restart(lose=1)
        one.wait(5)
        self.broker.is_down = False
        one.wait(5)
        self.assertGreater(self.at(one).epoch, first.epoch)
        self.assertEqual(self.at(one).epoch, self.at(two).epoch)
        self.assertEqual((self.texts(one), self.texts(two)), (["1", "2", "3"],) * 2)

    def test_gap(self) -> None:
        """At a gap rooms forget what was before; ids from before are gone, also in rooms that are not open."""
        node = self.node(history=("**=10",))
        self.publish_elsewhere(1, "1")
        node.settle()
        before = self.at(node)
        self.clock.advance(0.25)
        self.publish_elsewhere(3, "3")
        node.settle()
        self.assertEqual((self.texts(node), self.returned(node, before).closed[0]), (["3"], GONE))
        self.assertEqual(node.client(f"/other?since={before}").closed[0], GONE)

    def test_broken_delivery(self) -> None:
        """An entry that cannot be delivered is a gap."""
        node = self.node()
        self.publish_elsewhere(1, "1")
        node.settle()
        before = self.at(node)
        self.broker.add(["n", "other", "s", 2, "m", b"\xc1"])
        node.settle()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual((self.texts(node), self.returned(node, before).closed[0]), ([], GONE))

    def test_behind(self) -> None:
        """A client that knows more than its new node waits until that has it, for two seconds at most."""
        one, two, publisher, _ = self.two()
        reader = self.broker.connections[3]  # of the second node
        wake, reader.wake = reader.wake, lambda: None
        publisher.say("4")
        one.settle()
        newest = self.at(one)
        client = two.client(f"/room?since={newest}")
        self.assertFalse(client.open)
        reader.wake = wake
        two.wait(0.25)
        publisher.say("5")
        two.settle()
        self.assertEqual((client.open, client.messages), (True, ["5"]))
        later = MessageId(newest.epoch, (newest.place[0] + 100_000, 0, 0))
        client = two.client(f"/room?since={later}")
        two.wait(AHEAD_SECONDS - 1)
        self.assertFalse(client.open)
        two.wait(1.5)
        self.assertEqual(client.closed[0], GONE)

    def test_silent_node(self) -> None:
        """A node that is gone is not awaited for longer than the grace."""
        one, two, *_ = self.two(backplane_grace_seconds=5.0)
        self.shard(two)._end_pair()
        self.shard(two)._ticking.stop()
        self.publish_elsewhere(1, "x")
        one.wait(0.25)
        self.broker.restart(lose=1)
        one.wait(2)
        self.assertTrue(self.shard(one)._epochs._owed)
        one.wait(6)
        self.assertEqual(self.shard(one)._epochs.stamp, self.at(one).epoch)

    def test_stamps(self) -> None:
        """All entries carry the epoch, repeats the one of now."""
        one, *_ = self.two()
        epochs = {bytes(fields[-1]) for _, fields in self.broker.log().entries if b"e" in fields}
        self.assertEqual(epochs, {self.at(one).epoch.encode()})
        self.broker.restart(lose=2)
        one.wait(4)
        newest = self.broker.log().entries[-1][1]
        self.assertGreater(newest[-1], min(epochs))
