"""Tests of wsrelay.backplane.redis, on a broker in memory."""

import tempfile
import zlib
from pathlib import Path
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.backplane import BrokerTestCase
from tests.harness.fake_redis import FakeRedis
from tests.harness.http import ask, http_bytes
from wsrelay.backplane.redis import IDLE_SECONDS, configured, shard_of
from wsrelay.backplane.state import State
from wsrelay.errors import SettingsError
from wsrelay.message import Run
from wsrelay.names import PROBE_ROOM
from wsrelay.settings import Settings

#: With four shards: rooms in shards of their own, and the shards that the first two nodes probe.
ROOMS = {zlib.crc32(b"room%d" % number) % 4: f"room{number}" for number in range(20)}
HOMES = [shard_of(f"{number:016x}", 4) for number in (1, 2)]
OTHER_SHARD, ANOTHER_SHARD = [number for number in range(4) if number not in HOMES][:2]
FOUR = "redis://broker/?shards=4"


class ConfiguredTests(SynchronousTestCase):
    """The settings."""

    def test_configured(self) -> None:
        """Address and password are read, and hiredis is there."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "password")
        path.write_text("geheim\n")
        address, secret = configured(Settings(backplane="redis://a:7/2", backplane_password_file=str(path)))
        self.assertEqual((str(address), secret.reveal() if secret else b""), ("redis://a:7/2", b"geheim"))
        self.assertIs(configured(Settings(backplane="redis://a"))[1], None)

    def test_all_problems_at_once(self) -> None:
        """URL and password file are both named, with what to do; nothing of the URL is quoted."""
        error = self.assertRaises(
            SettingsError, configured, Settings(backplane="redis://:geheim@a", backplane_password_file="/nowhere")
        )
        url, file = error.problems
        self.assertRegex(url, "^backplane: .*--backplane-password-file")
        self.assertNotIn("geheim", url)
        self.assertEqual(file, "backplane_password_file: /nowhere: No such file or directory")

    def test_without_hiredis(self) -> None:
        """Without hiredis, the text says what to install."""
        with mock.patch.dict("sys.modules", {"hiredis": None}):
            error = self.assertRaises(SettingsError, configured, Settings(backplane="redis://a"))
        self.assertEqual(error.problems, ("backplane: hiredis is not installed: pip install 'wsrelay[redis]'",))


class ShardOfTests(SynchronousTestCase):
    """The shard of a room."""

    def test_shard_of(self) -> None:
        """It depends on the name only, and is written down: nodes of another version must agree."""
        names = ["", "a", "room1", "r\u00e4ume/1"]
        self.assertEqual([shard_of(name, 1024) for name in names], [0, 579, 554, 663])
        self.assertEqual([shard_of(name, 1) for name in names], [0] * 4)


class OneShardTests(BrokerTestCase):
    """One shard for all rooms."""

    def test_two_nodes(self) -> None:
        """A message reaches the members of its room on both nodes, and not its publisher."""
        one, two = self.nodes(2)
        a, b, c = one.client("/x"), one.client("/x"), two.client("/x")
        d = two.client("/y")
        a.say("hi")
        one.settle()

        self.assertEqual([self.state(node) for node in (one, two)], [State.UP, State.UP])
        self.assertEqual([client.messages for client in (a, b, c, d)], [[], ["hi"], ["hi"], []])

    def test_two_connections(self) -> None:
        """All rooms share two connections, which are named after the node."""
        self.node(node_name="n")
        self.assertEqual([connection.name for connection in self.broker.connections], [b"wsrelay-n"] * 2)

    def test_start_once(self) -> None:
        """Another port of the same relay opens nothing."""
        node = self.node()
        node.factory.backplane.start()
        node.settle()
        self.assertEqual(self.broker.open, 2)

    def test_password_file(self) -> None:
        """It is read at each connect: what is wrong with it is said, and a new one needs no restart."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "password")
        path.write_text("one\n")
        self.broker.password = b"one"
        node = self.node(backplane_password_file=str(path))
        path.unlink()
        self.broker.cut()
        node.wait(1)
        status = node.factory.backplane.status()
        self.assertEqual(status.state, "interrupted")
        self.assertRegex(status.problem, "password: No such file")
        self.assertEqual(node.stats.backplane.reconnects["auth"] > 0, True)
        path.write_text("two\n")
        self.broker.password = b"two"
        node.wait(3)
        self.assertEqual(node.factory.backplane.status().state, "up")

    def test_stop_twice(self) -> None:
        """A second stop has no effect."""
        node = self.node()
        for _ in range(2):
            stopped = Deferred.fromCoroutine(node.factory.backplane.stop())
            node.settle()
            self.successResultOf(stopped)

    def test_status(self) -> None:
        """The status has the state, why it does not deliver, what waits, and the nodes heard."""
        one = self.node(settled=False)
        status = one.factory.backplane.status()
        self.assertEqual(
            (status.state, status.problem, status.nodes), ("connecting", "not connected to the broker yet", 0)
        )
        one.settle()
        two = self.node()
        client = one.client()
        status = one.factory.backplane.status()
        self.assertEqual((status.state, status.problem, status.nodes, status.pending_bytes), ("up", "", 2, 0))
        self.assertEqual(status.lag_seconds, 0)

        self.broker.pause()
        client.say("x" * 100)
        one.settle()
        one.wait(1)
        status = one.factory.backplane.status()
        self.assertGreater(status.pending_bytes, 100)
        self.assertEqual((status.state, status.lag_seconds), ("up", 1))
        self.broker.resume()
        one.wait(1)
        self.assertEqual(one.factory.backplane.status().pending_bytes, 0)

        Deferred.fromCoroutine(two.factory.backplane.stop())
        one.wait(0.25)
        self.assertEqual((one.factory.backplane.status().nodes, two.factory.backplane.status().state), (1, "closed"))

    def test_stopped(self) -> None:
        """After the stop nothing connects."""
        node = self.node(backplane=FOUR)
        stopped = Deferred.fromCoroutine(node.factory.backplane.stop())
        node.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.broker.open, 0)
        for room in ROOMS.values():
            node.factory.backplane.publish(room, Run.text(b"hi"))
        node.wait(5)
        self.assertEqual(self.broker.open, 0)

    def test_start_again(self) -> None:
        """After a stop it can be started again, as a service can."""
        one, two = self.nodes(2)
        Deferred.fromCoroutine(one.factory.backplane.stop())
        one.settle()
        one.factory.backplane.start()
        one.settle()
        a, b = one.client(), two.client()
        a.say("hi")
        b.say("ho")
        one.settle()
        self.assertEqual((a.messages, b.messages), (["ho"], ["hi"]))


