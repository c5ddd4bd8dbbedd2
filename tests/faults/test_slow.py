"""Slow consumers under each policy, and the memory budget: readers that keep up lose nothing."""

import re
import socket
import zlib
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from tests.faults.support import (
    ATTACKED,
    GATES,
    Attack,
    AttackedRelay,
    FaultTestCase,
    attacked,
    closes_with,
    connect,
    masked,
    port,
    pour,
)
from tests.harness.clients import WebsocketsClient, binary, handshake, mute, read_to_end, text
from tests.harness.live import LOOPBACK, Relay, relay
from tests.harness.sockets import MemorySocket, Peers
from tests.harness.support import Answer, Client, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes

interop = pytest.mark.interop

MIB = 2**20

#: The messages to the attacked room.
PAYLOAD_BYTES = 10_000

#: A log of some ten messages.
#: A log that one publisher can fill: with a byte rate, its burst would be half of it.
SMALL_LOG = {"max_message_bytes": 20_000, "room_log_bytes": 100_000, "max_bytes_per_second": 0}


class SlowTestCase(FaultTestCase):
    """Peers that read slowly, or not for a while."""

    def stalled(self, relay: AttackedRelay) -> Client:
        """Connect a client to the attacked room that does not read."""
        client = relay.client()
        client.server_transport.stalled = True
        return client

    def publish(self, relay: AttackedRelay, publisher: Client, first: int, count: int) -> None:
        """Publish numbered messages to the attacked room, with the bystanders' between them."""
        for number in range(first, first + count):
            publisher.say(number.to_bytes(4) + bytes(PAYLOAD_BYTES - 4))
            relay.settle()
            relay.bystanders.exchange()

    def heard(self, client: Client) -> list[int]:
        """Return the numbers of a client's messages."""
        return [int.from_bytes(message[:4]) for message in client.messages if isinstance(message, bytes)]


