"""Faults of subscribers: a peer that does not read delays no other, and costs a bounded amount of memory."""

import signal
import socket
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.faults.support import ATTACKED, AttackedRelay, FaultTestCase, attacked, closed_with, masked, pour
from tests.harness.clients import WebsocketsClient, autobahn_client, binary, handshake, mute, read_to_end
from tests.harness.live import Process, relay
from tests.harness.support import Client, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.rooms import scheduler

interop = pytest.mark.interop

MIB = 2**20

#: A close frame with 1000, and a text message, both from a client.
CLOSE, CHATTER = masked(0x88, (1000).to_bytes(2)), masked(0x81, b"chatter")


#: One publisher may fill the log.
NO_RATES: Final[dict[str, Any]] = {"max_bytes_per_second": 0, "max_messages_per_second": 0}


class StalledTests(FaultTestCase):
    """Peers that do not read."""

    def stalled(self, relay: AttackedRelay) -> Client:
        """Connect a client to the attacked room that does not read."""
        client = relay.client()
        client.server_transport.stalled = True
        return client

    def publish(self, relay: AttackedRelay, count: int) -> None:
        """Publish messages of 10 000 bytes to the attacked room, and exchange the bystanders' between them."""
        publisher = relay.client()
        for number in range(count):
            publisher.say(f"{number % 10}" * 10_000)
            relay.settle()
            if number % 10 == 0:
                relay.bystanders.exchange()

    def test_stalled_evicted(self) -> None:
        """Stalled peers keep one write each in their transports, then are closed and aborted."""
        with self.attacked(max_message_bytes=20_000, room_log_bytes=200_000, close_seconds=2, **NO_RATES) as relay:
            stalled = [self.stalled(relay) for _ in range(10)]
            self.publish(relay, 200)
            for client in stalled:
                self.assertLess(sum(map(len, client.server_transport.stream)), 200_000)
                self.assertEqual(closed_with(b"".join(client.server_transport.stream))[0], closecodes.TOO_SLOW.code)
            relay.wait(3)
            self.assertEqual([client.server_transport.aborted for client in stalled], [True] * 10)

    def test_stalled_catches_up(self) -> None:
        """A peer that reads again before it falls off the log gets everything, once and in order."""
        with self.attacked(room_log_bytes=2 * MIB, **NO_RATES) as relay:
            client = self.stalled(relay)
            self.publish(relay, 150)
            client.server_transport.stalled = False
            relay.settle()
            theirs = [message[0] for message in client.messages if not message.startswith("bystander")]
            self.assertEqual(theirs, [f"{number % 10}" for number in range(150)])

    def test_stalled_sender_ping_timeout(self) -> None:
        """A peer that sends but never reads misses its pings, and is closed with 3008."""
        with self.attacked(ping_seconds=2, close_seconds=2) as relay:
            client = self.stalled(relay)
            while client.open:
                self.assertLess(relay.clock.seconds(), 10)
                client.say("chatter")
                relay.wait(0.5)
                relay.bystanders.exchange()
            self.assertEqual(relay.stats.closes_sent, {closecodes.PING_TIMEOUT.code: 1})
            self.assertTrue(client.server_transport.aborted)

    def test_stalled_sends_close(self) -> None:
        """A peer that never reads and closes leaves its room at once, and is aborted if it does not take the answer."""
        with self.attacked(close_seconds=2) as relay:
            wire = relay.open_wire()  # which reads only what it is asked for
            self.publish(relay, 20)
            members = relay.factory.hub.member_count(ATTACKED)
            wire.transport.bufferReceived(CLOSE)
            self.assertEqual(relay.factory.hub.member_count(ATTACKED), members - 1)
            self.publish(relay, 20)
            self.assertFalse(wire.transport.aborted)
            relay.wait(3)
            self.assertTrue(wire.transport.aborted)


