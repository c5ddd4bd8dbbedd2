"""Tests of wsrelay.connection.websocket: rate limits, yielded turns, holds, and message deadlines."""

from collections import Counter
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.logger import LogLevel

from tests.connection.test_protocol import client_frame
from tests.harness.backplane import BrokerTestCase
from tests.harness.framing import DEFLATE, deflated, wire_frame
from tests.harness.support import Answer, Relay, RelayTestCase, Transport, Wire, request_bytes
from tests.wire.test_frames import parse
from wsrelay.connection.stage import Stage
from wsrelay.connection.websocket import STRETCH_FRAMES
from wsrelay.grant import Grant
from wsrelay.interfaces import Hold
from wsrelay.limits.turns import TURN_SECONDS
from wsrelay.message import Run
from wsrelay.rooms import room as room_module
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate

PING, PONG = 9, 10


class ReadingTestCase(RelayTestCase):
    """A peer that sends by hand, and a subscriber."""

    def setUp(self) -> None:
        super().setUp()
        # Records pauses and resumes, which iosim's transport does not.
        self.reading: list[Any] = []
        self.patch(Transport, "pauseProducing", lambda transport: self.reading.append((transport, False)))
        self.patch(Transport, "resumeProducing", lambda transport: self.reading.append((transport, True)))

    def begin(self, **settings: Any) -> tuple[Relay, Wire, Any]:
        relay = self.relay(**settings)
        wire, subscriber = relay.wire(), relay.client()
        wire.send(request_bytes())
        self.reading.clear()
        return relay, wire, subscriber

    def assert_reading(self, *expected: bool) -> None:
        """Assert the pauses (False) and resumes (True) of reading since the last call."""
        self.assertEqual([reading for _, reading in self.reading], list(expected))
        self.reading.clear()

    def assert_closed(self, wire: Wire, code: int, reason: bytes) -> None:
        """Assert that the last received data ends with a close frame."""
        *_, last = parse(wire.received)
        self.assertEqual((last.opcode, last.data), (frames.CLOSE, code.to_bytes(2) + reason))


