"""Tests of pings, pongs and grant expiry on connections. Deadlines alone: tests/connection/test_keepalive.py."""

from typing import Any

from tests.connection.test_protocol import client_frame
from tests.harness.support import RelayTestCase, Wire, request_bytes
from tests.wire.test_frames import parse


class PingTests(RelayTestCase):
    """Keepalive of open connections."""

    def test_ping_interval(self) -> None:
        """A peer is pinged at the interval, and stays connected while it answers."""
        relay = self.relay(ping_seconds=10)
        client = relay.client()
        pinged: list[bytes] = []
        answer = client.onPing
        client.onPing = lambda payload: pinged.append(payload) or answer(payload)
        relay.wait(100)

        self.assertTrue(client.open)
        self.assertGreater(len(pinged), 7)
        self.assertEqual(len({*pinged}), len(pinged), "a payload was used twice")

    def silent(self, ping_seconds: float = 10, **settings: Any) -> tuple[Any, Wire]:
        relay = self.relay(ping_seconds=ping_seconds, close_seconds=2, **settings)
        wire = relay.wire()
        wire.send(request_bytes())
        return relay, wire

    def test_pong_timeout(self) -> None:
        """A peer without a pong within the interval is closed with 3008, then aborted."""
        relay, wire = self.silent()
        relay.wait(19)
        self.assertFalse(wire.ended)
        relay.wait(2)
        frames = parse(wire.send(b""))
        self.assertEqual([frame.opcode for frame in frames], [9, 8])
        self.assertEqual(frames[1].data, (3008).to_bytes(2, "big") + b"no pong in time")
        relay.wait(3)

        self.assertTrue(wire.transport.aborted)

    def test_unsolicited_pongs(self) -> None:
        """Messages and unsolicited pongs do not keep a peer alive (TRAPS 29), counters and repeated ones included."""
        relay, wire = self.silent()
        guesses = b"".join(client_frame(10, payload) for payload in (b"unsolicited", b"", b"0", b"1", b"2", b"3"))
        for _ in range(30):
            wire.send(client_frame(1, b"chat") + guesses)
            relay.wait(1)

        self.assertTrue(wire.ended)

    def test_pong_timeout_within_frame(self) -> None:
        """A peer within a frame cannot send a pong: it is closed only if no bytes come."""
        relay, wire = self.silent(message_seconds=0)
        wire.send(b"\x82\xfe\xff\x00\0\0\0\0")
        for _ in range(60):
            wire.send(b"x")
            relay.wait(1)
        self.assertFalse(wire.ended)
        relay.wait(21)
        wire.send(b"")
        relay.wait(3)

        self.assertTrue(wire.ended)

    def test_pong_timeout_cut_frame(self) -> None:
        """The same holds for a frame that waits for the next read, behind a whole one."""
        ended: list[bool] = []
        for rest in (b"", client_frame(1, b"late")[:-1]):
            relay, wire = self.silent(message_seconds=0)
            relay.wait(11)  # a ping is sent
            wire.send(client_frame(1, b"chat") + rest)
            relay.wait(10)
            wire.send(b"")
            ended.append(wire.ended or relay.stats.closes_sent != {})

        self.assertEqual(ended, [True, False])

    def test_ping_jitter(self) -> None:
        """First pings are spread over the interval's second half."""
        for chance, first in ((0.0, 5), (0.5, 7.5), (1.0, 10)):
            relay = self.relay(ping_seconds=10)
            relay.factory.random = lambda chance=chance: chance
            client = relay.client()
            self.assertEqual(client.server.deadline - relay.clock.seconds(), first)

    def test_ping_off(self) -> None:
        """With 0 there are no pings."""
        relay, wire = self.silent(ping_seconds=0)
        relay.wait(1000)

        self.assertEqual((wire.send(b""), wire.ended), (b"", False))
