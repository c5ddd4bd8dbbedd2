"""Tests of wsrelay.backplane.shard, on a broker in memory: states, outages, losses of the broker, and the end."""

from unittest import mock

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tests.harness.backplane import BrokerTestCase
from tests.harness.fake_redis import Error
from tests.harness.http import ask, http_bytes
from tests.harness.support import Answer, Client, Relay, request_bytes
from wsrelay.backplane.redis_errors import NoBroker
from wsrelay.backplane.shard import READ_BACK_SECONDS, REPLY_SECONDS, RETRY_SECONDS, STOP_SECONDS
from wsrelay.backplane.state import State
from wsrelay.errors import BackplaneDown
from wsrelay.grant import Grant
from wsrelay.message import Run

NO_BROKER = (1013, "no broker: try again later")
LOST = (1013, "messages were lost: reconnect and fetch the state again")


class ShardTestCase(BrokerTestCase):
    """Two nodes with a client each in one room."""

    def pair(self, **settings: object) -> tuple[Relay, Relay, Client, Client]:
        """Return two nodes, and a client on each."""
        one, two = self.nodes(2, **settings)
        return one, two, one.client(), two.client()

    def problem(self, node: Relay) -> str:
        """Return why the shard of a node does not deliver."""
        return self.shard(node).problem

    def reasons(self, node: Relay) -> dict[str, int]:
        """Return the counted reasons of lost connections."""
        return dict(node.stats.backplane.reconnects)