class SlowReaderTests(SlowTestCase):
    """Readers of 1 KB a second, with 20 times as much published, or equally much."""

    def test_slow_seconds_evicts(self) -> None:
        """A message that waits longer than slow-seconds evicts its reader with 1013, in spite of reads and pongs."""
        with self.attacked(slow_seconds=10, close_seconds=5, ping_seconds=0) as relay:
            peers = Peers(relay, free_bytes=4000)
            slow, connection = self.reader(peers)
            fast, other = self.reader(peers)
            publisher = relay.client()
            for second in range(20):
                self.publish(relay, publisher, 2 * second, 2)
                self.second(relay, peers, {slow: 1000, fast: MIB})
                if connection.state != connection.STATE_OPEN:
                    break
            # The write in its transport does not count; it takes some seconds more at this pace.
            self.assertIn(second, range(10, 18))
            self.assertEqual(relay.stats.evictions, {"disconnect": 1})
            self.assertEqual(relay.stats.closes_sent, {closecodes.TOO_SLOW.code: 1})
            self.assertEqual(other.state, other.STATE_OPEN)
            # It reads on and gets its close frame, although that takes longer than close-seconds.
            for _ in range(40):
                self.second(relay, peers, {slow: 3000})
            self.assertTrue(closes_with(closecodes.TOO_SLOW, bytes(slow.sent).partition(b"\r\n\r\n")[2]))
            self.assertTrue(slow.closed)
            self.leave(peers, fast)

    def test_slow_reader_policies(self) -> None:
        """A steady slow reader, whose pongs come late, is not closed for them: its room's policy decides."""
        for policy, ends in (("drop-oldest", None), ("latest", None), ("disconnect", closecodes.TOO_SLOW)):
            with self.attacked(slow_policy=(policy,), slow_seconds=40, ping_seconds=4, shared=False) as relay:
                peers = Peers(relay, free_bytes=4000)
                slow, connection = self.reader(peers)
                publisher = relay.client()
                for second in range(60):
                    self.publish(relay, publisher, second, 1)
                    self.second(relay, peers, {slow: 1000})
                self.assertEqual(connection.state != connection.STATE_OPEN, ends is not None, policy)
                self.assertEqual([*relay.stats.closes_sent], [ends.code] if ends else [], policy)
                # It reads no more: now it is dead.
                relay.wait(20)
                peers.settle()
                self.assertTrue(slow.closed)
                self.assertEqual([*relay.stats.closes_sent], [(ends or closecodes.PING_TIMEOUT).code], policy)

    def test_slow_event_stream(self) -> None:
        """An event stream that is read steadily, but slowly, is not closed for want of progress; else it is."""
        with self.attacked(http=True, slow_policy=("latest",), ping_seconds=4, shared=False) as relay:
            peers = Peers(relay, free_bytes=4000)
            slow, connection = peers.connect()
            slow.unread += b"GET /attacked HTTP/1.1\r\nHost: relay\r\nAccept: text/event-stream\r\n\r\n"
            peers.settle()
            publisher = relay.client()
            for second in range(30):
                self.publish(relay, publisher, second, 1)
                self.second(relay, peers, {slow: 500})
            self.assertEqual((connection.state, relay.stats.closes_sent), (connection.STATE_OPEN, {}))
            relay.wait(20)
            peers.settle()
            self.assertTrue(slow.closed)
            self.assertEqual(relay.stats.closes_sent, {closecodes.PING_TIMEOUT.code: 1})

    def test_slow_seconds_in_time(self) -> None:
        """A reader within slow-seconds stays, however slow, and misses nothing."""
        with self.attacked(slow_seconds=10, ping_seconds=0, shared=False) as relay:
            peers = Peers(relay, free_bytes=4000)
            slow, connection = self.reader(peers)
            publisher = relay.client()
            for number in range(10):
                self.publish(relay, publisher, number, 1)
                for _ in range(11):
                    self.second(relay, peers, {slow: 1000})
            self.assertEqual(connection.state, connection.STATE_OPEN)
            frames = parse(bytes(slow.sent[slow.sent.index(b"\r\n\r\n") + 4 :]))
            self.assertEqual([int.from_bytes(frame.data[:4]) for frame in frames], [*range(10)])
            self.leave(peers, slow)

    def reader(self, peers: Peers) -> tuple[MemorySocket, Any]:
        """Connect a peer to the attacked room."""
        peer, connection = peers.connect()
        peer.unread += request_bytes(f"/{ATTACKED}")
        peers.settle()
        self.assertEqual(connection.state, connection.STATE_OPEN)
        return peer, connection

    def second(self, relay: AttackedRelay, peers: Peers, bytes_read: dict[MemorySocket, int]) -> None:
        """Advance one second, in which peers read this much."""
        for peer, size in bytes_read.items():
            peer.free_bytes += size
        peers.settle()
        relay.wait(1)
        peers.settle()

    def leave(self, peers: Peers, *gone: MemorySocket) -> None:
        """Let peers vanish."""
        for peer in gone:
            peer.broken = True
        peers.settle()