class RateTests(ReadingTestCase):
    """Rate limits."""

    def test_rate_limit_held(self) -> None:
        """A client beyond its burst is held until the debt is paid; its unread bytes are not lost."""
        relay, wire, subscriber = self.begin(max_messages_per_second=10, burst_seconds=1, rate_grace_seconds=5)
        wire.send(client_frame(1, b"a") * 25)
        self.assert_reading(False)
        self.assertEqual((relay.stats.slowdowns, len(relay.factory.slowed_down)), (1, 1))
        wire.send(client_frame(1, b"b") * 2)
        relay.wait(1)
        self.assertEqual(subscriber.messages, ["a"] * 25)
        relay.wait(1)

        self.assert_reading(True, False, True)  # over the limit again
        self.assertEqual(subscriber.messages, ["a"] * 25 + ["b"] * 2)
        self.assertEqual(relay.factory.slowed_down, set())

    def test_rate_limit_kinds(self) -> None:
        """Each rate holds: messages, bytes, control frames, and frames with control frames and empty fragments."""
        fragments = client_frame(1, b"x", fin=False) + client_frame(0, b"", fin=False) * 9
        for setting, sent in [
            ("max_messages_per_second", client_frame(1, b"") * 11),
            ("max_frames_per_second", client_frame(1, b"") * 11),
            ("max_frames_per_second", client_frame(PING) * 11),
            ("max_frames_per_second", client_frame(PONG) * 11),
            ("max_frames_per_second", fragments + client_frame(PONG)),
            ("max_control_frames_per_second", client_frame(PING) * 11),
            ("max_control_frames_per_second", client_frame(PONG) * 11),
            ("max_bytes_per_second", client_frame(1, b"12345")),
        ]:
            relay, wire, _ = self.begin(**{setting: 10, "burst_seconds": 1})
            wire.send(sent[: len(sent) - 1])
            self.assert_reading()
            wire.send(sent[-1:])
            self.assert_reading(False)
            self.assertEqual(relay.stats.slowdowns, 1)

    def test_rate_grace_exceeded(self) -> None:
        """A client that floods beyond the grace is closed with 1008, and read again."""
        relay, wire, subscriber = self.begin(max_messages_per_second=10, burst_seconds=1, rate_grace_seconds=3)
        for _ in range(10):
            wire.send(client_frame(1, b"a") * 15)
            if wire.received:
                break
            relay.wait(1)

        self.assert_closed(wire, 1008, b"too fast: send less per second")
        self.assertTrue(wire.transport in [transport for transport, _ in self.reading])
        self.assertEqual(self.reading[-1][1], True)
        self.assertEqual(relay.factory.hub.member_count("room"), 1)
        self.assertTrue(subscriber.open)

    def test_rate_grace_debt(self) -> None:
        """The close is at once with a grace of 0, and if the debt alone exceeds the grace."""
        for grace in (0, 1):
            _, wire, _ = self.begin(max_messages_per_second=10, burst_seconds=1, rate_grace_seconds=grace)
            wire.send(client_frame(1, b"a") * 25)
            self.assert_closed(wire, 1008, b"too fast: send less per second")

    def test_rate_limit_bursts(self) -> None:
        """A client with occasional bursts within its average rate stays connected."""
        relay, wire, subscriber = self.begin(
            max_messages_per_second=10, burst_seconds=1, rate_grace_seconds=1, ping_seconds=0
        )
        for _ in range(20):
            wire.send(client_frame(1, b"a") * 12)
            self.assertEqual(wire.received, b"")
            relay.wait(2)

        self.assertEqual(len(subscriber.messages), 240)

    def test_rate_limit_gone(self) -> None:
        """A peer that leaves while held leaves nothing behind."""
        relay, wire, subscriber = self.begin(max_messages_per_second=1, burst_seconds=1)
        wire.send(client_frame(1, b"a") * 3)
        wire.hang_up()
        relay.wait(5)

        self.assertEqual((relay.factory.slowed_down, len(relay.factory.connections)), (set(), 1))
        self.assertEqual(subscriber.messages, ["a"] * 3)
        self.assert_reading(False)

    def test_rate_limit_kept(self) -> None:
        """A client within its rates is never held."""
        relay, wire, _ = self.begin(max_messages_per_second=10, burst_seconds=1, ping_seconds=0)
        for _ in range(50):
            wire.send(client_frame(1, b"a") * 5)
            relay.wait(0.5)

        self.assert_reading()

    def test_rate_limit_exact(self) -> None:
        """A client is held for as long as its debt takes, not until the next sweep."""
        relay, wire, _ = self.begin(max_messages_per_second=100, burst_seconds=0.1, ping_seconds=0)
        wire.send(client_frame(1, b"a") * 15)
        relay.clock.advance(0.04)
        self.assert_reading(False)
        relay.clock.advance(0.02)
        relay.settle()
        self.assert_reading(True)
        self.assertEqual(relay.factory.slowed_down, set())

    def test_rate_limit_paid(self) -> None:
        """A client whose debt is paid by the time since the last sweep is not held."""
        relay, wire, subscriber = self.begin(max_messages_per_second=100, burst_seconds=0.1, ping_seconds=0)
        relay.clock.advance(0.3)
        wire.send(client_frame(1, b"a") * 15)
        self.assert_reading()

        self.assertEqual((len(subscriber.messages), relay.stats.slowdowns), (15, 0))

    def test_rate_limit_address(self) -> None:
        """All connections of an address share its rates: they are held, never closed; other addresses are not."""
        relay, wire, subscriber = self.begin(
            max_messages_per_second=100, burst_seconds=1, address_rate_factor=1.2, ping_seconds=0, rate_grace_seconds=9
        )
        others = [relay.wire(IPv4Address("TCP", f"192.0.2.{number}", 4000)) for number in (1, 1, 1, 2)]
        for other in others:
            other.send(request_bytes())
        neighbour, *_, stranger = (one.transport.protocol for one in others)
        relay.wait(1)
        for _ in range(20):
            wire.send(client_frame(1, b"a") * 40)
            for other in others[:3]:
                other.send(client_frame(1, b"b") * 40)
            others[3].send(client_frame(1, b"c") * 10)
            relay.wait(0.5)
        heard = Counter(subscriber.messages)

        self.assertEqual((stranger.flow.held, heard["c"]), (0, 200))
        self.assertIn(heard["a"] + heard["b"], range(1200, 2000), heard)
        self.assertEqual((neighbour.stage, relay.stats.closes_sent), (Stage.OPEN, {}))
        self.assertGreater(relay.stats.slowdowns, 5)

    def test_rate_limit_reconnected(self) -> None:
        """What a connection has sent counts for its address when it has gone: a new one gets no new burst."""
        relay, _, subscriber = self.begin(
            max_messages_per_second=10, burst_seconds=1, address_rate_factor=1, rate_grace_seconds=100
        )
        for _ in range(10):
            wire = relay.wire()
            wire.send(request_bytes())
            wire.send(client_frame(1, b"a") * 9)
            relay.wait(0.5)
            wire.send(client_frame(1, b"a"))
            wire.hang_up()

        self.assertLess(len(subscriber.messages), 80)