class ConnectingTests(ShardTestCase):
    """From the start to the first message that comes back."""

    def test_wait(self) -> None:
        """Handshakes wait until the shard is up, and are opened in their order."""
        node = self.node(settled=False)
        self.broker.pause()
        clients = [node.client(), node.client()]
        self.assertEqual((self.state(node), [client.open for client in clients]), (State.CONNECTING, [False] * 2))
        self.broker.resume()
        node.settle()
        self.assertEqual((self.state(node), [client.open for client in clients]), (State.UP, [True] * 2))

    def test_wait_too_long(self) -> None:
        """A handshake waits within validate_seconds, then it is refused with 504."""
        node = self.node(settled=False, validate_seconds=1.0)
        self.broker.pause()
        client = node.client()
        node.wait(2)
        self.assertEqual(client.status, 504)
        self.broker.resume()
        node.settle()
        self.assertEqual(self.state(node), State.UP)

    def test_gone_while_waiting(self) -> None:
        """A client that leaves meanwhile is forgotten."""
        node = self.node(settled=False)
        self.broker.pause()
        wire = node.wire()
        wire.send(request_bytes())
        wire.hang_up()
        self.broker.resume()
        node.settle()
        self.assertEqual((self.state(node), len(node.factory.hub), node.stats.failures), (State.UP, 0, 0))
        self.assertEqual(self.logged(LogLevel.critical), [])

    def test_wait_after_validators(self) -> None:
        """Where the validators were awaited, the backplane is awaited behind them."""
        granting: Deferred[Grant] = Deferred()
        node = self.node(settled=False, validators=[Answer(granting)])
        self.broker.pause()
        client = node.client()
        granting.callback(Grant(room="room"))
        node.settle()
        self.assertFalse(client.open)
        self.broker.resume()
        node.settle()
        self.assertTrue(client.open)

    def test_full_while_waiting(self) -> None:
        """A room that is full by the time is refused, as without a broker."""
        node = self.node(settled=False, max_room_members=1)
        self.broker.pause()
        clients = [node.client(), node.client()]
        self.broker.resume()
        node.settle()
        self.assertEqual([client.status for client in clients], [None, 503])
        self.assertTrue(clients[0].open)

    def test_first_attempt_fails(self) -> None:
        """Without a broker at the start, waiting and new handshakes get 503 with Retry-After; with one, it is up."""
        self.broker.is_down = True
        node = self.node(settled=False)
        wire = node.wire()
        wire.send(request_bytes())
        node.wait(0.5)
        wire.send(b"")
        self.assertEqual((self.state(node), wire.status, node.client().status), (State.DOWN, 503, 503))
        self.assertIn(b"Retry-After: 10\r\n", wire.received)
        self.assertIn(b"no broker: try again later", wire.received)
        [line] = self.logged(LogLevel.error)
        self.assertRegex(line, "^backplane: down: broker:6379: nothing listens there: start the broker")
        self.assertEqual(node.stats.handshakes_denied[503, "backplane"], 2)

        self.broker.is_down = False
        node.wait(2)
        self.assertEqual(self.state(node), State.UP)
        self.assertTrue(node.client().open)

    def test_proof(self) -> None:
        """It is up only when an own entry, sent on these connections, was read back: an answer is not enough."""
        self.broker.blind()
        node = self.node()
        node.wait(1)
        self.assertEqual(self.state(node), State.CONNECTING)
        self.assertGreaterEqual(len(self.broker.log().entries), 1)
        del self.broker.answers["XREAD"]
        node.wait(1)
        self.assertEqual(self.state(node), State.UP)

    def test_learn(self) -> None:
        """What was published before the start is not delivered, and no gap."""
        for seq in (5, 6):
            self.publish_elsewhere(seq, f"{seq}")
        node = self.node()
        client = node.client()
        self.publish_elsewhere(7, "7")
        node.settle()
        self.assertEqual((client.messages, node.stats.backplane.gaps), (["7"], 0))

    def test_warning(self) -> None:
        """A setting of the broker that endangers messages is logged once it is up."""
        self.broker.info |= {"maxmemory": "100", "maxmemory_policy": "allkeys-lru"}
        self.node()
        self.assertRegex("\n".join(self.logged(LogLevel.warn)), "broker:6379: maxmemory-policy is allkeys-lru")

    def test_unexpected_failure(self) -> None:
        """A bug in connecting is logged with its traceback, and tried again."""
        node = self.node(settled=False)
        shard = self.shard(node)
        with mock.patch.object(shard, "_connect", return_value=fail(ZeroDivisionError())):
            shard._open()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((shard.state, self.reasons(node)), (State.DOWN, {"error": 1}))
        node.wait(1)
        self.assertEqual(shard.state, State.UP)

    def test_pair_that_has_ended(self) -> None:
        """A connection that ended between its opening and its use is noticed."""
        node = self.node()
        shard = self.shard(node)
        (writer, reader), shard._pair = (shard._pair.writer, shard._pair.reader), None
        reader.ended = Failure(ConnectionDone())
        shard._opened(mock.Mock(writer=writer, reader=reader, where="broker:6379"))
        self.assertEqual((shard.state, self.reasons(node)), (State.INTERRUPTED, {"closed": 1}))

    def test_first_questions_refused(self) -> None:
        """A broker that refuses to show the stream's end is given up, and not read."""
        self.broker.refusals["XREVRANGE"] = "NOPERM this user has no permissions"
        node = self.node()
        self.assertEqual((self.state(node), self.reasons(node)), (State.DOWN, {"noperm": 1}))
        self.assertRegex(self.problem(node), "broker:6379: its ACL refuses this: .*NOPERM")
        self.assertEqual(self.broker.words("XREAD"), [])

    def test_questions_refused_again(self) -> None:
        """Where the broker refuses to show an entry after a reconnect, nothing is sent again."""
        node = self.node()
        real = self.broker._xrange
        refusal = mock.Mock(side_effect=Error("NOPERM no"))
        self.broker.answers["XRANGE"] = lambda *words: (real if words[2] == b"1-0" else refusal)(*words)
        self.broker.cut()
        node.settle()
        node.wait(0.25)
        self.assertEqual((refusal.called, node.stats.backplane.resent), (True, 0))
        self.assertEqual((self.state(node), self.reasons(node)), (State.INTERRUPTED, {"closed": 1, "noperm": 1}))


