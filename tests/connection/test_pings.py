"""Pings, pongs and the grant's expiry on connections; the deadlines alone are in tests/connection/test_keepalive.py."""

from typing import Any

from tests.connection.test_protocol import client_frame
from tests.harness.support import RelayTestCase, Wire, request_bytes
from tests.wire.test_frames import parse


class PingTests(RelayTestCase):
    """Keeping alive."""

    def test_pings(self) -> None:
        """A peer is pinged at the interval, and stays as long as it answers."""
        relay = self.relay(ping_seconds=10)
        client = relay.client()
        relay.wait(100)

        self.assertTrue(client.open)
        self.assertGreater(client.server.keepalive._ping_count, 7)

    def silent(self, ping_seconds: float = 10, **settings: Any) -> tuple[Any, Wire]:
        relay = self.relay(ping_seconds=ping_seconds, close_seconds=2, **settings)
        wire = relay.wire()
        wire.send(request_bytes())
        return relay, wire

    def test_no_pong(self) -> None:
        """Without a pong within the interval it is 3008, then the end of TCP."""
        relay, wire = self.silent()
        relay.wait(19)
        self.assertFalse(wire.ended)
        relay.wait(2)
        frames = parse(wire.send(b""))
        self.assertEqual([frame.opcode for frame in frames], [9, 8])
        self.assertEqual(frames[1].data, (3008).to_bytes(2, "big") + b"no pong in time")
        relay.wait(3)

        self.assertTrue(wire.transport.aborted)

    def test_chatter_is_no_pong(self) -> None:
        """Messages, and pongs that answer nothing, do not keep a peer alive (TRAPS 29)."""
        relay, wire = self.silent()
        for _ in range(30):
            wire.send(client_frame(1, b"chat") + client_frame(10, b"unsolicited"))
            relay.wait(1)

        self.assertTrue(wire.ended)

    def test_a_long_frame_on_a_slow_line(self) -> None:
        """Who is still sending a frame cannot send a pong before its end, and is waited for; who has stopped is not."""
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

    def test_spread(self) -> None:
        """Those who came together are not pinged in one instant: the first ping is in the interval's second half."""
        for chance, first in ((0.0, 5), (0.5, 7.5), (1.0, 10)):
            relay = self.relay(ping_seconds=10)
            relay.factory.random = lambda chance=chance: chance
            client = relay.client()
            self.assertEqual(client.server.deadline - relay.clock.seconds(), first)

    def test_off(self) -> None:
        """With 0 there are no pings."""
        relay, wire = self.silent(ping_seconds=0)
        relay.wait(1000)

        self.assertEqual((wire.send(b""), wire.ended), (b"", False))