class TurnTests(ReadingTestCase):
    """The share of an address in one turn of the reactor."""

    def slow_messages(self, relay: Relay, seconds: float) -> None:
        """Let each message take time."""
        publish = relay.factory.backplane.publish

        def slowly(room: str, messages: Any) -> None:
            relay.busy += seconds
            publish(room, messages)

        self.patch(relay.factory.backplane, "publish", slowly)

    def test_turn_shares(self) -> None:
        """Reads beyond the share of their address wait for the next turns, in order; other addresses do not wait."""
        relay, wire, subscriber = self.begin()
        self.slow_messages(relay, 0.8 * TURN_SECONDS)
        wires = [wire, *(relay.wire() for _ in range(4)), relay.wire(IPv4Address("TCP", "198.51.100.1", 4000))]
        for one in wires[1:]:
            one.send(request_bytes())
        self.reading.clear()
        for number, one in enumerate(wires):
            one.transport.protocol.dataReceived(client_frame(1, b"%d" % number))
            one.transport.protocol.dataReceived(client_frame(1, b"%d" % number))
        self.assertEqual(relay.stats.messages_in, 4)
        relay.settle()

        self.assertEqual(subscriber.messages, [str(number) for number in (0, 0, 5, 5, 1, 1, 2, 2, 3, 3, 4, 4)])
        self.assertFalse(relay.factory.turns.is_contended)

    def test_turn_end_of_tcp(self) -> None:
        """What waited for a turn when TCP ended is published; a bug in that ends in the log."""
        relay, wire, subscriber = self.begin()
        self.slow_messages(relay, 2 * TURN_SECONDS)
        other = relay.wire()
        other.send(request_bytes())
        connection = other.transport.protocol
        wire.transport.protocol.dataReceived(client_frame(1, b"a"))
        connection.dataReceived(client_frame(1, b"b"))
        self.assertGreater(connection.incoming_bytes, 0)
        other.hang_up()
        relay.settle()

        self.assertEqual(subscriber.messages, ["a", "b"])
        self.assertFalse(relay.factory.turns.is_contended)

    def test_turn_end_of_tcp_failure(self) -> None:
        """A bug in a read that waited when TCP ended is logged, and harms no other connection."""
        relay, wire, subscriber = self.begin()
        connection = wire.transport.protocol
        relay.factory.turns.wait(connection, client_frame(1, b"a"))
        self.patch(relay.factory.backplane, "publish", lambda *_: 1 / 0)
        wire.hang_up()
        relay.settle()

        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(subscriber.open)

    def test_turn_held(self) -> None:
        """A turn does not resume reading for a publisher that its room holds."""
        relay, wire, subscriber = self.begin()
        connection = wire.transport.protocol
        relay.factory.turns.wait(connection, client_frame(1, b"a"))
        connection.member.hold()
        self.assert_reading(False)
        relay.settle()
        self.assert_reading()
        self.assertEqual(subscriber.messages, [])
        connection.member.release()
        relay.settle()

        self.assertEqual(subscriber.messages, ["a"])

    def test_turn_crowded_room(self) -> None:
        """Reads of publishers in a crowded room wait for the next turn; in other rooms they do not."""
        self.patch(room_module, "FEW", 0)  # no message is delivered at once
        self.patch(room_module, "MANY", 0)
        relay, wire, subscriber = self.begin()
        other, listener = relay.wire(), relay.client("/other")
        other.send(request_bytes("/other"))
        relay.factory.hub.crowded["room"] = None
        self.reading.clear()
        other.transport.protocol.dataReceived(client_frame(1, b"b"))
        wire.transport.protocol.dataReceived(client_frame(1, b"a"))
        self.assertEqual(relay.stats.messages_in, 1)
        self.assert_reading(False)
        relay.settle()

        self.assertEqual((subscriber.messages, listener.messages), (["a"], ["b"]))
        self.assert_reading(True)

    def test_turn_crowded_room_shared(self) -> None:
        """A publisher gets its turn soon, although others could fill the room in each; at the same address or not."""
        self.patch(room_module, "FEW", -1)
        self.patch(room_module, "MANY", -1)
        for address in ("192.0.2.1", "198.51.100.1"):
            publisher = Answer(Grant(room="room", can_subscribe=False))
            relay = self.relay([publisher], room_log_bytes=2**22, max_messages_per_second=0, max_bytes_per_second=0)
            wires = [*(relay.wire() for _ in range(5)), relay.wire(IPv4Address("TCP", address, 4000))]
            for wire in wires:
                wire.send(request_bytes(fields=DEFLATE))
            for wire in wires[:-1]:
                wire.transport.protocol.dataReceived(wire_frame(0xC2, deflated(bytes(60_000))) * 300)
            wires[-1].transport.protocol.dataReceived(client_frame(1, b"a"))
            sizes: list[int] = []
            publish = relay.factory.backplane.publish

            def noting(room: str, run: Run, sizes: list[int] = sizes, publish: Any = publish) -> None:
                sizes.append(len(run.plain))
                publish(room, run)

            self.patch(relay.factory.backplane, "publish", noting)
            relay.settle()
            self.assertLess(sizes.index(3), 300, address)

    def test_turn_encodes(self) -> None:
        """A long message is deflated while it is read, so that the time counts for its address; a short one later."""
        self.patch(room_module, "MANY", 0)
        relay, wire, _ = self.begin()
        deflating = relay.wire()
        deflating.send(request_bytes("/room", DEFLATE))
        encoded: list[int] = []
        encode = Deflate.__call__
        self.patch(Deflate, "__call__", lambda self, frame: encoded.append(len(frame)) or encode(self, frame))
        for size in (300, 2000):
            wire.transport.protocol.dataReceived(b"\x82\xfe" + size.to_bytes(2) + bytes(4 + size))
            encoded.append(0)
        self.assertEqual(encoded, [0, 2004, 0])
        relay.settle()

        self.assertEqual(encoded, [0, 2004, 0, 304])