class PolicyTests(SlowTestCase):
    """Slow policies for subscribers that fall off the log."""

    def test_slow_policy_drop_oldest(self) -> None:
        """drop-oldest: the subscriber stays, continues with the newer half of the log, and the skipped are counted."""
        heard, missed = self.pass_by("drop-oldest")
        # The start, from its transport, then about half a log until the end.
        self.assertIn(len(heard), range(6, 25))
        self.assertEqual(len(heard) + missed, 100)

    def test_slow_policy_latest(self) -> None:
        """latest: the subscriber stays, continues with the newest message, and the skipped are counted."""
        heard, missed = self.pass_by("latest")
        self.assertIn(len(heard), range(2, 25))
        self.assertEqual(len(heard) + missed, 100)

    def pass_by(self, policy: str) -> tuple[list[int], int]:
        """Publish 100 messages to a peer that reads only afterwards; return its messages, and the number it missed."""
        with self.attacked(shared=False, slow_policy=(f"{ATTACKED}={policy}",), ping_seconds=0, **SMALL_LOG) as relay:
            publisher, stalled = relay.client(), self.stalled(relay)
            reader = relay.client()
            self.publish(relay, publisher, 0, 100)
            relay.wait(60)
            self.assertTrue(stalled.open)
            self.assertLess(relay.factory.hub.log_bytes, 120_000)
            missed = relay.stats.messages_missed
            self.assertGreaterEqual(relay.stats.evictions[policy], 1)
            stalled.server_transport.stalled = False
            relay.settle()
            heard = self.heard(stalled)
            self.assertEqual((heard, heard[-1]), (sorted(set(heard)), 99))
            self.assertEqual(self.heard(reader), [*range(100)])
            # It is up to date again.
            self.publish(relay, publisher, 100, 20)
            self.assertEqual(self.heard(stalled)[-20:], [*range(100, 120)])
            return heard, missed

    def test_slow_policy_pause_publishers(self) -> None:
        """pause-publishers: publishers are held for the slowest, at most slow-seconds; other rooms are not."""
        policies = {"slow_policy": (f"{ATTACKED}=pause-publishers",), "slow_seconds": 10, "ping_seconds": 0}
        with self.attacked(shared=False, **policies, **SMALL_LOG) as relay:
            publisher, stalled, reader = relay.client(), self.stalled(relay), relay.client()
            self.publish(relay, publisher, 0, 20)
            relayed = self.heard(reader)
            self.assertEqual((publisher.server.flow.held != 0, relayed), (True, [*range(len(relayed))]))
            self.assertLess(len(relayed), 20)
            relay.wait(8)
            relay.bystanders.exchange()
            self.assertEqual(self.heard(reader), relayed)
            relay.wait(4)
            self.assertEqual((publisher.server.flow.held, self.heard(reader)), (0, [*range(20)]))
            self.assertEqual(relay.stats.evictions, {"pause-publishers": 1})
            self.assertTrue(closes_with(closecodes.TOO_SLOW, b"".join(stalled.server_transport.stream)))

    def test_slow_policy_publishers_released(self) -> None:
        """When the slow subscriber reads again, the publishers are released, and no message is missed."""
        policies = {"slow_policy": (f"{ATTACKED}=pause-publishers",)}
        with self.attacked(shared=False, **policies, **SMALL_LOG) as relay:
            publisher, stalled = relay.client(), self.stalled(relay)
            for first in range(0, 200, 20):
                self.publish(relay, publisher, first, 20)
                relay.wait(1)
                stalled.server_transport.stalled = False
                relay.settle()
                stalled.server_transport.stalled = True
            stalled.server_transport.stalled = False
            relay.settle()
            self.assertEqual(self.heard(stalled), [*range(200)])
            self.assertGreater(relay.stats.pauses, 5)
            self.assertEqual((relay.stats.evictions, relay.stats.messages_missed), ({}, 0))