class OutageTests(ShardTestCase):
    """The broker is gone for a time."""

    def test_cut(self) -> None:
        """After a cut both connections are opened again; all is delivered once, in order; clients notice nothing."""
        one, two, a, b = self.pair()
        a.say("1")
        one.settle()
        self.broker.is_down = True
        self.broker.cut()
        one.settle()
        self.assertEqual([self.state(node) for node in (one, two)], [State.INTERRUPTED] * 2)
        a.say("2")
        b.say("3")
        one.wait(1)
        self.assertEqual((a.messages, b.messages), ([], ["1"]))
        self.broker.is_down = False
        one.wait(3)
        self.assertEqual([self.state(node) for node in (one, two)], [State.UP] * 2)
        self.assertEqual((a.messages, b.messages), (["3"], ["1", "2"]))
        self.assertEqual(self.broker.open, 4)
        self.assertEqual(one.stats.backplane.incarnations, 0)
        self.assertRegex(self.logged(LogLevel.warn)[0], r"interrupted: broker:6379: it closed .* 1013 after 15 s$")

    def test_one_connection_lost(self) -> None:
        """The loss of one connection ends the other."""
        node = self.node()
        self.broker.connections[0].transport.loseConnection()
        node.settle()
        self.assertEqual((self.broker.open, self.state(node)), (0, State.INTERRUPTED))
        node.wait(1)
        self.assertEqual((self.broker.open, self.state(node)), (2, State.UP))

    def test_interrupted(self) -> None:
        """While interrupted, members join and publish, and POST is taken."""
        one, two, a, b = self.pair(http=True)
        self.broker.is_down = True
        self.broker.cut()
        one.settle()
        c = two.client()
        self.assertTrue(c.open)
        self.assertEqual(ask(one, http_bytes("POST /room", b"hi", {"Content-Type": "text/plain"})).status, 202)
        self.broker.is_down = False
        one.wait(2)
        self.assertEqual([client.messages for client in (a, b, c)], [["hi"]] * 3)

    def test_lost_acknowledgement(self) -> None:
        """An entry whose answer is lost is sent again; readers skip the second one."""
        one, two, a, b = self.pair()
        self.broker.swallow("XADD")
        a.say("1")
        one.settle()
        self.assertEqual(b.messages, ["1"])
        del self.broker.answers["XADD"]
        a.say("2")
        self.broker.cut()
        one.wait(1)
        self.assertEqual((a.messages, b.messages), ([], ["1", "2"]))
        self.assertEqual((one.stats.backplane.resent, two.stats.backplane.duplicates), (1, 1))

    def test_late_command(self) -> None:
        """Commands of ended connections that a broker executes late are skipped, too."""
        one, two, a, b = self.pair()
        self.broker.pause()
        a.say("1")
        one.wait(REPLY_SECONDS + 1)
        self.assertEqual((self.state(one), self.reasons(one)), (State.INTERRUPTED, {"timeout": 1}))
        a.say("2")
        self.broker.resume()
        one.wait(4)
        self.assertEqual((a.messages, b.messages), ([], ["1", "2"]))
        self.assertEqual((one.stats.backplane.gaps, two.stats.backplane.gaps), (0, 0))

    def test_grace(self) -> None:
        """After the grace members are closed with 1013, handshakes and POST get 503; with a broker it is up again."""
        one, two, a, b = self.pair(backplane_grace_seconds=4.0, http=True)
        self.broker.is_down = True
        self.broker.cut()
        one.wait(3.5)
        self.assertEqual((self.state(one), a.open), (State.INTERRUPTED, True))
        one.wait(1.5)
        self.assertEqual((self.state(one), a.closed, b.closed), (State.DOWN, NO_BROKER, NO_BROKER))
        response = ask(one, http_bytes("POST /room", b"hi", {"Content-Type": "text/plain"}))
        self.assertEqual((one.client().status, response.status, response.headers["Retry-After"]), (503, 503, "10"))
        self.assertEqual(one.stats.closes_sent[1013], 1)

        self.broker.is_down = False
        one.wait(3)
        a, b = one.client(), two.client()
        a.say("hi")
        one.settle()
        self.assertEqual((self.state(one), a.messages, b.messages), (State.UP, [], ["hi"]))

    def test_accepted_messages(self) -> None:
        """What was accepted before the end of the grace is delivered when the broker is back."""
        one, _, a, _ = self.pair(backplane_grace_seconds=4.0)
        self.broker.is_down = True
        self.broker.cut()
        one.settle()
        a.say("accepted")
        one.wait(8)
        self.assertEqual(a.closed, NO_BROKER)
        third = self.node(settled=False)  # not a member before, so that it is owed nothing but this
        self.broker.is_down = False
        third.wait(0.05)
        third.settle()
        third.wait(3)
        blobs = b"".join(fields[5] for _, fields in self.broker.log().entries)
        self.assertEqual(blobs.count(b"accepted"), 1)
        self.assertEqual(self.shard(one).outbox.pending_bytes, 0)

    def test_drain(self) -> None:
        """Members are closed over drain_seconds; those in rooms of other shards are not."""
        one, _, a, _ = self.pair(backplane_grace_seconds=1.0, drain_seconds=4.0)
        more = [one.client() for _ in range(3)]
        self.broker.is_down = True
        self.broker.cut()
        one.wait(2.5)
        self.assertEqual(self.state(one), State.DOWN)
        still = sum(client.open for client in (a, *more))
        self.assertTrue(1 <= still <= 3, still)
        one.wait(4)
        self.assertEqual([client.closed for client in (a, *more)], [NO_BROKER] * 4)
        self.assertFalse(one.factory.draining)

    def test_event_streams(self) -> None:
        """Event streams are closed, too."""
        node = self.node(http=True, backplane_grace_seconds=1.0)
        wire = node.wire()
        wire.send(http_bytes("GET /room", fields={"Accept": "text/event-stream"}))
        self.broker.is_down = True
        self.broker.cut()
        node.wait(3)
        self.assertTrue(wire.ended)
        self.assertIn(b"no broker: try again later", wire.transport.getOutBuffer() or b"")

    def test_back_off(self) -> None:
        """Attempts begin after 0.05 s, with twice the delay each, and 2 s at most."""
        node = self.node(settled=False)
        shard, delays = self.shard(node), []
        problem = NoBroker("refused", "no")
        with mock.patch.object(shard, "_connect", side_effect=lambda: fail(problem)):
            shard._opening.cancel()
            for _ in range(10):
                [at] = [call.getTime() for call in self.clock.getDelayedCalls() if call.func == shard._open]
                delays.append(round(at - self.clock.seconds(), 3))
                self.clock.advance(at - self.clock.seconds())
        self.flushLoggedErrors()
        self.assertEqual(delays, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0])
        self.assertEqual(RETRY_SECONDS, (0.05, 2.0))

    def test_back_off_ends(self) -> None:
        """After it was up, delays begin anew."""
        node = self.node()
        for _ in range(5):
            self.broker.cut()
            node.settle()
            node.wait(0.25)
            self.assertEqual(self.state(node), State.UP)

    def test_jitter(self) -> None:
        """The delay is random, from half of it to all of it: nodes do not come at once."""
        node = self.node()
        node.factory.random = lambda: 0.0
        self.broker.cut()
        node.settle()
        delays = [call.getTime() for call in self.clock.getDelayedCalls() if call.func == self.shard(node)._open]
        self.assertEqual(delays, [0.025])

    def test_log_lines(self) -> None:
        """While it is down, a line comes for each new reason, not for each attempt."""
        self.broker.is_down = True
        node = self.node()
        node.wait(10)
        self.broker.is_down, self.broker.is_deaf = False, True
        node.wait(10)
        self.broker.refusals["INFO"] = "LOADING Redis is loading the dataset in memory"
        self.broker.is_deaf = False
        node.wait(10)
        self.assertEqual(len(self.logged(LogLevel.error)), 1)
        slow, loading = self.logged(LogLevel.warn)
        self.assertRegex(slow, "^backplane: broker:6379: no answer in time")
        self.assertRegex(loading, "^backplane: broker:6379: it reads its data from disk: wait")

    def test_refused_write(self) -> None:
        """A broker without memory takes nothing: it waits, and all is delivered once it takes it."""
        one, two, a, b = self.pair()
        self.broker.refusals["XADD"] = "OOM command not allowed when used memory > 'maxmemory'."
        a.say("1")
        one.settle()
        self.assertEqual((self.state(one), self.state(two)), (State.INTERRUPTED, State.UP))
        self.assertRegex(self.problem(one), "its memory is full: raise maxmemory")
        a.say("2")
        one.wait(3)
        self.assertEqual(self.state(one), State.INTERRUPTED)
        self.assertGreater(self.reasons(one)["oom"], 3)
        del self.broker.refusals["XADD"]
        one.wait(3)
        self.assertEqual((a.messages, b.messages, self.state(one)), ([], ["1", "2"], State.UP))

    def test_refused_read(self) -> None:
        """A reader that is refused is given up, with what to do."""
        node = self.node()
        self.broker.refusals["XREAD"] = "NOPERM this user has no permissions to run the 'xread' command"
        node.wait(2)
        self.assertEqual(self.state(node), State.INTERRUPTED)
        self.assertRegex(self.problem(node), "its ACL refuses this")

    def test_lag(self) -> None:
        """The lag is the time for which the oldest own entry has not come back."""
        node = self.node()
        self.assertEqual(self.shard(node).lag_seconds, 0)
        self.broker.blind()
        self.broker.cut()
        node.wait(0.5)
        before = self.shard(node).lag_seconds
        node.wait(1)
        self.assertEqual(self.shard(node).lag_seconds, before + 1)
        self.broker.is_down = True
        self.broker.cut()
        node.settle()
        node.wait(2)
        self.assertGreaterEqual(self.shard(node).lag_seconds, 2)