class YieldTests(ReadingTestCase):
    """Fairness: a long read is parsed in several turns."""

    def test_yield_uncommon_frames(self) -> None:
        """A read full of uncommon frames is parsed in stretches, one per turn, in order."""
        relay, wire, subscriber = self.begin()
        [connection] = [one for one in relay.factory.connections if one is not subscriber.server]
        connection.dataReceived(client_frame(PING, b"x") * (2 * STRETCH_FRAMES + 1) + client_frame(1, b"behind"))
        self.assertEqual(len(parse(wire.transport.getOutBuffer())), STRETCH_FRAMES)
        self.assert_reading(False)
        self.assertEqual(subscriber.messages, [])
        relay.settle()

        self.assertEqual(len(parse(wire.transport.getOutBuffer())), STRETCH_FRAMES + 1)
        self.assertEqual(subscriber.messages, ["behind"])
        self.assert_reading(True, False, True)

    def test_yield_while_closing(self) -> None:
        """Input behind a violation is discarded in stretches, too, and nothing is buffered."""
        relay, wire, _ = self.begin()
        connection = wire.transport.protocol
        connection.dataReceived(client_frame(3))
        connection.dataReceived(client_frame(PING, b"x") * (2 * STRETCH_FRAMES + 1))
        self.assert_reading(False)
        self.assertGreater(len(connection.data), 0)
        relay.settle()

        self.assert_reading(True, False, True)
        self.assertEqual((connection.data, connection.state), (b"", connection.STATE_CLOSING))

    def test_yield_inflated(self) -> None:
        """A read that inflates to many MiB is parsed 1-2 MiB per turn, and charged by its inflated size."""
        payload = deflated(bytes(2**20))
        self.assertLess(len(payload) * 20, 65536)
        relay, _, subscriber = self.begin(max_bytes_per_second=2**20, burst_seconds=10)
        wire = relay.wire()
        wire.send(request_bytes("/elsewhere", DEFLATE))
        connection = wire.transport.protocol
        self.reading.clear()
        connection.dataReceived(wire_frame(0xC2, payload) * 20)
        self.assertLess(relay.stats.bytes_in, 3 * 2**20)
        self.assert_reading(False)
        for _ in range(100):
            relay.clock.advance(0)

        self.assertLess(relay.stats.bytes_in, 13 * 2**20)
        self.assertIn(connection, relay.factory.slowed_down)
        relay.wait(20)
        self.assertEqual(relay.stats.messages_in, 20)
        self.assertTrue(subscriber.open)

    def test_yield_rate_limit(self) -> None:
        """After a stretch over the rate limit, the rest of the read waits for the debt."""
        relay, wire, _ = self.begin(max_frames_per_second=50, burst_seconds=1, ping_seconds=0)
        wire.send(client_frame(PING, b"x") * 600)
        self.assertEqual(len(parse(wire.received)), STRETCH_FRAMES)
        relay.wait(60)

        self.assertEqual(len(parse(wire.send(b""))), 600 - STRETCH_FRAMES)


