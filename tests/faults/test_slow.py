"""Slow consumers under each policy, and the memory budget: readers that keep up lose nothing."""

import re
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.support import (
    ATTACKED,
    ELSEWHERE,
    Attack,
    AttackedRelay,
    FaultTestCase,
    attacked,
    closes_with,
    masked,
    pour,
)
from tests.harness.clients import WebsocketsClient, binary, handshake, mute, read_to_end
from tests.harness.live import relay
from tests.harness.sockets import MemorySocket, Peers
from tests.harness.support import Client, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes

interop = pytest.mark.interop

MIB = 2**20

#: The messages to the attacked room.
PAYLOAD_BYTES = 10_000

#: A log of some ten messages.
SMALL_LOG = {"max_message_bytes": 20_000, "room_log_bytes": 100_000}


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
        """Over the budget the slowest are evicted with 1013; newcomers get 503."""
        with self.attacked(memory_budget=300_000, slow_seconds=0, ping_seconds=0) as relay:
            publisher = relay.client()
            slowest = self.stalled(relay)
            self.publish(relay, publisher, 0, 20)
            slow = self.stalled(relay)
            self.publish(relay, publisher, 20, 20)
            relay.wait(0.5)
            late = relay.wire()
            late.send(request_bytes(f"/{ELSEWHERE}"))
            self.assertEqual(late.status, 503)
            self.assertIn(b"\r\nRetry-After: 10\r\n", late.received)
            relay.wait(1)
            for client, open_ in ((slowest, False), (slow, True)):
                self.assertEqual(client.server.state == client.server.STATE_OPEN, open_)
            self.assertTrue(closes_with(closecodes.OVERLOADED, b"".join(slowest.server_transport.stream)))
            self.assertLess(relay.factory.memory.used_bytes, 300_000)
            relay.bystanders.welcome()
            slow.server_transport.stalled = False
            relay.settle()
            self.assertEqual(self.heard(slow), [*range(20, 40)])

    def test_memory_budget_messages(self) -> None:
        """Unfinished messages count, too: the largest are evicted first, small ones stay."""
        with self.attacked(memory_budget=500_000, message_seconds=0, close_seconds=1) as relay:
            sizes = [1000, *[50_000 + number for number in range(20)]]
            wires = [relay.open_wire() for _ in sizes]
            for wire, size in zip(wires, sizes, strict=True):
                wire.send(masked(0x82, bytes(size), length=60_000))
                relay.bystanders.exchange()
            relay.wait(0.5)
            for wire in wires:
                wire.send(b"")
            told = [wire.received for wire in wires if parse(wire.received)[-1].opcode == 8]
            self.assertIn(len(told), range(10, 15))
            for answer in told:
                self.assertTrue(closes_with(closecodes.OVERLOADED, answer))
            # The ones with the largest unfinished messages: the last ones.
            self.assertEqual(told, [wire.received for wire in wires[-len(told) :]])
            relay.bystanders.exchange()
            for wire in wires:
                wire.hang_up()
            relay.wait(1)
            relay.bystanders.welcome()


# --- on sockets -----------------------------------------------------------------------------------


def sweep(attack: Attack) -> bytes:
    """Wait for a sweep of the relay; return its answer to a silent client."""
    attack.bystanders.exchange()
    with attack.server.connect() as silent:
        return read_to_end(silent)


@interop
def test_memory_budget_live() -> None:
    """A relay sent many times its budget grows little beyond it; readers that keep up stay."""
    unfinished = masked(0x82, bytes(900_000), length=MIB)
    options = ["--memory-budget", str(16 * MIB), "--handshake-seconds", "1", "--close-seconds", "1"]
    with relay(*options) as server, attacked(server) as attack:
        with ExitStack() as stack:
            answers = set()
            for _ in range(3):
                for _ in range(20):
                    connection = stack.enter_context(server.connect())
                    connection.sendall(handshake(f"/{ATTACKED}"))
                    if connection.recv(12) == b"HTTP/1.1 101":
                        pour(connection, unfinished)
                answers.add(sweep(attack)[9:12])
            # Over the budget by the input until the next sweep: here one round, 18 MB.
            assert attack.grown_bytes() < (16 + 18 + 8) * MIB
            assert answers == {b"408", b"503"}
            server.output.wait_for(rf"left '{ATTACKED}' .* relay closed with {closecodes.OVERLOADED.code}")
        attack.settle()
        while sweep(attack)[9:12] != b"408":
            pass
        attack.bystanders.welcome()


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