class AudienceTests(FaultTestCase):
    """Changes of the audience during fan-out."""

    def test_fanout_closing_peer(self) -> None:
        """A closing peer gets nothing behind the close frame, and does not disturb publishers."""
        with self.attacked(close_seconds=30) as relay:
            ours, theirs = relay.open_wire(), relay.open_wire()
            [connection] = [one for one in relay.factory.connections if one.transport is ours.transport]
            connection.close(closecodes.INTERNAL_ERROR)
            closing = theirs.send(CLOSE)
            relay.bystanders.exchange()
            relay.bystanders.exchange()
            for data in (ours.send(b""), closing + theirs.send(b"")):
                self.assertEqual([frame.opcode for frame in parse(data)][-1], 8)
                self.assertEqual(sum(frame.opcode == 8 for frame in parse(data)), 1)

    def test_fanout_membership_changes(self) -> None:
        """Joins, leaves, closes and errors during a flush do not affect other members."""
        with self.attacked(tracebacks=1) as relay:
            *victims, other = [relay.open_wire() for _ in range(5)]
            acts: list[Any] = [
                victims[0].hang_up,
                lambda: relay.open_wire() and None,
                lambda: other.transport.protocol.close(closecodes.INTERNAL_ERROR),
                lambda: 1 / 0,
            ]
            for wire, act in zip(victims, acts, strict=True):
                self._act_in_write(wire.transport, act)
            for _ in range(3):
                relay.bystanders.exchange()

    def _act_in_write(self, transport: Any, act: Any) -> None:
        write = transport.write

        def writing(data: bytes) -> None:
            transport.write = write
            act()
            write(data)

        transport.write = writing

    def test_fanout_stretches(self) -> None:
        """A flush to very many members is split into stretches; other rooms are served between them."""
        self.patch(scheduler, "STRETCH_WRITES", 10)
        with self.attacked(shared=False) as relay:
            wires = [relay.open_wire() for _ in range(500)]
            speaker, listener = relay.wire(), relay.wire()
            for wire in (speaker, listener):
                wire.send(request_bytes("/beside"))
            served: list[int] = []

            def other_business() -> None:
                served.append(sum(bool(wire.transport.stream) for wire in wires))
                if len(served) == 3:
                    speaker.transport.bufferReceived(CHATTER)
                if not listener.transport.stream:
                    relay.clock.callLater(0, other_business)

            wires[0].transport.bufferReceived(CHATTER)
            relay.clock.callLater(0, other_business)
            relay.settle()
            self.assertEqual(len(served), 3)  # the room of two is served in the turn in which it speaks
            self.assertLess(served[-1], 100)
            self.assertEqual({wire.send(b"") for wire in (listener, *wires[1:])}, {b"\x81\x07chatter"})


class StallTests(FaultTestCase):
    """A blocked reactor drops no healthy client."""

    def test_reactor_blocked(self) -> None:
        """After a block of 5 s no healthy client is dropped: open, in its handshake, or being validated."""
        with self.attacked(ping_seconds=1, handshake_seconds=2, close_seconds=1) as relay:
            for _ in range(5):
                relay.wait(1)
                opening = relay.wire()
                relay.clock.advance(5)
                opening.send(request_bytes(f"/{ATTACKED}"))
                self.assertEqual(opening.status, 101)
                opening.hang_up()
                relay.wait(3)
                relay.bystanders.exchange()

    def test_reactor_blocked_at_start(self) -> None:
        """The same in the first half second of the relay."""
        with self.attacked(handshake_seconds=2) as relay:
            opening = relay.wire()
            relay.clock.advance(5)
            opening.send(request_bytes(f"/{ATTACKED}"))
            self.assertEqual(opening.status, 101)

    def test_reactor_blocked_twice(self) -> None:
        """Two blocks with a read between them drop no healthy open client."""
        with self.attacked(ping_seconds=4, message_seconds=4, close_seconds=1) as relay:
            for pause in (0, 0.25, 0.5, 1):
                relay.wait(3)
                for seconds in (5, 5):
                    relay.clock.advance(seconds)
                    relay.settle()
                    relay.wait(pause)
                relay.bystanders.exchange()

    def test_half_open(self) -> None:
        """A peer that vanished without FIN is found by its missing pong."""
        with self.attacked(ping_seconds=2, close_seconds=1) as relay:
            wire = relay.open_wire()
            relay.wait(4.75)
            self.assertEqual(closed_with(wire.send(b""))[0], closecodes.PING_TIMEOUT.code)
            relay.wait(1.5)
            self.assertTrue(wire.transport.aborted)