class HoldTests(ReadingTestCase):
    """Publishers held by their room."""

    def connection(self, relay: Relay, subscriber: Any) -> Any:
        [connection] = [one for one in relay.factory.connections if one is not subscriber.server]
        return connection

    def test_hold_and_release(self) -> None:
        """Bytes already read wait while the room holds its publisher; a second hold changes nothing."""
        relay, wire, subscriber = self.begin()
        connection = self.connection(relay, subscriber)
        connection.member.hold()
        connection.member.hold()
        self.assert_reading(False)
        wire.send(client_frame(1, b"later"))
        self.assertEqual(subscriber.messages, [])
        connection.member.release()
        connection.member.release()
        self.assertEqual(subscriber.messages, [], "not before whoever releases has done")
        relay.settle()

        self.assertEqual(subscriber.messages, ["later"])
        self.assert_reading(True)

    def test_hold_within_read(self) -> None:
        """A publisher that is held by its own message is not parsed further, even within one read."""
        relay, wire, subscriber = self.begin()
        connection = self.connection(relay, subscriber)
        publish = relay.factory.backplane.publish

        def hold(room: str, messages: Any) -> None:
            publish(room, messages)
            connection.member.hold()

        self.patch(relay.factory.backplane, "publish", hold)
        fragments = client_frame(1, b"b", fin=False) + client_frame(0, b"c")
        wire.send(client_frame(1, b"a") + fragments + client_frame(1, b"d"))
        self.assertEqual(subscriber.messages, ["a"])
        connection.member.release()
        relay.settle()
        self.assertEqual(subscriber.messages, ["a", "bc"])
        connection.member.release()
        relay.settle()
        self.assertEqual(subscriber.messages, ["a", "bc", "d"])

    def test_release_by_sweep(self) -> None:
        """A deadline that passed while a peer was held is not enforced by the sweep that releases it."""
        relay, wire, subscriber = self.begin(message_seconds=3, ping_seconds=0)
        connection = self.connection(relay, subscriber)
        wire.send(client_frame(1, b"a", fin=False))
        self.patch(relay.factory.sweep, "steps", (lambda _: connection.member.release(),))
        connection.member.hold()
        relay.clock.advance(0.9)
        for _ in range(30):
            connection.member.hold()
            relay.clock.advance(0.5)
        self.assertEqual(connection.state, connection.STATE_OPEN)
        relay.settle()
        relay.wait(2)
        self.assertEqual(connection.state, connection.STATE_OPEN)
        relay.wait(2)
        self.assertEqual(relay.stats.closes_sent, {1008: 1})

    def test_yield_keeps_deadlines(self) -> None:
        """Yielded turns do not extend the deadlines for message and pong."""
        for settings, code in (
            ({"message_seconds": 5, "ping_seconds": 0}, 1008),
            ({"message_seconds": 0, "ping_seconds": 4}, 3008),
        ):
            relay, wire, _ = self.begin(max_control_frames_per_second=0, **settings)
            wire.send(client_frame(1, b"a", fin=False) if code == 1008 else b"")
            connection = wire.transport.protocol
            relay.factory.sweep.stop()  # called below, always during a yielded turn
            for _ in range(24):
                relay.clock.advance(0.5)
                relay.settle()
                wire.transport.bufferReceived(client_frame(PONG) * 300)
                self.assertEqual(relay.factory.turns.is_contended, connection.state != connection.STATE_CLOSED)
                relay.factory.sweep.once()
            self.assertEqual(relay.stats.closes_sent, {code: 1})

    def test_hold_two_reasons(self) -> None:
        """A peer held for two reasons resumes when both are gone."""
        relay, wire, subscriber = self.begin(max_messages_per_second=10, burst_seconds=1)
        connection = self.connection(relay, subscriber)
        wire.send(client_frame(1, b"a") * 15)
        connection.member.hold()
        relay.wait(2)
        self.assert_reading(False)
        connection.member.release()
        relay.settle()
        self.assert_reading(True)

    def test_hold_after_release(self) -> None:
        """A peer that is held again in the turn of its release stays held."""
        relay, _, subscriber = self.begin()
        connection = self.connection(relay, subscriber)
        connection.member.hold()
        connection.member.release()
        connection.member.hold()
        relay.settle()

        self.assertTrue(connection.flow.held)

    def test_join_held_room(self) -> None:
        """A publisher that joins a held room is held from the 101 on."""
        relay, wire, subscriber = self.begin(
            slow_policy=("pause-publishers",), room_log_bytes=2**21, max_bytes_per_second=0
        )
        slow = subscriber.server
        slow.pauseProducing()
        for _ in range(30):
            wire.send(b"\x82\xfe\xff\xff\0\0\0\0" + bytes(65535))
        self.assertTrue(self.connection(relay, subscriber).flow.held)
        late = relay.wire()
        late.send(request_bytes())
        [joined] = [one for one in relay.factory.connections if one.transport is late.transport]
        self.assertTrue(joined.flow.held)
        slow.resumeProducing()
        relay.settle()

        self.assertEqual((joined.flow.held, relay.stats.pauses), (0, 1))

    def test_pong_timeout_while_held(self) -> None:
        """A held peer does not time out: it has the rest of its time for the pong once it resumes."""
        relay, wire, subscriber = self.begin(ping_seconds=10)
        connection = self.connection(relay, subscriber)
        relay.wait(12)
        self.assertEqual([frame.opcode for frame in parse(wire.send(b""))], [PING])
        connection.member.hold()
        relay.wait(100)
        self.assertFalse(wire.ended)
        connection.member.release()
        relay.wait(7)
        self.assertEqual(wire.send(b""), b"")
        relay.wait(2)
        wire.send(b"")
        self.assert_closed(wire, 3008, b"no pong in time")

    def test_close_while_held(self) -> None:
        """A closed peer is read again for its reply; a later hold has no effect."""
        relay, wire, subscriber = self.begin()
        connection = self.connection(relay, subscriber)
        connection.member.hold()
        wire.send(client_frame(frames.CLOSE, (1000).to_bytes(2)))
        connection.close(relay_reason())
        connection.member.hold()
        relay.settle()

        self.assert_reading(False, True)
        self.assertTrue(wire.ended)

    def test_gone_before_resume(self) -> None:
        """A peer that is gone when it would resume is left alone."""
        relay, wire, subscriber = self.begin()
        connection = self.connection(relay, subscriber)
        connection.member.hold()
        connection.member.release()
        wire.hang_up()

        self.assert_reading(False)
        self.assertEqual(self.logged(LogLevel.critical), [])