class DoubtTests(ShardTestCase):
    """Connections that seem open."""

    def test_no_answer(self) -> None:
        """Without an answer for three seconds both connections are given up."""
        node = self.node()
        node.wait(1)
        self.broker.pause()
        node.wait(REPLY_SECONDS - 0.5)
        self.assertEqual(self.state(node), State.UP)
        node.wait(1)
        self.assertEqual((self.state(node), self.reasons(node)), (State.INTERRUPTED, {"timeout": 1}))
        self.assertRegex(self.problem(node), "^broker:6379: no answer for 3 s: see its load$")

    def test_no_answer_to_first_questions(self) -> None:
        """An answer about the stream that does not come is late, too."""
        self.broker.swallow("XREVRANGE")
        node = self.node()
        node.wait(REPLY_SECONDS + 1)
        self.assertEqual((self.state(node), self.reasons(node)["timeout"]), (State.DOWN, 1))

    def test_not_read_back(self) -> None:
        """Entries that are acknowledged and not read within five seconds: the connections reach different servers."""
        node = self.node()
        self.broker.blind()
        node.wait(READ_BACK_SECONDS + 3)
        self.assertEqual(self.state(node), State.INTERRUPTED)
        self.assertEqual(self.reasons(node), {"unread": 1})
        self.assertRegex(self.problem(node), "cannot be read: name one server, no load balancer$")

    def test_blocked_reactor(self) -> None:
        """After a time in which the reactor stood still, no answer counts as late."""
        node = self.node()
        self.broker.pause()
        node.wait(1)
        self.clock.advance(30)  # in one step: what the broker has sent meanwhile was not read
        self.broker.resume()
        node.settle()
        node.wait(2)
        self.assertEqual((self.state(node), self.reasons(node)), (State.UP, {}))

    def test_heartbeat(self) -> None:
        """Without messages an entry is sent each second; with messages none."""
        node = self.node()
        count = len(self.broker.words("XADD"))
        node.wait(10)
        self.assertEqual(len(self.broker.words("XADD")) - count, 10)
        client = node.client()
        count = len(self.broker.words("XADD"))
        for _ in range(40):
            client.say("x")
            node.wait(0.25)
        self.assertEqual(len(self.broker.words("XADD")) - count, 40)

    def test_doubt_once(self) -> None:
        """What has been given up is not given up again."""
        node = self.node()
        for _ in range(2):
            self.shard(node)._doubt(NoBroker("timeout", "no answer"))
        self.assertEqual(self.reasons(node), {"timeout": 1})