# --- on sockets -----------------------------------------------------------------------------------


@interop
@pytest.mark.parametrize("size", [2**10, 2**16], ids=["1 KiB", "64 KiB"])
def test_stalled_memory(size: int) -> None:
    """50 MB for a peer that never reads cost less than 12 MB; then it gets 1013, and is aborted."""
    payload, each = bytes(size), MIB // size
    with relay("--close-seconds", "1") as server, attacked(server) as attack, ExitStack() as stack:
        stalled = stack.enter_context(mute(server, f"/{ATTACKED}", receive_bytes=4096))
        publisher = stack.enter_context(WebsocketsClient(server.url(ATTACKED)))
        for _ in range(50):
            for _ in range(each):
                publisher.say(binary(payload))
            attack.bystanders.exchange()
        assert attack.grown_bytes() < 12 * MIB
        server.output.wait_for(f"left '{ATTACKED}' .* relay closed with {closecodes.TOO_SLOW.code}")
        assert len(read_to_end(stalled)) < 25 * MIB
        publisher.ws.close()


@interop
def test_stopped_client() -> None:
    """A client with a stopped process is closed with 3008, then aborted."""
    with (
        relay("--ping-seconds", "1", "--close-seconds", "1") as server,
        attacked(server) as attack,
        autobahn_client(server.url(ATTACKED)) as client,
    ):
        client.signal(signal.SIGSTOP)
        server.output.wait_for(f"left '{ATTACKED}' .* relay closed with {closecodes.PING_TIMEOUT.code}")
        attack.settle()


@interop
def test_stopped_relay() -> None:
    """A relay process stopped for longer than all deadlines drops no healthy client, old or new."""
    with relay("--ping-seconds", "1", "--close-seconds", "1", "--handshake-seconds", "2") as server:
        with mute(server) as member:
            assert member.recv(1) == b"\x89"  # a ping: deadlines have been looked at
        with attacked(server) as attack, server.connect() as opening, server.connect() as waiting:
            attack.bystanders.exchange()  # and both have been accepted
            server.signal(signal.SIGSTOP)
            opening.sendall(handshake("/opening"))
            with Process(["sleep", "4"]) as stopped:  # what is waited for is not the relay
                assert stopped.wait() == 0
            server.signal(signal.SIGCONT)
            assert opening.recv(12) == b"HTTP/1.1 101"
            assert read_to_end(waiting).startswith(b"HTTP/1.1 408 ")
            attack.bystanders.welcome()
            opening.close()
        assert f"sent {closecodes.PING_TIMEOUT.code}" not in server.output.text


@interop
def test_stalled_sockets_close() -> None:
    """A peer with full buffers that closes, resets or vanishes leaves nothing behind."""
    with (
        relay("--close-seconds", "1", "--ping-seconds", "1") as server,
        attacked(server) as attack,
        ExitStack() as stack,
    ):
        publisher = stack.enter_context(WebsocketsClient(server.url(ATTACKED)))
        ends = [
            lambda one: one.sendall(CLOSE),
            lambda one: one.shutdown(socket.SHUT_WR),
            lambda one: one.shutdown(socket.SHUT_RD),
            lambda one: one.close(),
            lambda one: pour(one, CHATTER, 1000),
        ]
        stalled = [stack.enter_context(mute(server, f"/{ATTACKED}", receive_bytes=4096)) for _ in ends]
        for _ in range(30):
            publisher.say(binary(bytes(2**16)))
            attack.bystanders.exchange()
        for one, end in zip(stalled, ends, strict=True):
            end(one)
            attack.bystanders.exchange()
        publisher.ws.close()
        attack.settle()  # while all sockets but one stay open