class MessageDeadlineTests(ReadingTestCase):
    """Unfinished messages."""

    def test_message_timeout(self) -> None:
        """A message that is not complete within message-seconds is closed with 1008, in any form."""
        for begun in [
            client_frame(1, b"x", fin=False),
            client_frame(1, b"hello")[:-1],
            client_frame(1, b"hello")[:1],
            client_frame(1, b"whole") + client_frame(1, b"hello")[:-1],
            b"\x82\xfe\xff\xff\0\0\0\0" + b"x" * 1000,
        ]:
            relay, wire, subscriber = self.begin(message_seconds=5, ping_seconds=0)
            wire.send(begun)
            relay.wait(4)
            wire.send(client_frame(PING) if begun[0] < 0x80 else b"")
            self.assertFalse(wire.ended)
            relay.wait(2)
            wire.send(b"")
            self.assert_closed(wire, 1008, b"the message took too long")
            self.assertTrue(subscriber.open)

    def test_message_timeout_each(self) -> None:
        """Each message has its own time: a client always within some message stays connected."""
        relay, wire, subscriber = self.begin(message_seconds=2, ping_seconds=0)
        frame = client_frame(1, b"hello")
        wire.send(frame[:3])
        for _ in range(20):
            relay.wait(1)
            wire.send(frame[3:] + frame[:3])
        self.assertEqual(subscriber.messages, ["hello"] * 20)
        self.assertFalse(wire.ended)

        wire.send(frame[3:])
        relay.wait(10)
        self.assertFalse(wire.ended)

    def test_cut_frame_counted(self) -> None:
        """A frame that waits for the next read counts as unfinished input at once."""
        relay, wire, _ = self.begin()
        wire.send(client_frame(1, b"a") + wire_frame(0x81, bytes(4000))[:-1])

        self.assertGreater(relay.factory.memory.unmeasured_bytes, 4000)

    def test_cut_frame_violations(self) -> None:
        """A violation in a header is answered at once, also behind a whole frame and without the frame's end."""
        for header in (b"\x81\x03abc", b"\x81\xfe\0\x03\0\0\0\0a"):
            _, wire, _ = self.begin()
            [close] = parse(wire.send(client_frame(1, b"a") + header))
            self.assertEqual(close.data[:2], (1002).to_bytes(2))

    def test_message_timeout_fragments(self) -> None:
        """Fragments do not extend the deadline."""
        relay, wire, _ = self.begin(message_seconds=2, ping_seconds=0)
        received = wire.send(client_frame(1, b"x", fin=False))
        for _ in range(4):
            relay.wait(1)
            received += wire.send(client_frame(0, b"x", fin=False))

        self.assertEqual([frame.data[:2] for frame in parse(received)], [(1008).to_bytes(2)])

    def test_message_timeout_off(self) -> None:
        """0 is no limit."""
        relay, wire, _ = self.begin(message_seconds=0, ping_seconds=0)
        wire.send(client_frame(1, b"x", fin=False))
        relay.wait(10_000)

        self.assertFalse(wire.ended)

    def test_message_timeout_while_held(self) -> None:
        """Time while held does not count."""
        relay, wire, subscriber = self.begin(message_seconds=2, ping_seconds=0)
        wire.send(client_frame(1, b"x", fin=False))
        [connection] = [one for one in relay.factory.connections if one is not subscriber.server]
        connection.member.hold()
        relay.wait(10)
        wire.send(client_frame(0, b"y"))
        connection.member.release()
        relay.wait(1)

        self.assertEqual(subscriber.messages, ["xy"])


