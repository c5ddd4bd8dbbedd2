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


class Recording(Phase):
    """A phase that records its end."""

    def __init__(self) -> None:
        self.reasons: list[Failure] = []

    def lost(self, reason: Failure) -> None:
        self.reasons.append(reason)


class PhaseTests(SynchronousTestCase):
    """The base class of phases."""

    def test_phase_discards(self) -> None:
        """The base class takes every call, and discards the input."""
        phase = Phase()
        for name, method in inspect.getmembers(phase, inspect.ismethod):
            if not name.startswith("_"):
                self.assertFalse(method(**dict.fromkeys(inspect.signature(method).parameters)), name)

        self.assertEqual((phase.incoming_bytes, phase.leaves_without_close), (0, False))

    def test_phase_lost(self) -> None:
        """A phase without input is told of the end of TCP."""
        before = Recording()
        Ended(before).lost(connectionDone)

        self.assertEqual(before.reasons, [connectionDone])

    def test_phase_slots(self) -> None:
        """No phase has a dictionary: each connection has one."""
        for phase in (Phase, Ended, Opening, PlainHTTP, OpenWebSocket, EventStream):
            self.assertEqual([each for each in phase.__mro__[:-1] if "__slots__" not in vars(each)], [], phase)
