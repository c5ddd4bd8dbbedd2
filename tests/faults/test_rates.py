"""Floods and unfinished messages: a client over its rate limit is held, then closed."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.address import IPv4Address

from tests.faults.support import (
    ATTACKED,
    ELSEWHERE,
    Attack,
    AttackedRelay,
    FaultTestCase,
    attacked,
    closed_with,
    closes_with,
    masked,
    pour,
    remarks,
)
from tests.harness.clients import mute, read_to_end
from tests.harness.framing import deflated, wire_frame
from tests.harness.live import SECONDS, Relay, relay
from tests.harness.sockets import MemorySocket, Peers
from tests.harness.support import request_bytes
from wsrelay import closecodes
from wsrelay.limits.turns import TURN_SECONDS

interop = pytest.mark.interop

MIB = 2**20

TEXT, BINARY, CLOSE, PING, PONG, FIN = 1, 2, 8, 9, 10, 0x80

#: Floods: messages, bytes, control frames, empty frames.
FLOODS = {
    "messages": masked(FIN | TEXT, b"x"),
    "bytes": masked(FIN | BINARY, bytes(60_000)),
    "pings": masked(FIN | PING),
    "pongs": masked(FIN | PONG, b"nobody asked"),
    "empty fragments": masked(TEXT) + masked(0) * 999 + masked(FIN),
}

#: Limits that well-behaved clients do not reach.
SMALL = {
    "max_messages_per_second": 100,
    "max_frames_per_second": 100,
    "max_bytes_per_second": 100_000,
    "burst_seconds": 1,
}


class FloodTests(FaultTestCase):
    """Endless input. Unread bytes stay in the socket, as in the kernel."""

    def flood(self, relay: AttackedRelay, flood: bytes, size: int = MIB) -> tuple[Peers, MemorySocket, Any]:
        """Connect a peer that has sent a flood."""
        peers = Peers(relay, free_bytes=MIB)
        peer, connection = peers.connect()
        peer.unread += request_bytes(f"/{ATTACKED}")
        peers.settle()
        peer.unread += flood * (size // len(flood) + 1)
        peers.settle()
        return peers, peer, connection

    def abort(self, peers: Peers, connection: Any) -> None:
        """End a connection."""
        connection.transport.abortConnection()
        peers.settle()

    def test_rate_limit_held(self) -> None:
        """A flood is held at its rate limit, so that TCP pushes back; read messages are relayed."""
        for flood in FLOODS.values():
            with self.attacked(**SMALL, rate_grace_seconds=86400) as relay:
                peers, peer, connection = self.flood(relay, flood)
                unread = len(peer.unread)
                # At most two reads of 64 KiB, one of them for the burst.
                self.assertGreater(unread, MIB - 2 * 65536)
                self.assertEqual((relay.factory.slowed_down, connection.state), ({connection}, connection.STATE_OPEN))
                relay.bystanders.exchange()
                peers.settle()
                self.assertEqual(len(peer.unread), unread)
                self.abort(peers, connection)

    def test_rate_limit_default(self) -> None:
        """The same with the default limits."""
        for flood in FLOODS.values():
            with self.attacked(shared=False, ping_seconds=0) as relay:
                peers, peer, connection = self.flood(relay, flood, 200 * MIB if len(flood) == 60_008 else 2 * MIB)
                self.assertEqual(relay.factory.slowed_down, {connection})
                self.assertGreater(len(peer.unread), 0)
                relay.bystanders.exchange()
                self.abort(peers, connection)

    def test_rate_limit_grace(self) -> None:
        """A flood beyond --rate-grace-seconds is closed with 1008; the rest of it is discarded."""
        for flood in FLOODS.values():
            with self.attacked(**SMALL, rate_grace_seconds=3, max_fragments=10**6) as relay:
                peers, peer, connection = self.flood(relay, flood)
                while connection.state == connection.STATE_OPEN:
                    self.assertLess(relay.clock.seconds(), 10)
                    relay.wait(0.5)
                    peers.settle()
                    relay.bystanders.exchange()
                published = relay.stats.messages_in
                self.assertTrue(closes_with(closecodes.TOO_FAST, peer.sent[peer.sent.index(b"\r\n\r\n") + 4 :]))
                peers.settle()
                self.assertEqual((len(peer.unread), relay.stats.messages_in), (0, published))
                self.abort(peers, connection)

    def test_gone_while_held(self) -> None:
        """A peer that vanishes while held leaves nothing behind once that is noticed."""
        with self.attacked(**SMALL, rate_grace_seconds=86400, ping_seconds=2, close_seconds=1) as relay:
            peers, peer, connection = self.flood(relay, FLOODS["pongs"], 65536)
            peer.broken = True
            relay.wait(1)
            relay.bystanders.exchange()
            while connection in relay.factory.connections:
                self.assertLess(relay.clock.seconds(), 3600)
                relay.wait(10)
                peers.settle()
            self.assertEqual(relay.factory.slowed_down, set())


class BurstTests(FaultTestCase):
    """Bursts within the default limits."""

    def test_burst_deflated(self) -> None:
        """A burst of deflate bombs evicts no subscriber that reads: what a publisher may send at once fits the log."""
        bomb = wire_frame(0xC2, deflated(bytes(256 * 1024)))
        with self.attacked(shared=False, ping_seconds=0) as relay:
            reader, plain = relay.client(), relay.client()
            wire = relay.open_wire({"Sec-WebSocket-Extensions": "permessage-deflate"})
            wire.send(bomb * 200)
            while reader.open and len(reader.messages) < 200:
                self.assertLess(relay.clock.seconds(), 10)
                relay.wait(0.5)
                relay.bystanders.exchange()
            self.assertEqual((len(reader.messages), len(plain.messages), relay.stats.evictions), (200, 200, {}))

    def test_many_busy_connections(self) -> None:
        """A hundred busy connections of one address take their share of each turn; others are read in between."""
        with self.attacked(ping_seconds=0, max_messages_per_second=0) as relay:
            turns = relay.factory.turns
            begin: list[Callable[[], None]] = []
            turns._call_soon = begin.append  # a clock would run all turns in one
            publish, took = relay.factory.backplane.publish, []

            def slowly(room: str, messages: Any) -> None:
                relay.busy += TURN_SECONDS / 4
                took.append(room)
                publish(room, messages)

            relay.factory.backplane.publish = slowly
            wires = [relay.wire(IPv4Address("TCP", "198.51.100.1", port)) for port in range(100)]
            for wire in wires:
                wire.send(request_bytes(f"/{ATTACKED}"))
            for wire in wires:
                wire.transport.bufferReceived(FLOODS["messages"])
            self.assertEqual(took, [ATTACKED] * 4)
            for _ in range(24):
                took.clear()
                begin.pop(0)()
                self.assertEqual(took, [ATTACKED] * 4)
                begin.extend(begin[1:])
                relay.bystanders.exchange()
            relay.factory.backplane.publish = publish
            turns._call_soon = partial(relay.clock.callLater, 0)
            while begin:
                begin.pop()()
            self.assertEqual((turns.is_contended, relay.stats.closes_sent), (False, {}))
            for wire in wires:
                wire.hang_up()


#: The start of a message, and its endless continuation: nothing, empty fragments, single bytes, control frames.
ENDLESS = {
    "half a header": (b"\x82", b""),
    "a header": (masked(FIN | BINARY, length=100), b""),
    "half a payload": (masked(FIN | BINARY, b"x", length=100), b""),
    "a long payload byte by byte": (masked(FIN | BINARY, length=1000), b"x"),
    "a long payload in pieces": (masked(FIN | BINARY, length=100_000), bytes(100)),
    "a fragment": (masked(TEXT, b"x"), b""),
    "an empty fragment": (masked(TEXT), b""),
    "empty fragments": (masked(TEXT), masked(0)),
    "fragments": (masked(TEXT, b"x"), masked(0, b"x")),
    "a fragment and half of another": (masked(TEXT, b"x") + masked(0, b"x", length=10), b""),
    "fragments and pings": (masked(TEXT, b"x"), masked(FIN | PING)),
    "fragments and pongs": (masked(TEXT, b"x"), masked(FIN | PONG)),
}


class EndlessTests(FaultTestCase):
    """Unfinished messages."""

    def test_message_timeout(self) -> None:
        """A message unfinished after --message-seconds is closed with 1008, whatever follows."""
        with self.attacked(message_seconds=5, ping_seconds=0, close_seconds=2) as relay:
            wires = {name: relay.open_wire() for name in ENDLESS}
            answers = {name: wire.send(ENDLESS[name][0]) for name, wire in wires.items()}
            for _ in range(9):
                relay.wait(0.5)
                relay.bystanders.exchange()
                for name, wire in wires.items():
                    answers[name] += wire.send(ENDLESS[name][1])
            self.assertEqual([name for name, answer in answers.items() if b"\x88" in answer], [])
            relay.wait(1)
            for name, wire in wires.items():
                self.assertTrue(closes_with(closecodes.MESSAGE_TOO_SLOW, answers[name] + wire.send(b"")), name)

    def test_message_timeout_deflate(self) -> None:
        """The same for compressed messages."""
        with self.attacked(message_seconds=5, close_seconds=2) as relay:
            wire = relay.open_wire({"Sec-WebSocket-Extensions": "permessage-deflate"})
            wire.send(masked(0x41, b"\xf2"))
            relay.wait(6)
            self.assertTrue(closes_with(closecodes.MESSAGE_TOO_SLOW, wire.send(b"")))

    def test_message_in_time(self) -> None:
        """A slow sender with every message in time stays connected."""
        with self.attacked(message_seconds=10, ping_seconds=0) as relay:
            wire, listener = relay.open_wire(), relay.client()
            for number in range(5):
                message = masked(TEXT, b"slow ") + masked(0) + masked(FIN, b"%d" % number)
                for byte in message:
                    wire.send(bytes([byte]))
                    relay.wait(0.25)
                relay.bystanders.exchange()
            self.assertFalse(wire.ended)
            heard = [message for message in listener.messages if message.startswith("slow")]
            self.assertEqual(heard, [f"slow {number}" for number in range(5)])


class TypeTests(FaultTestCase):
    """Message types."""

    def test_message_type(self) -> None:
        """The wrong type for the room is closed with 1003, in any fragmentation; nothing of it is relayed."""
        for rule, right, wrong in (("text", TEXT, BINARY), ("binary", BINARY, TEXT)):
            with self.attacked(shared=False, message_type=(f"{ATTACKED}={rule}",)) as relay:
                listener = relay.client()
                for attack in (
                    masked(FIN | wrong, b"wrong"),
                    masked(wrong, b"wro") + masked(FIN, b"ng"),
                    masked(FIN | right, b"right") + masked(FIN | wrong, b"wrong") + masked(FIN | right, b"late"),
                ):
                    wire = relay.open_wire()
                    self.assertTrue(closes_with(closecodes.WRONG_TYPE, wire.send(attack)))
                    self.assertEqual(wire.send(masked(FIN | right, b"late")), b"")
                    relay.bystanders.exchange()
                self.assertEqual(listener.messages, ["right" if right == TEXT else b"right"])
                wires = [relay.wire() for _ in range(2)]
                for one in wires:
                    one.send(request_bytes(f"/{ELSEWHERE}/any"))
                wires[0].send(masked(FIN | wrong, b"x"))
                self.assertEqual(wires[1].send(b""), bytes([FIN | wrong, 1]) + b"x")


# --- on sockets -----------------------------------------------------------------------------------

#: More than bystanders send, and far less than a flood.
RATES = [
    *("--max-messages-per-second", "2000", "--max-frames-per-second", "2000", "--max-bytes-per-second", "1000000"),
    *("--burst-seconds", "1", "--close-seconds", "1", "--max-fragments", "1000000"),
]


@pytest.fixture(scope="module")
def patient() -> Iterator[Relay]:
    """A relay with an endless rate grace."""
    with relay(*RATES, "--rate-grace-seconds", "86400") as started:
        yield started


@pytest.fixture(scope="module")
def strict() -> Iterator[Relay]:
    """A relay with a rate grace of one second and a message timeout of two."""
    with relay(*RATES, "--rate-grace-seconds", "1", "--message-seconds", "2") as started:
        yield started


@interop
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_rate_limit_backpressure(patient: Relay, flood: bytes) -> None:
    """TCP pushes back a flood while the bystanders' messages pass."""
    chunk = flood * (65536 // len(flood) + 1)
    with attacked(patient) as attack, mute(patient, f"/{ATTACKED}") as connection:
        lines = remarks(patient)
        quiet = cpu_seconds(attack)
        connection.setblocking(False)
        blocked, sent = 0, 0
        while blocked < 20:
            assert sent < 64 * MIB, "the relay takes it all"
            try:
                sent += connection.send(chunk[sent % len(chunk) :])
                blocked = 0
            except BlockingIOError:
                blocked += 1
                attack.bystanders.exchange()
        # Reading at the limit costs a few milliseconds; reading the flood would take all processor time.
        assert cpu_seconds(attack) < 4 * quiet + 0.2
        attack.bystanders.welcome()
        assert attack.grown_bytes() < 4 * MIB
        assert remarks(patient) == lines


def cpu_seconds(attack: Attack) -> float:
    """Return the processor time of a hundred exchanges of bystanders."""
    before = attack.cpu_seconds()
    for _ in range(100):
        attack.bystanders.exchange()
    return attack.cpu_seconds() - before


@interop
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_rate_limit_live(strict: Relay, flood: bytes) -> None:
    """A flood beyond the grace is closed with 1008, and costs neither memory nor a log line."""
    with attacked(strict) as attack, mute(strict, f"/{ATTACKED}") as connection:
        lines = remarks(strict)
        ended = in_background(lambda: pour(connection, flood * (65536 // len(flood) + 1), 10**6))
        received = in_background(lambda: read_to_end(connection))
        while not received.finished:
            attack.bystanders.exchange()
        assert closes_with(closecodes.TOO_FAST, received.result)
        assert ended.result is None
        connection.close()
        attack.bystanders.welcome()
        assert attack.grown_bytes() < 8 * MIB
        assert remarks(strict) == lines


class in_background:  # noqa: N801 - it is called as a function is
    """A function call in a thread.

    Args:
        act: what.
    """

    def __init__(self, act: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._outcome.append(act()), daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether it is done."""
        return not self._thread.is_alive()

    @property
    def result(self) -> Any:
        """The result; waits for it."""
        self._thread.join(SECONDS)
        [outcome] = self._outcome
        return outcome


@interop
def test_message_timeout_live(strict: Relay) -> None:
    """An unfinished message of any shape is closed with 1008, and the peer sees the end."""
    with attacked(strict) as attack:
        connections = {name: mute(strict, f"/{ATTACKED}") for name in ENDLESS}
        try:
            for name, connection in connections.items():
                connection.sendall(b"".join(ENDLESS[name]))
            attack.bystanders.welcome()
            for name, connection in connections.items():
                assert closed_with(read_to_end(connection))[1] == closecodes.MESSAGE_TOO_SLOW.text, name
        finally:
            for connection in connections.values():
                connection.close()
