"""Tests of wsrelay.connection.flow alone. On connections: tests/connection/test_websocket.py."""

import math

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.connection.flow import Flow
from wsrelay.interfaces import Hold
from wsrelay.limits.rates import Rates
from wsrelay.settings import Settings


class FlowTests(SynchronousTestCase):
    """Holding and releasing."""

    def setUp(self) -> None:
        self.flow = Flow(Rates(Settings()), 0.0)

    def test_flow_hold_and_release(self) -> None:
        """The first reason pauses reading; the release of the last one allows it."""
        self.assertEqual([self.flow.hold(why, 1.0) for why in (Hold.RATE, Hold.ROOM, Hold.RATE)], [True, False, False])
        self.assertEqual(
            [self.flow.release(why) for why in (Hold.RESUMING, Hold.RATE, Hold.ROOM)], [False, False, True]
        )

        self.assertEqual(self.flow.held, Hold.RESUMING)

    def test_flow_resume(self) -> None:
        """A peer counts as held until it is read again; then the length of the pause is returned."""
        self.flow.hold(Hold.ROOM, 10.0)
        self.flow.hold(Hold.RATE, 12.0)
        self.flow.release(Hold.ROOM | Hold.RATE)

        self.assertEqual(self.flow.resume(15.0), 5.0)
        self.assertEqual((self.flow.held, self.flow.held_since), (0, math.inf))

    def test_flow_hold_while_resuming(self) -> None:
        """A new reason before reading resumes keeps the peer held."""
        self.flow.hold(Hold.ROOM, 10.0)
        self.flow.release(Hold.ROOM)
        self.assertFalse(self.flow.hold(Hold.RATE, 11.0))

        self.assertIsNone(self.flow.resume(12.0))
        self.assertEqual((self.flow.held, self.flow.held_since), (Hold.RATE, 10.0))

    def test_hold_bits(self) -> None:
        """The bits of the reasons do not overlap."""
        self.assertEqual(sum(Hold), Hold.RATE | Hold.ROOM | Hold.RESUMING | Hold.BACKPLANE)