def relay_reason() -> Any:
    """Return any row of the table of close codes."""
    from wsrelay import closecodes  # noqa: PLC0415

    return closecodes.EXPIRED


class CongestionTests(BrokerTestCase):
    """The broker does not keep up."""

    def test_hold_backplane(self) -> None:
        """A publisher is not read while congested; what was read is published in its order, nothing is lost."""
        node = self.node(backplane_pending_bytes=1000)
        wire, other = node.wire(), node.client()
        wire.send(request_bytes())
        self.broker.pause()
        for number in range(4):
            wire.send(wire_frame(0x81, b"%d" % number * 500))
        [connection] = [one for one in node.factory.connections if one is not other.server]
        self.assertEqual((node.factory.congested, connection.flow.held), (True, Hold.BACKPLANE))
        wire.send(client_frame(1, b"5") + client_frame(1, b"6"))
        self.assertLess(self.shard(node).outbox.pending_bytes, 2000)
        self.broker.resume()
        node.settle()
        self.assertEqual((node.factory.congested, connection.flow.held), (False, 0))
        self.assertEqual([message[0] for message in other.messages], list("012356"))

    def test_hold_backplane_reader(self) -> None:
        """One that may not publish is read on, and answered."""
        grant = Grant(room="room", can_publish=False)
        node = self.node(validators=[Answer(lambda request, _: grant)], backplane_pending_bytes=1000)
        wire = node.wire()
        wire.send(request_bytes())
        node.factory.congested = True
        self.shard(node).held.is_congested = True
        self.assertEqual([frame.opcode for frame in parse(wire.send(client_frame(PING, b"x")))], [PONG])