class LossTests(ShardTestCase):
    """The broker is another incarnation, or has lost entries."""

    def talk(self, one: Relay, a: Client, b: Client, start: int, count: int = 20) -> None:
        """Publish numbered messages on both nodes, in entries of their own."""
        for number in range(start, start + count):
            a.say(f"a{number}")
            b.say(f"b{number}")
            one.wait(0.1)

    def assert_complete(self, a: Client, b: Client, count: int) -> None:
        """All messages of the other one came, once and in order."""
        self.assertEqual(b.messages, [f"a{number}" for number in range(count)])
        self.assertEqual(a.messages, [f"b{number}" for number in range(count)])

    def test_restart(self) -> None:
        """A restart with all data is an interruption, and counted."""
        one, two, a, b = self.pair()
        self.talk(one, a, b, 0)
        self.broker.restart()
        self.talk(one, a, b, 20)
        one.wait(3)
        self.assert_complete(a, b, 40)
        self.assertEqual([node.stats.backplane.incarnations for node in (one, two)], [1, 1])
        self.assertIn("backplane: broker:6379 was restarted, or a replica took over", self.logged(LogLevel.warn))

    def test_lost_tail(self) -> None:
        """Entries that the broker acknowledged and lost are sent again, and delivered once."""
        for lost in (1, 3, 15):
            one, two, a, b = self.pair()
            self.talk(one, a, b, 0)
            self.broker.restart(lose=lost)
            self.talk(one, a, b, 20)
            one.wait(3)
            self.assert_complete(a, b, 40)
            self.assertEqual([node.stats.backplane.gaps for node in (one, two)], [0, 0])
            self.assertRegex("\n".join(self.logged(LogLevel.warn)), "has lost its newest entries: sending [0-9]+ again")
            self.setUp()

    def test_lost_before_read(self) -> None:
        """Entries that another node had not read before they were lost reach it all the same."""
        one, _two, a, b = self.pair()
        self.talk(one, a, b, 0)
        reader = self.broker.connections[3]  # of the second node
        self.assertIsNot(reader.blocked, None)
        with mock.patch.object(reader, "wake"):
            a.say("a20")
            b.say("b20")
            one.wait(0.25)
        self.assertEqual(len(b.messages), 20)
        self.broker.restart(lose=2)
        one.wait(3)
        self.assert_complete(a, b, 21)

    def test_lost_all(self) -> None:
        """A broker without persistence starts empty: the same."""
        one, two, a, b = self.pair()
        self.talk(one, a, b, 0)
        self.broker.restart(lose=None)
        self.talk(one, a, b, 20)
        one.wait(3)
        self.assert_complete(a, b, 40)
        self.assertEqual([node.stats.backplane.gaps for node in (one, two)], [0, 0])

    def test_skewed_clock(self) -> None:
        """A replica whose clock is behind gives lower ids: nodes read from the start."""
        one, _two, a, b = self.pair()
        self.talk(one, a, b, 0)
        self.broker.ahead_ms = -60_000
        self.broker.restart(lose=None)
        self.talk(one, a, b, 20)
        one.wait(3)
        self.assert_complete(a, b, 40)

    def test_node_away_meanwhile(self) -> None:
        """A node that was cut off while the broker lost all gets what was sent again, and what came after."""
        one, two, a, b = self.pair(backplane_grace_seconds=60.0)
        self.talk(one, a, b, 0)
        with mock.patch.object(self.shard(two), "_connect", Deferred):
            self.broker.restart(lose=None)
            for number in range(20, 30):
                a.say(f"a{number}")
                one.wait(0.1)
            self.shard(two)._opening.cancel() if self.shard(two)._opening else None
        self.flushLoggedErrors()
        two.wait(8)
        self.assertEqual(self.state(two), State.UP)
        self.assertEqual(b.messages, [f"a{number}" for number in range(30)])

    def test_flushed_while_up(self) -> None:
        """FLUSHALL ends no connection: nodes that have read all go on."""
        one, _two, a, b = self.pair()
        self.talk(one, a, b, 0)
        self.broker.lose()
        self.talk(one, a, b, 20)
        self.assert_complete(a, b, 40)

    def test_id_of_another(self) -> None:
        """Our newest id may be another node's entry after a loss: ours is sent again."""
        one, _two, a, b = self.pair()
        self.talk(one, a, b, 0)
        newest, stream = self.shard(one).outbox.newest_id, self.broker.log()
        self.broker.restart(lose=10)
        self.publish_elsewhere(1, "x", room="elsewhere")
        stream.entries[-1] = (type(stream.last)(*newest), stream.entries[-1][1])
        stream.last = stream.entries[-1][0]
        one.wait(3)
        self.assert_complete(a, b, 20)
        self.assertGreater(one.stats.backplane.resent, 0)

    def test_new_node_after_loss(self) -> None:
        """A node that starts after the loss is not given what is sent again."""
        one, _two, a, b = self.pair()
        self.talk(one, a, b, 0)
        self.broker.is_down = True
        self.broker.restart(lose=None)
        one.settle()
        three = self.node(settled=False)
        self.broker.is_down = False
        one.wait(0.25)
        one.wait(3)
        c = three.client()
        a.say("a20")
        one.wait(1)
        self.assertEqual((c.messages, three.stats.backplane.gaps), (["a20"], 0))


