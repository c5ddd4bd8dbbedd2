"""Tests of wsrelay.signals; tests/faults/test_life_cycle.py has real processes."""

import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.signals import Signals


class SignalsTests(SynchronousTestCase):
    """Signals before and after the start."""

    def setUp(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.raised: list[int] = []
        self.handled: list[signal.Signals] = []
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.patch(signal, "raise_signal", self.raised.append)
        self.signals = Signals()
        self.signals.take(signal.SIGHUP, signal.SIGTERM, signal.SIGINT)

    def signal(self, *numbers: signal.Signals) -> None:
        """Receive signals."""
        for number in numbers:
            self.handlers[number](number, None)

    def test_kept_until_delivered(self) -> None:
        """Signals before the start are handled once each when it is done; later ones at once, each time."""
        self.signal(signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)
        self.assertEqual(self.handled, [])
        self.signals.deliver(self.handled.append)
        self.assertEqual(self.handled, [signal.SIGHUP, signal.SIGTERM])
        self.signal(signal.SIGTERM, signal.SIGTERM)
        self.assertEqual(self.handled[2:], [signal.SIGTERM, signal.SIGTERM])
        self.assertEqual(self.raised, [])

    def test_second_stop_ends_a_hanging_start(self) -> None:
        """A second stop signal before the start is done ends the process by its default, whichever came first."""
        self.signal(signal.SIGTERM, signal.SIGHUP)
        self.assertEqual(self.raised, [])
        self.signal(signal.SIGINT)
        self.assertEqual((self.raised, self.handlers[signal.SIGINT]), ([signal.SIGINT], signal.SIG_DFL))