class ShardsTests(BrokerTestCase):
    """Rooms over several shards."""

    def open_shards(self, node: object) -> list[int]:
        """Return the numbers of the open shards of a node."""
        return sorted(node.factory.backplane._shards)  # type: ignore[attr-defined]

    def test_opened_on_enter(self) -> None:
        """A shard is opened with its first member, who waits until it is up; others are not read."""
        node = self.node(backplane=FOUR)
        self.assertEqual(self.open_shards(node), [HOMES[0]])
        self.broker.pause()
        client = node.client("/" + ROOMS[OTHER_SHARD])
        self.assertEqual((client.open, self.open_shards(node)), (False, sorted([HOMES[0], OTHER_SHARD])))
        self.broker.resume()
        node.settle()
        self.assertTrue(client.open)
        self.assertEqual(self.broker.open, 4)

    def test_streams(self) -> None:
        """Messages are in the stream of their room's shard only, and reach the other node."""
        one, two = self.nodes(2, backplane=FOUR)
        clients = {number: [node.client("/" + room) for node in (one, two)] for number, room in ROOMS.items()}
        for number, (a, _) in clients.items():
            a.say(f"to {number}")
        one.settle()
        for number, (_, b) in clients.items():
            self.assertEqual(b.messages, [f"to {number}"])
            blobs = b"".join(fields[5] for _, fields in self.broker.log(number).entries)
            self.assertEqual([f"to {other}".encode() in blobs for other in ROOMS], [other == number for other in ROOMS])

    def test_closed_when_idle(self) -> None:
        """A shard without members is closed after a minute, and opened again; the probe's stays."""
        one, two = self.nodes(2, backplane=FOUR)
        room = ROOMS[OTHER_SHARD]
        listener, client = two.client("/" + room), one.client("/" + room)
        client.say("before")
        one.wait(IDLE_SECONDS)
        self.assertIn(OTHER_SHARD, self.open_shards(one))
        client.sendClose(1000)
        one.wait(2 * IDLE_SECONDS)
        self.assertEqual((self.open_shards(one), self.open_shards(two)), ([HOMES[0]], sorted([HOMES[1], OTHER_SHARD])))
        self.assertEqual(self.broker.open, 6)

        client = one.client("/" + room)
        client.say("after")
        listener.say("back")
        one.settle()
        self.assertEqual((listener.messages, client.messages), (["before", "after"], ["back"]))
        self.assertEqual((one.stats.backplane.gaps, two.stats.backplane.gaps), (0, 0))

    def test_idle_with_messages(self) -> None:
        """A shard is not closed before its messages are with the broker."""
        node = self.node(backplane=FOUR, http=True)
        self.broker.refusals["XADD"] = "OOM full"
        node.factory.backplane.publish(ROOMS[OTHER_SHARD], Run.text(b"hi"))
        node.wait(3 * IDLE_SECONDS)
        self.assertIn(OTHER_SHARD, self.open_shards(node))
        del self.broker.refusals["XADD"]
        node.wait(3 * IDLE_SECONDS)
        self.assertNotIn(OTHER_SHARD, self.open_shards(node))
        self.assertIn(b"hi", b"".join(fields[5] for _, fields in self.broker.log(OTHER_SHARD).entries))

    def test_outage_of_one(self) -> None:
        """With several brokers, the loss of one concerns its own shards: their members are closed, others not."""
        other = FakeRedis(self.clock, 6380)
        self.pumps.append(other)
        node = self.node(backplane="redis://a:6379,b:6380/?shards=4", backplane_grace_seconds=5.0)
        clients = {number: node.client("/" + room) for number, room in ROOMS.items()}
        self.assertEqual((self.broker.open, other.open), (4, 4))
        other.is_down = True
        other.cut()
        node.wait(7)
        self.assertEqual(
            {number: client.open for number, client in clients.items()}, {0: True, 1: False, 2: True, 3: False}
        )
        # Else one broker would make every node unready. The readiness probe takes a shard that is up.
        self.assertEqual(node.factory.backplane.status().problem, "")
        self.assertEqual(node.factory.backplane.enter(PROBE_ROOM), None)
        self.assertEqual((node.factory.backplane.status().state, node.client("/" + ROOMS[1]).status), ("down", 503))
        self.assertTrue(node.client("/" + ROOMS[0]).open)

    def test_congestion_of_one(self) -> None:
        """Publishers of a congested shard are held, others are not."""
        other = FakeRedis(self.clock, 6380)
        self.pumps.append(other)
        node = self.node(
            backplane="redis://a:6379,b:6380/?shards=4", backplane_pending_bytes=1000, backplane_grace_seconds=60.0
        )
        slow, fast, listener = node.client("/" + ROOMS[1]), node.client("/" + ROOMS[0]), node.client("/" + ROOMS[0])
        other.pause()
        for number in range(8):
            slow.say(f"{number}" * 300)
            node.settle()
            fast.say(f"{number}")
            node.settle()
        self.assertTrue(node.factory.congested)
        self.assertEqual((slow.server.flow.held > 0, fast.server.flow.held), (True, 0))
        self.assertEqual(listener.messages, [f"{number}" for number in range(8)])
        self.assertLess(self.shard(node, 1).outbox.pending_bytes, 2000)
        other.resume()
        node.wait(1)
        self.assertEqual((node.factory.congested, slow.server.flow.held), (False, 0))
        self.assertEqual(slow.server.member.messages_in, 8)

    def test_post(self) -> None:
        """A POST to a room whose shard is not open here waits for it, and reaches the other node."""
        one, two = self.nodes(2, backplane=FOUR, http=True)
        listener = two.client("/" + ROOMS[ANOTHER_SHARD])
        response = ask(one, http_bytes(f"POST /{ROOMS[ANOTHER_SHARD]}", b"hi", {"Content-Type": "text/plain"}))
        one.settle()
        self.assertEqual((response.status, listener.messages), (202, ["hi"]))