class GapTests(ShardTestCase):
    """Entries that are missing."""

    def test_disconnect(self) -> None:
        """With the slow policy disconnect the members of all rooms are closed with 1013; a line names the node."""
        node = self.node()
        clients = [node.client("/room"), node.client("/b")]
        self.publish_elsewhere(1, "1")
        self.publish_elsewhere(3, "3")
        node.settle()
        self.assertEqual([client.closed for client in clients], [LOST] * 2)
        self.assertEqual((node.stats.backplane.gaps, self.state(node)), (1, State.UP))
        self.assertIn("messages of node other before its entry 3 were lost", self.logged(LogLevel.warn)[-1])
        self.assertTrue(node.client().open)

    def test_drop_oldest(self) -> None:
        """With other slow policies members go on, and each is counted."""
        node = self.node(slow_policy=("latest", "b=drop-oldest", "c=disconnect"))
        clients = [node.client("/room"), node.client("/b"), node.client("/c")]
        self.publish_elsewhere(1, "1")
        self.publish_elsewhere(3, "3")
        node.settle()
        self.assertEqual([client.closed for client in clients], [None, None, LOST])
        self.assertEqual(clients[0].messages, ["1", "3"])
        self.assertEqual(dict(node.stats.evictions), {"latest": 1, "drop-oldest": 1, "disconnect": 1})

    def test_readiness_probe_spared(self) -> None:
        """The readiness probe is not closed for a gap."""
        node = self.node()
        self.publish_elsewhere(1, "1")
        self.publish_elsewhere(3, "3")
        with mock.patch.object(node.factory.hub, "miss") as miss:
            node.settle()
        self.assertEqual(miss.call_count, 1)


