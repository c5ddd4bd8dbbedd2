"""Tests of wsrelay.connection.keepalive alone. On connections: tests/connection/test_pings.py."""

import math

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.connection.keepalive import Due, KeepAlive


def took_nothing() -> bool:
    """The peer has taken no bytes that were waiting."""
    return False


class KeepAliveTests(SynchronousTestCase):
    """Due times."""

    def test_ping_jitter(self) -> None:
        """Jitter puts the first ping into the second half of the interval."""
        for chance, first in ((0.0, 105.0), (0.5, 107.5), (1.0, 110.0)):
            keepalive = KeepAlive(100.0, 10.0, chance)
            self.assertEqual(keepalive.deadline, first)
            self.assertEqual(
                (keepalive.due(first - 0.1, took_nothing), keepalive.due(first, took_nothing)), (Due.NOTHING, Due.PING)
            )

    def test_pong(self) -> None:
        """A pong counts if it answers the last ping, and no earlier one."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        self.assertTrue(keepalive.ping(10.0, 10.0, b"one"))
        self.assertEqual((keepalive.pong(b"one"), keepalive.pong(b"one")), (True, False))
        self.assertEqual(keepalive.due(20.0, took_nothing), Due.PING)

        self.assertTrue(keepalive.ping(20.0, 10.0, b"two"))
        keepalive.pong(b"one")
        self.assertEqual(keepalive.due(30.0, took_nothing), Due.PONG_TIMEOUT)

    def test_pong_timeout(self) -> None:
        """A ping without its pong times out after one interval; an unsolicited pong does not count."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        keepalive.ping(10.0, 10.0, b"one")
        keepalive.pong(b"unsolicited")

        self.assertEqual(
            (keepalive.due(19.9, took_nothing), keepalive.due(20.0, took_nothing)), (Due.NOTHING, Due.PONG_TIMEOUT)
        )

    def test_pong_timeout_within_frame(self) -> None:
        """A peer within a frame cannot send a pong; it does not time out while bytes come."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        keepalive.ping(10.0, 10.0, b"one")
        keepalive.progress = True
        self.assertEqual(keepalive.due(20.0, took_nothing, within_frame=True), Due.PING)
        self.assertFalse(keepalive.ping(20.0, 10.0, b"two"))

        self.assertEqual(keepalive.due(30.0, took_nothing, within_frame=True), Due.PONG_TIMEOUT)

    def test_pong_timeout_progress(self) -> None:
        """A peer that takes waiting bytes is slow, not dead: no pong timeout until it stops."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        keepalive.ping(10.0, 10.0, b"one")
        self.assertEqual(keepalive.due(20.0, lambda: True), Due.PING)
        self.assertFalse(keepalive.ping(20.0, 10.0, b"two"))

        self.assertEqual(keepalive.due(30.0, took_nothing), Due.PONG_TIMEOUT)

    def test_progress_per_interval(self) -> None:
        """Progress is asked for once per interval, also while pongs come: it is compared with the last time."""
        keepalive, asked = KeepAlive(0.0, 10.0, 1.0), []
        for now in (5.0, 10.0):
            keepalive.due(now, lambda: asked.append(now) or False)  # noqa: B023
        keepalive.due(20.0, lambda: asked.append(20.0) or False, held=True)

        self.assertEqual(asked, [10.0])

    def test_close_time(self) -> None:
        """A close of a slow peer has twice its time between two signs of progress, and ten times in all."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        self.assertEqual(keepalive.more_time(0.0, 3.0, lambda: True), 0)
        self.assertEqual([keepalive.begin_close(100.0, 3.0, is_slow=is_slow) for is_slow in (True, False)], [6, 3])
        more = [keepalive.more_time(now, 3.0, lambda: True) for now in (103.0, 127.0, 130.0)]
        self.assertEqual((more, keepalive.more_time(103.0, 3.0, took_nothing)), ([6, 3, 0], 0))

    def test_alive_without_pongs(self) -> None:
        """Where there are no pongs, a peer that takes written bytes is alive."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        keepalive.ping(10.0, 10.0, b"one")
        keepalive.alive()

        self.assertEqual(keepalive.due(20.0, took_nothing), Due.PING)

    def test_ping_off(self) -> None:
        """Without an interval nothing is due."""
        keepalive = KeepAlive(0.0, 0.0, 1.0)
        self.assertEqual((keepalive.deadline, keepalive.due(1e9, took_nothing)), (math.inf, Due.NOTHING))

    def test_grant_expiry(self) -> None:
        """The grant's expiry comes first, also for a held peer."""
        keepalive = KeepAlive(0.0, 10.0, 1.0, expires=5.0)
        self.assertEqual(keepalive.deadline, 5.0)
        self.assertEqual(
            (keepalive.due(5.0, took_nothing), keepalive.due(5.0, took_nothing, held=True)), (Due.EXPIRED, Due.EXPIRED)
        )

    def test_message_timeout(self) -> None:
        """A message has its own deadline."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        keepalive.message_by = 3.0
        self.assertEqual(keepalive.deadline, 3.0)

        self.assertEqual(
            (keepalive.due(2.9, took_nothing), keepalive.due(3.0, took_nothing)), (Due.NOTHING, Due.MESSAGE_TIMEOUT)
        )

    def test_deadlines_while_held(self) -> None:
        """Deadlines of the peer move by the time for which it was held."""
        keepalive = KeepAlive(0.0, 10.0, 1.0)
        keepalive.ping(10.0, 10.0, b"one")
        keepalive.message_by = 12.0
        self.assertEqual(keepalive.due(60.0, took_nothing, held=True), Due.NOTHING)
        keepalive.read_again(50.0)

        self.assertEqual((keepalive.message_by, keepalive.deadline), (62.0, 62.0))
        self.assertEqual(
            (keepalive.due(61.0, took_nothing), keepalive.due(62.0, took_nothing)), (Due.NOTHING, Due.MESSAGE_TIMEOUT)
        )