class BudgetTests(SlowTestCase):
    """The memory budget."""

    def test_memory_budget_logs(self) -> None:
        """Over the budget the slowest of the address that pins most are evicted; newcomers get in."""
        with self.attacked(memory_budget=300_000, max_message_bytes=20_000, slow_seconds=0, ping_seconds=0) as relay:
            publisher = relay.client()
            slowest = self.stalled(relay)
            self.publish(relay, publisher, 0, 20)
            slow = self.stalled(relay)
            self.publish(relay, publisher, 20, 20)
            relay.wait(0.5)
            relay.bystanders.welcome()
            relay.wait(1)
            for client, open_ in ((slowest, False), (slow, True)):
                self.assertEqual(client.server.state == client.server.STATE_OPEN, open_)
            # A close frame would stand behind what it does not read.
            self.assertTrue(slowest.server_transport.aborted)
            self.assertEqual((relay.stats.closes_sent, relay.stats.evictions), ({1013: 1}, {"shed": 1}))
            self.assertLess(relay.factory.memory.used_bytes, 300_000)
            relay.bystanders.welcome()
            slow.server_transport.stalled = False
            relay.settle()
            self.assertEqual(self.heard(slow), [*range(20, 40)])

    def test_memory_budget_messages(self) -> None:
        """Unfinished messages count, too: the largest are evicted first, small ones stay."""
        sizes = {"memory_budget": 500_000, "max_message_bytes": 200_000, "max_unfinished_bytes_per_address": 10**7}
        with self.attacked(**sizes, message_seconds=0, close_seconds=1) as relay:
            sizes = [1000, *[50_000 + number for number in range(20)]]
            wires = [relay.open_wire() for _ in sizes]
            for wire, size in zip(wires, sizes, strict=True):
                wire.send(masked(0x82, bytes(size), length=60_000))
                relay.bystanders.exchange()
            relay.wait(0.5)
            answers = [wire.send(b"") for wire in wires]
            told = [answer for answer in answers if [frame for frame in parse(answer) if frame.opcode == 8]]
            self.assertGreaterEqual(sum(relay.stats.closes_sent.values()), 12)
            for answer in told:
                self.assertTrue(closes_with(closecodes.OVERLOADED, answer))
            self.assertEqual([wires[0].ended, wires[1].ended], [False, False])
            # Their bytes are free at once; nothing of them is left until they end.
            self.assertLess(relay.factory.memory.used_bytes, 500_000)
            relay.bystanders.welcome()
            for wire in wires:
                wire.hang_up()

    def test_encoded_frames(self) -> None:
        """Encoded frames of a pinned log have an eighth of the budget; slow readers go on, and none is evicted."""
        with self.attacked(
            http=True, memory_budget=800_000, max_message_bytes=100_000, slow_seconds=0, ping_seconds=0
        ) as relay:
            publisher = relay.client()
            stalled = [relay.client(deflate=number % 2) for number in range(4)]
            for client in stalled:
                client.server_transport.stalled = True
            stream = relay.wire()
            stream.send(b"GET /attacked HTTP/1.1\r\nHost: relay\r\nAccept: text/event-stream\r\n\r\n")
            events = b""
            for number in range(20):
                self.publish(relay, publisher, number, 1)
                events += stream.send(b"")  # reads what has come
            relay.wait(1)
            cached_bytes = relay.factory.hub.cached_bytes
            self.assertTrue(50_000 < cached_bytes <= 100_000, cached_bytes)
            self.assertEqual(events.count(b"event: binary"), 20)
            for client in stalled:
                client.server_transport.stalled = False
                relay.settle()
                self.assertEqual(self.heard(client), [*range(20)])
            self.assertEqual((relay.factory.hub.cached_bytes, relay.stats.closes_sent), (0, {}))

    def test_unfinished_bytes_freed(self) -> None:
        """A close, of any kind, frees the unfinished message at once, and what follows of it is discarded."""
        for end in (
            lambda relay, connection: connection.close(closecodes.RESTARTING),
            lambda relay, connection: connection.reject(closecodes.READ_ONLY),
            lambda relay, connection: connection.close(closecodes.OVERLOADED),
            lambda relay, connection: relay.wait(31),  # message_seconds
        ):
            for fields in (None, {"Sec-WebSocket-Extensions": "permessage-deflate"}):
                with self.attacked(shared=False, close_seconds=9, ping_seconds=0) as relay:
                    wire = relay.open_wire(fields)
                    first = 0x02 if fields is None else 0x42
                    wire.send(masked(first, self.fragment(first)) + masked(0x00, length=70_000))
                    [connection] = relay.factory.connections - relay.guests
                    self.assertGreater(connection.incoming_bytes, 20_000)
                    end(relay, connection)
                    self.assertEqual(connection.incoming_bytes, 0)
                    wire.send(bytes(69_995))
                    self.assertEqual(connection.incoming_bytes, 0)
                    # The peer's close frame is still found.
                    wire.send(bytes(5) + masked(0x80, bytes(3)) + masked(0x88))
                    self.assertTrue(wire.ended)
                    wire.hang_up()
                    self.assertNotIn(connection, relay.factory.memory.unfinished)

    def fragment(self, first: int) -> bytes:
        """Return the payload of a first fragment: 30 000 bytes, maybe deflated."""
        if first & 0x40:
            deflater = zlib.compressobj(wbits=-15)
            return deflater.compress(bytes(30_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return bytes(30_000)

    def test_half_sent_body_freed(self) -> None:
        """A refusal or an answer frees the head and the body at once, also while a validator is asked."""
        pending: list[Deferred[Any]] = []

        def ask(request: Any, grant: Any) -> Any:
            if request.room == "asked":
                pending.append(Deferred())
                return pending[-1]
            return grant

        for room, more, seconds, status in (
            ("attacked", b"", 31, b"408"),
            ("attacked", b"end", 0, b"202"),
            ("asked", b"", 6, b"504"),
        ):
            with self.attacked([Answer(ask)], shared=False, http=True) as relay:
                wire = relay.wire()
                head = f"POST /{room} HTTP/1.1\r\nHost: relay\r\nContent-Length: 100003\r\n\r\n"
                wire.send(head.encode() + bytes(10))
                wire.send(bytes(99_990))
                [connection] = relay.factory.connections - relay.guests
                self.assertGreater(connection.incoming_bytes, 100_000)
                relay.wait(seconds)
                answer = wire.send(more)
                self.assertEqual((answer[9:12], connection.incoming_bytes), (status, 0))
                wire.hang_up()
        [asked] = pending
        self.assertTrue(asked.called)  # cancelled, so that it keeps no request

    def test_unfinished_bytes_per_address(self) -> None:
        """An address over its limit loses its largest unfinished message, with 1013; or its body, with 429."""
        with self.attacked(
            shared=False, http=True, max_message_bytes=100_000, max_unfinished_bytes_per_address=200_000
        ) as relay:
            wires = [relay.open_wire() for _ in range(3)]
            for number, wire in enumerate(wires):
                wire.send(masked(0x82, bytes(60_000 + number), length=100_000))
            post = relay.wire()
            post.send(b"POST /attacked HTTP/1.1\r\nHost: relay\r\nContent-Length: 100000\r\n\r\n")
            other = relay.wire(IPv4Address("TCP", "192.0.2.9", 1))
            other.send(request_bytes(f"/{ATTACKED}") + b"")
            other.send(masked(0x82, bytes(90_000), length=100_000))
            # Not only at the next sweep.
            self.assertEqual((post.send(bytes(70_000))[9:12], relay.stats.closes_sent), (b"429", {}))
            relay.wait(0.5)
            answers = [wires[0].send(bytes(30_000))]
            relay.wait(0.5)
            answers = [answers[0] + wires[0].send(b""), *[wire.send(b"") for wire in (*wires[1:], other)]]
            self.assertTrue(closes_with(closecodes.TOO_MUCH_UNFINISHED, answers[0]))
            self.assertEqual(answers[1:], [b"", b"", b""])
            for wire in (*wires, post, other):
                wire.hang_up()

    def test_unfinished_bytes_inflated(self) -> None:
        """Fragments that are small when they come count inflated, at once."""
        deflater = zlib.compressobj(wbits=-15)
        bomb = deflater.compress(bytes(900_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        with self.attacked(shared=False, max_unfinished_bytes_per_address=2 * MIB, ping_seconds=0) as relay:
            wires = [relay.open_wire({"Sec-WebSocket-Extensions": "permessage-deflate"}) for _ in range(20)]
            most = 0
            for wire in wires:
                wire.send(masked(0x42, bomb))
                most = max(most, sum(connection.incoming_bytes for connection in relay.factory.connections))
            self.assertIn(most, range(2 * MIB - 900_000, 3 * MIB))
            self.assertGreater(relay.stats.closes_sent[closecodes.TOO_MUCH_UNFINISHED.code], 16)
            for wire in wires:
                wire.hang_up()

    def test_unfinished_bytes_behind_proxy(self) -> None:
        """Behind a trusted proxy the client's own address counts; without one in its field, the proxy's."""
        for field, closes in (("198.51.100.7", 3), (None, 4)):
            sizes = {"max_message_bytes": 80_000, "max_unfinished_bytes_per_address": 100_000}
            limits = {**sizes, "trusted_proxies": ("192.0.2.7",)}
            with self.attacked(shared=False, **limits) as relay:
                wires = [relay.wire(IPv4Address("TCP", "192.0.2.7", 1)) for _ in range(5)]
                for number, wire in enumerate(wires):
                    other = "198.51.100.8" if number == 4 and field else field
                    wire.send(request_bytes(f"/{ATTACKED}", {"X-Forwarded-For": other}))
                    wire.send(masked(0x82, bytes(60_000), length=70_000))
                relay.wait(0.5)
                self.assertEqual(sum(relay.stats.closes_sent.values()), closes, field)
                if field:
                    self.assertEqual(wires[4].send(b""), b"")
                for wire in wires:
                    wire.hang_up()


# --- on sockets -----------------------------------------------------------------------------------

#: The budget of the attacked processes; an address may have 8 MiB of it unfinished.
LIVE_BUDGET = 64 * MIB

#: The attacker's address, that of newcomers, and that of a subscriber that is merely behind.
ATTACKER, NEWCOMER, BEHIND = "127.0.0.2", "127.0.0.3", "127.0.0.4"

#: What each of the attacker's connections sends, and no more: "asked" and "head" wait for a validator.
HELD = {
    "message": (handshake(f"/{ATTACKED}"), masked(0x02, bytes(1_000_000))),
    "frame": (handshake(f"/{ATTACKED}"), masked(0x82, bytes(1_000_000), length=MIB)),
    "body": (
        b"POST /attacked HTTP/1.1\r\nHost: relay\r\nContent-Length: 1048576\r\nExpect: 100-continue\r\n\r\n",
        bytes(1_000_000),
    ),
    "asked": (
        b"POST /hooked HTTP/1.1\r\nHost: relay\r\nContent-Length: 1048576\r\n\r\n",
        bytes(1_000_000),
    ),
    "head": (handshake("/hooked", Cookie="x" * 15_000), b""),
}


@interop
@pytest.mark.parametrize("kind", sorted(HELD))
def test_unfinished_bytes_live(kind: str) -> None:
    """An address that holds twice the budget in unfinished input keeps no other out, and evicts no slow reader."""
    begin, rest = HELD[kind]
    options = ["--memory-budget", str(LIVE_BUDGET), "--admin", LOOPBACK, "--http", "--close-seconds", "10"]
    validators = ["--validate", "origin:*", "--validate", "python:gates:pending"]
    with relay(*options, *validators, environ=GATES) as server, attacked(server) as attack, ExitStack() as stack:
        behind = stack.enter_context(socket.socket())
        behind.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        behind.bind((BEHIND, 0))
        behind.connect(("127.0.0.1", port(server)))
        behind.sendall(handshake("/behind"))
        publisher = stack.enter_context(WebsocketsClient(server.url("behind")))
        for _ in range(60):  # more than the kernel's buffers hold, less than the log
            publisher.say(binary(bytes(100_000)))
        for number in range(128):
            connection = stack.enter_context(connect(server, host=ATTACKER))
            connection.sendall(begin)
            if kind in ("asked", "head") or connection.recv(12)[9:12] in (b"101", b"100"):
                pour(connection, rest)
            if number % 16 == 0:
                with connect(server, host=NEWCOMER) as newcomer:
                    newcomer.sendall(handshake("/new"))
                    assert newcomer.recv(12) == b"HTTP/1.1 101"
                assert server.ask("/readyz")[0] == 200
                attack.bystanders.exchange()
        assert used_bytes(server) < 24 * MIB  # the log, the address's share, a quarter of that
        assert attack.grown_bytes() < 64 * MIB
        assert "left 'behind'" not in server.output.text
        assert server.ask("/status.json")[1]["memory_budget_bytes"] == LIVE_BUDGET


def used_bytes(server: Relay) -> int:
    """Return the bytes of the memory budget that are used."""
    return int(server.ask("/status.json")[1]["memory_used_bytes"])


def sweep(attack: Attack) -> bytes:
    """Wait for a sweep of the relay; return its answer to a silent client."""
    attack.bystanders.exchange()
    with attack.server.connect() as silent:
        return read_to_end(silent)


@interop
def test_memory_budget_live() -> None:
    """A relay that 20 addresses send many times its budget grows little beyond it; readers and newcomers stay."""
    unfinished = masked(0x82, bytes(900_000), length=MIB)
    options = ["--memory-budget", str(16 * MIB), "--handshake-seconds", "1", "--close-seconds", "1"]
    with relay(*options) as server, attacked(server) as attack:
        with ExitStack() as stack:
            for _ in range(3):
                for number in range(20):
                    connection = stack.enter_context(connect(server, host=f"127.0.1.{number + 1}"))
                    connection.sendall(handshake(f"/{ATTACKED}"))
                    assert connection.recv(12) == b"HTTP/1.1 101"
                    pour(connection, unfinished)
                # A silent client is admitted: 408, not 503.
                assert sweep(attack)[9:12] == b"408"
            assert attack.grown_bytes() < (16 + 8) * MIB
            server.output.wait_for(rf"left '{ATTACKED}' .* relay closed with {closecodes.OVERLOADED.code}")
        attack.settle()
        attack.bystanders.welcome()


@interop
def test_encoded_frames_live() -> None:
    """A pinned log of messages that are seven times as long as events costs little more than the log."""
    with (
        relay("--memory-budget", str(32 * MIB), "--http", "--slow-seconds", "0") as server,
        attacked(server) as attack,
        mute(server, f"/{ATTACKED}", receive_bytes=4096),
        connect(server) as stream,
        stream.makefile("rb") as events,
        WebsocketsClient(server.url(ATTACKED)) as publisher,
    ):
        stream.sendall(b"GET /attacked HTTP/1.1\r\nHost: relay\r\nAccept: text/event-stream\r\n\r\n")
        for number in range(100):
            publisher.say(text("\n" * 60_000 + f"last line {number}"))
            while events.readline() != b"data: last line %d\n" % number:
                pass
            attack.bystanders.exchange()
        assert attack.grown_bytes() < 24 * MIB
        assert f"left '{ATTACKED}'" not in server.output.text
        publisher.ws.close()


@interop
def test_slow_seconds_live() -> None:
    """A reader slower than the publisher gets 1013 after slow-seconds."""
    options = ["--slow-seconds", "2", "--room-log-bytes", str(64 * MIB), "--close-seconds", "1"]
    with (
        relay(*options) as server,
        attacked(server) as attack,
        mute(server, f"/{ATTACKED}", receive_bytes=4096) as slow,
        WebsocketsClient(server.url(ATTACKED)) as publisher,
    ):
        for _ in range(150):  # more than the kernel's buffers hold, less than the log
            publisher.say(binary(bytes(100_000)))
        while not re.search(rf"left '{ATTACKED}' .* relay closed with {closecodes.TOO_SLOW.code}", server.output.text):
            attack.bystanders.exchange()
            slow.recv(100)
        publisher.ws.close()