class StopTests(ShardTestCase):
    """The end."""

    def stop(self, node: Relay) -> "Deferred[None]":
        """Begin to stop."""
        return Deferred.fromCoroutine(self.shard(node).stop())

    def test_stop(self) -> None:
        """What was published goes out, then a last entry that says bye; connections end; timers too."""
        one, two, _, b = self.pair()
        one.factory.backplane.publish("room", Run.text("last"))
        stopped = self.stop(one)
        self.assertNoResult(stopped)
        one.settle()
        self.successResultOf(stopped)
        self.assertEqual((b.messages, self.state(one), self.broker.open), (["last"], State.CLOSED, 2))
        self.assertEqual(self.shard(two).tail.inbox.seen(self.clock.seconds(), 10), 1)
        self.assertEqual(self.logged()[-1], "backplane: closed")
        shard = self.shard(one)
        self.assertFalse(shard._ticking.running)
        self.assertNotIn(shard._finish, [call.func for call in self.clock.getDelayedCalls()])
        with self.assertRaises(BackplaneDown):
            self.shard(one).enter()

    def test_stop_in_flight(self) -> None:
        """An entry on its way is awaited, and what waits behind it."""
        one, _two, a, b = self.pair()
        self.broker.pause()
        for text in ("1", "2", "3"):
            a.say(text)
            one.settle()
        stopped = self.stop(one)
        one.wait(0.5)
        self.assertNoResult(stopped)
        self.broker.resume()
        one.settle()
        self.successResultOf(stopped)
        self.assertEqual(b.messages, ["1", "2", "3"])

    def test_stop_bounded(self) -> None:
        """A broker that does not answer holds up the end for a second; a line says what is lost."""
        one, _, a, _ = self.pair()
        self.broker.pause()
        a.say("x" * 100)
        one.settle()
        stopped = self.stop(one)
        one.wait(STOP_SECONDS)
        self.successResultOf(stopped)
        [line] = self.logged(LogLevel.warn)
        self.assertRegex(line, "^backplane: the last [0-9]+ bytes could not be published$")

    def test_stop_interrupted(self) -> None:
        """Without connections the end comes at once."""
        node = self.node()
        self.broker.is_down = True
        self.broker.cut()
        node.settle()
        self.successResultOf(self.stop(node))
        self.assertEqual(self.state(node), State.CLOSED)
        self.broker.is_down = False
        node.wait(5)
        self.assertEqual(self.broker.open, 0)

    def test_stop_while_connecting(self) -> None:
        """An attempt to connect is given up, and waiting handshakes are refused."""
        node = self.node(settled=False)
        self.broker.pause()
        client = node.client()
        self.successResultOf(self.stop(node))
        node.settle()
        self.assertEqual((self.broker.open, client.status, self.state(node)), (0, 503, State.CLOSED))

    def test_close_twice(self) -> None:
        """A second end has no effect."""
        node = self.node()
        self.shard(node).close()
        self.shard(node).close()
        self.assertEqual(self.logged().count("backplane: closed"), 1)

    def test_ask_without_connection(self) -> None:
        """Without a connection there is no answer."""
        node = self.node()
        self.shard(node).close()
        self.assertIsNone(self.successResultOf(self.shard(node).ask("PING")))


class CheckTests(ShardTestCase):
    """Publishers that cannot be held."""

    def test_check(self) -> None:
        """A POST is refused while the bytes that wait for the broker are at their limit, or there is no broker."""
        node = self.node(http=True, backplane_pending_bytes=2000)
        request = http_bytes("POST /room", b"x" * 600, {"Content-Type": "text/plain"})
        self.broker.pause()
        taken = 0
        while (refused := ask(node, request)).status == 202:
            taken += 1
        self.assertTrue(1 <= taken <= 3, taken)
        self.assertEqual((refused.status, refused.headers["Retry-After"]), (503, "1"))
        self.assertIn(b"the broker does not keep up: try again later", refused.body)
        self.broker.resume()
        node.settle()
        self.assertEqual(ask(node, request).status, 202)
        self.shard(node).close()
        with self.assertRaises(BackplaneDown):
            self.shard(node).check()
