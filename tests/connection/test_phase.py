"""Tests of wsrelay.connection.phase."""

import inspect

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.connection.event_stream import EventStream
from wsrelay.connection.opening import Opening
from wsrelay.connection.phase import Ended, Phase
from wsrelay.connection.plain_http import PlainHTTP
from wsrelay.connection.websocket import OpenWebSocket


class Noting(Phase):
    """A phase that notes its end."""

    def __init__(self) -> None:
        self.reasons: list[Failure] = []

    def lost(self, reason: Failure) -> None:
        self.reasons.append(reason)


class PhaseTests(SynchronousTestCase):
    """What phases have in common."""

    def test_discards(self) -> None:
        """The phase itself takes every call, and does and keeps nothing."""
        phase = Phase()
        for name, method in inspect.getmembers(phase, inspect.ismethod):
            if not name.startswith("_"):
                self.assertIsNone(method(**dict.fromkeys(inspect.signature(method).parameters)), name)

        self.assertEqual((phase.incoming_bytes, phase.leaves_without_close), (0, False))

    def test_ended(self) -> None:
        """The phase that has ended is told when TCP ends."""
        before = Noting()
        Ended(before).lost(connectionDone)

        self.assertEqual(before.reasons, [connectionDone])

    def test_slots(self) -> None:
        """No phase has a dictionary: there is one of them for each connection."""
        for phase in (Phase, Ended, Opening, PlainHTTP, OpenWebSocket, EventStream):
            self.assertEqual([each for each in phase.__mro__[:-1] if "__slots__" not in vars(each)], [], phase)
